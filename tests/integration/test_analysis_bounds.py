"""What analysis says where there is more than it counts. The bounds are made small; the engine is the real one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query import discover, facets, values
from logstream.query.patterns import counted
from logstream.query.time import format_time
from logstream.record import Record

pytestmark = pytest.mark.engine

BASE = 1_700_000_040 * 10**9
RANGE = {"start_time": format_time(BASE), "end_time": format_time(BASE + 10**12)}
LETTERS = str.maketrans("0123456789", "abcdefghij")


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        yield running


async def ask(api: Api, path: str, **params: Any) -> Any:
    answer = await api.get(f"/api/v1/{path}", **{**RANGE, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


def many(count: int = 1_000) -> list[Record]:
    """Lines of which every fifth says "hot", each of the others a name of its own; no two shapes are the same."""
    return [
        Record(
            BASE + i * 10**6, "s", 3, f"the {str(i).translate(LETTERS)} one",
            {"id": "hot" if i % 5 == 0 else f"cold-{i}", f"key-{i}": "x", "even": str(i % 2)},
        )
        for i in range(count)
    ]  # fmt: skip


async def test_of_too_many_values_the_frequent_ones_are_counted_exactly(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(values, "EXACT_VALUES", 50)
    await api.store_all(many())
    [ids, even] = (await ask(api, "facets", fields="id,even", limit=1))["facets"]
    assert (ids["distinct"], ids["missing"], ids["approximate"]) == (801, 0, True)
    assert ids["values"] == [{"value": "hot", "count": 200}]
    assert (even["approximate"], even["values"]) == (False, [{"value": "0", "count": 500}])
    histogram = await ask(api, "histogram", by="id", step="1h")
    assert histogram["approximate"]
    assert (histogram["series"][0], len(histogram["series"])) == ("hot", 20)
    [bucket] = histogram["buckets"]
    assert bucket["values"] == {"hot": 200} | dict.fromkeys(histogram["series"][1:], 1)
    assert (bucket["count"], bucket["other"]) == (1_000, 781)


async def test_long_values_are_cut(api: Api):
    long = ["ü" * 256 + end for end in ("a", "b")]
    await api.store_all([Record(BASE, "s", 3, "m", {"k": value}) for value in long])
    [facet] = (await ask(api, "facets", fields="k"))["facets"]
    assert facet["values"] == [{"value": "ü" * 256, "count": 2}]
    [bucket] = (await ask(api, "histogram", by="k", step="1h"))["buckets"]
    assert bucket["values"] == {"ü" * 256: 2}
    assert (await ask(api, "fields"))["fields"][-1]["examples"] == ["ü" * 256]


async def test_keys_that_hardly_any_line_has_are_no_facets(api: Api):
    await api.store_all(many())
    assert [f["field"] for f in (await ask(api, "facets"))["facets"]] == ["service", "level", "even"]


async def test_facets_are_chosen_by_the_newest_lines(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facets, "SAMPLED_LINES", 50)
    old = [Record(BASE + i, "a", 3, "m", {"old": "1", "both": "1"}) for i in range(100)]
    new = [Record(BASE + 10**9 + i, "b", 3, "m", {"new": "1", "both": "2"}) for i in range(60)]
    await api.store_all(new + old)
    found = (await ask(api, "facets"))["facets"]
    assert [(f["field"], f["missing"]) for f in found][2:] == [("both", 0), ("new", 100)]


async def test_fields_are_those_of_the_newest_lines(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "SAMPLED_LINES", 100)
    await api.store_all([Record(BASE + i, "s", 3, "m", {"old" if i < 100 else "new": str(i)}) for i in range(200)])
    answer = await ask(api, "fields")
    assert (answer["lines"], answer["sampled"]) == (100, True)
    assert {f["name"]: f["count"] for f in answer["fields"]} == {
        "timestamp": 100, "service": 100, "level": 100, "message": 100, "new": 100,
    }  # fmt: skip
    answer = await ask(api, "fields", end_time=format_time(BASE + 99))
    assert (answer["lines"], answer["sampled"], answer["fields"][-1]["name"]) == (100, False, "old")


async def test_lines_of_one_instant_are_sampled_too(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "SAMPLED_LINES", 100)
    await api.store_all([Record(BASE, "s", 3, "m", {"k": "v"}) for _ in range(300)])
    answer = await ask(api, "fields")
    assert (answer["lines"], answer["sampled"], answer["fields"][-1]["count"]) == (100, True, 100)


async def test_more_names_than_are_listed_are_said_to_be_there(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "MAX_NAMES", 3)
    await api.store_all(many())
    answer = await ask(api, "fields")
    assert answer["truncated"]
    assert [f["name"] for f in answer["fields"]][4:] == ["even", "id", "key-0"]


async def test_lines_of_too_many_shapes_are_the_rest(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counted, "MAX_SHAPES", 3)
    common = [Record(BASE + i, "s", 3, f"again {i}") for i in range(7)]
    await api.store_all(many() + common)
    answer = await ask(api, "patterns")
    assert (answer["total"], answer["rest"]) == (1_007, 998)
    assert answer["patterns"][0]["template"] == "again <*>"
    assert sum(pattern["count"] for pattern in answer["patterns"]) + answer["rest"] == answer["total"]


async def test_long_and_broken_messages_have_patterns(api: Api):
    texts = ["", "\0", "x" * 5_000, "word " * 1_000, "a\nb\nc", "🙂" * 2_000, "\\", '"', "'; DROP TABLE logs; --"]
    await api.store_all([Record(BASE + i, "s", 3, text) for i, text in enumerate(texts)])
    answer = await ask(api, "patterns")
    assert answer["total"] == len(texts) == sum(pattern["count"] for pattern in answer["patterns"])
    assert all(len(text) <= 1_024 for pattern in answer["patterns"] for text in pattern["examples"])
    for pattern in answer["patterns"]:
        found = await ask(api, "histogram", by="", query=pattern["query"])
        assert found["total"] >= pattern["count"], pattern["template"]
