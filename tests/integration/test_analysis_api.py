"""Histogram, facets, fields and patterns, over HTTP against everything real."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query.histogram import MAX_BUCKETS
from logstream.query.time import MAX_NS, MIN_NS, format_time
from logstream.record import LEVEL_LABELS, Level, Record
from logstream.settings import ApiSettings

pytestmark = pytest.mark.engine

SECOND = 10**9
MINUTE = 60 * SECOND
BASE = 1_700_000_040 * SECOND  # 2023-11-14T22:14:00Z
HOSTILE = "a\"b'c`d\\e\0f{x:String}--\n%_é"
OLD = [Record(at, "old", Level.INFO, "before 1970") for at in (MIN_NS, -MINUTE, -1, 0, MAX_NS)]


def _metadata(i: int) -> dict[str, str]:
    found = {
        "unique": f"id-{i}", "route": f"/r{i % 4}", "latency_ms": str(i * 7), "took": f"{i}ms",
        "cached": "true" if i % 2 else "false", "shard": f"s{i % 25:02d}",
    }  # fmt: skip
    if i % 10 == 0:
        found[HOSTILE] = f"v{i % 20}"
    if i < 3:
        found["empty"] = ""
    if i == 7:
        found["service"] = "shadow"
    return found


def _message(i: int) -> str:
    return f"request {i} took {i * 7} ms" if i % 5 else f"user u{i} logged in from 10.0.0.{i}"


LINES = [
    Record(
        BASE + i * SECOND,
        ("payment", "checkout", "auth")[i % 3],
        (Level.INFO, Level.INFO, Level.WARN, Level.ERROR)[i % 4],
        _message(i),
        _metadata(i),
        "" if i % 2 else f"{i:032x}",
    )
    for i in range(300)
]
RANGE = {"start_time": format_time(BASE), "end_time": format_time(BASE + 5 * MINUTE - 1)}
EMPTY = {"start_time": "2001-01-01", "end_time": "2001-01-02"}
PATHS = ("histogram", "facets", "fields", "patterns")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


class Asking:
    """The API with LINES and OLD, asked about the five minutes of LINES unless said otherwise."""

    def __init__(self, api: Api, runner: asyncio.Runner) -> None:
        self._api = api
        self._runner = runner

    def __call__(self, path: str, **params: Any) -> Any:
        answer = self._runner.run(self._api.get(f"/api/v1/{path}", **{**RANGE, **params}))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, **params: Any) -> Any:
        answer = self._runner.run(self._api.get(f"/api/v1/{path}", **params))
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]


@pytest.fixture(scope="module")
def ask(engine: EngineProcess, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    stack = AsyncExitStack()

    async def start(path: Path) -> Api:
        api = await stack.enter_async_context(running_api(path, engine.url))
        await api.store_all(LINES + OLD)
        return api

    yield Asking(runner.run(start(tmp_path_factory.mktemp("analysis"))), runner)
    runner.run(stack.aclose())


# Histogram


def test_a_histogram_counts_levels_in_buckets_of_a_round_width(ask: Asking):
    answer = ask("histogram")
    assert (answer["step_seconds"], answer["by"], answer["total"]) == (5, "level", 300)
    assert (answer["start_time"], answer["end_time"]) == (RANGE["start_time"], RANGE["end_time"])
    assert answer["series"] == ["info", "error", "warn"]
    wanted = [Counter(LEVEL_LABELS[r.level - 1] for r in LINES[i : i + 5]) for i in range(0, 300, 5)]
    assert [b["timestamp"] for b in answer["buckets"]] == [format_time(BASE + i * 5 * SECOND) for i in range(60)]
    assert [b["values"] for b in answer["buckets"]] == wanted
    assert {b["count"] for b in answer["buckets"]} == {5}


def test_buckets_are_aligned_and_empty_ones_are_there(ask: Asking):
    start, end = BASE - 90 * SECOND, BASE + 10 * MINUTE
    answer = ask("histogram", step="2m", start_time=format_time(start), end_time=format_time(end))
    assert [(b["timestamp"][11:16], b["count"]) for b in answer["buckets"]] == [
        ("22:12", 0), ("22:14", 120), ("22:16", 120), ("22:18", 60), ("22:20", 0), ("22:22", 0), ("22:24", 0),
    ]  # fmt: skip
    assert answer["buckets"][0] == {"timestamp": "2023-11-14T22:12:00Z", "count": 0, "values": {}}


def test_a_bucket_ends_where_the_period_does(ask: Asking):
    answer = ask("histogram", step="1m", by="", end_time=format_time(BASE + 90 * SECOND))
    assert [b["count"] for b in answer["buckets"]] == [60, 31]
    assert answer["buckets"][0] == {"timestamp": RANGE["start_time"], "count": 60, "values": {}}
    assert answer["series"] == []


def test_twenty_values_have_a_series_and_the_others_are_summed(ask: Asking):
    answer = ask("histogram", by="shard", step="5m", query="latency_ms>=7")
    assert len(answer["series"]) == 20
    # s00 has one line fewer; of equals the first by name.
    assert answer["series"] == [f"s{n:02d}" for n in range(1, 21)]
    assert not answer["approximate"]
    assert sum(b.get("other", 0) for b in answer["buckets"]) == 4 * 12 + 11
    for bucket in answer["buckets"]:
        assert bucket["count"] == sum(bucket["values"].values()) + bucket.get("other", 0)
    assert answer["total"] == 299


def test_lines_without_the_field_are_missing_and_empty_values_are_not(ask: Asking):
    answer = ask("histogram", by="empty", step="1h")
    assert answer["buckets"] == [{"timestamp": "2023-11-14T22:00:00Z", "count": 300, "values": {"": 3}, "missing": 297}]
    answer = ask("histogram", by="nothing", step="1h")
    assert (answer["series"], answer["buckets"][0]["missing"]) == ([], 300)
    assert "missing" not in ask("histogram", by="service", step="1h")["buckets"][0]
    assert ask("histogram", by="trace_id", step="1h")["buckets"][0]["missing"] == 150


@pytest.mark.parametrize("name", [HOSTILE, f"metadata.{HOSTILE}"])
def test_any_name_is_a_field(ask: Asking, name: str):
    answer = ask("histogram", by=name, step="1h")
    assert answer["buckets"][0]["values"] == {"v0": 15, "v10": 15}
    assert ask("facets", fields=name)["facets"] == [
        {
            "field": HOSTILE, "distinct": 2, "missing": 270, "approximate": False,
            "values": [{"value": "v0", "count": 15}, {"value": "v10", "count": 15}],
        }
    ]  # fmt: skip


def test_times_before_1970_lie_in_the_buckets_they_should(ask: Asking):
    answer = ask("histogram", by="", step="1m", start_time="1969-12-31T23:59:00Z", end_time="1970-01-01T00:00:00Z")
    assert [(b["timestamp"], b["count"]) for b in answer["buckets"]] == [
        ("1969-12-31T23:59:00Z", 2), ("1970-01-01T00:00:00Z", 1),
    ]  # fmt: skip


def test_all_of_time_is_a_range(ask: Asking):
    answer = ask("histogram", by="service", start_time=str(MIN_NS), end_time=str(MAX_NS))
    assert answer["total"] == len(LINES) + len(OLD)
    assert answer["buckets"][0]["values"] == {"old": 1}
    assert answer["buckets"][-1]["values"] == {"old": 1}
    for path in PATHS:
        ask(path, start_time=str(MIN_NS), end_time=str(MIN_NS))
        ask(path, start_time=str(MAX_NS), end_time=str(MAX_NS))


def test_steps_that_are_none_or_too_many_are_refused(ask: Asking):
    for step in ("5", "0s", "-5m", "1us", "5 parsecs", "4000d", "9" * 33 + "s", "1e3s"):
        assert ask.refused("histogram", step=step)["field"] == "step", step
    error = ask.refused("histogram", step="1ms", **RANGE)
    assert (error["code"], error["field"], error["limit"]) == ("invalid_value", "step", MAX_BUCKETS)
    assert len(ask("histogram", step="150ms")["buckets"]) == MAX_BUCKETS
    assert ask("histogram", step="150ms")["step_seconds"] == 0.15


# Facets


def test_facets_have_the_usual_keys_unless_told(ask: Asking):
    answer = ask("facets")
    assert answer["total"] == 300
    # latency_ms, took and unique are different in every line.
    assert [facet["field"] for facet in answer["facets"]] == [
        "service", "level", "cached", "route", "shard", HOSTILE, "empty",
    ]  # fmt: skip
    assert answer["facets"][0] == {
        "field": "service", "distinct": 3, "missing": 0, "approximate": False,
        "values": [{"value": name, "count": 100} for name in ("auth", "checkout", "payment")],
    }  # fmt: skip


def test_facets_are_counted_in_the_order_asked_for_and_ties_by_value(ask: Asking):
    answer = ask("facets", fields="metadata.service, shard,level,shard,nothing,message", limit=2)
    assert [(f["field"], f["distinct"], f["missing"]) for f in answer["facets"]] == [
        ("metadata.service", 1, 299), ("shard", 25, 0), ("level", 3, 0), ("nothing", 0, 300), ("message", 300, 0),
    ]  # fmt: skip
    assert [[tuple(v.values()) for v in f["values"]] for f in answer["facets"]][:4] == [
        [("shadow", 1)], [("s00", 12), ("s01", 12)], [("info", 150), ("error", 75)], [],
    ]  # fmt: skip


def test_facets_count_what_the_filter_asks_for(ask: Asking):
    answer = ask("facets", fields="route", service="auth", level="error", query="took NOT latency_ms<700")
    wanted = Counter(
        r.metadata["route"] for i, r in enumerate(LINES)
        if r.service == "auth" and r.level == Level.ERROR and i % 5 and i >= 100
    )  # fmt: skip
    assert {v["value"]: v["count"] for v in answer["facets"][0]["values"]} == wanted
    assert answer["total"] == wanted.total() > 0


def test_names_of_facets_are_bounded(ask: Asking):
    assert ask.refused("facets", fields=",".join(f"f{i}" for i in range(21)))["limit"] == 20
    for limit in (0, 101, "x"):
        assert ask.refused("facets", limit=limit)["field"] == "limit"
    assert len(ask("facets", fields=",".join(f"f{i}" for i in range(20)), limit="")["facets"]) == 20


@pytest.mark.parametrize(("path", "parameter"), [("histogram", "by"), ("facets", "fields")])
def test_names_that_are_no_fields_are_refused(ask: Asking, path: str, parameter: str):
    for name in ("n" * 257, "timestamp"):
        assert ask.refused(path, **{parameter: name})["field"] == parameter
    assert ask(path, **{parameter: "ü" * 256})


# Fields


def test_fields_have_kinds_and_examples(ask: Asking):
    answer = ask("fields")
    assert (answer["lines"], answer["sampled"], answer["truncated"]) == (300, False, False)
    found = {f["name"]: (f["kind"], f["count"], f["distinct"]) for f in answer["fields"]}
    assert found == {
        "timestamp": ("time", 300, 300), "service": ("text", 300, 3), "level": ("text", 300, 3),
        "message": ("text", 300, 300), "trace_id": ("text", 150, 150), "cached": ("boolean", 300, 2),
        "latency_ms": ("number", 300, 300), "route": ("text", 300, 4), "shard": ("text", 300, 25),
        "took": ("duration", 300, 300), "unique": ("text", 300, 300), HOSTILE: ("text", 30, 2),
        "empty": ("text", 3, 1), "metadata.service": ("text", 1, 1),
    }  # fmt: skip
    assert list(found)[:5] == ["timestamp", "service", "level", "message", "trace_id"]
    examples = {f["name"]: f["examples"] for f in answer["fields"]}
    assert examples["route"] == ["/r0", "/r1", "/r2"]
    assert examples["timestamp"] == ["2023-11-14T22:18:59Z", "2023-11-14T22:14:00Z"]
    assert examples["empty"] == []


# Patterns


def test_patterns_are_compared_with_the_period_before(ask: Asking):
    half = format_time(BASE + 150 * SECOND)
    answer = ask("patterns", start_time=half)
    assert answer["period"] == {"start_time": half, "end_time": RANGE["end_time"]}
    assert answer["previous"] == {
        "start_time": RANGE["start_time"], "end_time": format_time(BASE + 150 * SECOND - 1),
    }  # fmt: skip
    assert (answer["total"], answer["previous_total"], answer["rest"], answer["found"]) == (150, 150, 0, 2)
    assert [
        (p["template"], p["count"], p["before"], p["change"], p["new"], p["share"]) for p in answer["patterns"]
    ] == [
        ("request <*> took <*> ms", 120, 120, 1.0, False, 0.8),
        ("user <*> logged in from <*>", 30, 30, 1.0, False, 0.2),
    ]
    for pattern in answer["patterns"]:
        assert len(pattern["examples"]) == 1
        assert ask("histogram", query=pattern["query"], start_time=half)["total"] == pattern["count"]


def test_patterns_may_be_new_or_gone(ask: Asking):
    start, end = format_time(BASE), format_time(BASE + 5 * MINUTE - 1)
    [first] = ask("patterns", start_time=start, end_time=end, limit=1)["patterns"]
    assert (first["count"], first["before"], first["change"], first["new"]) == (240, 0, None, True)
    answer = ask("patterns", start_time=format_time(BASE + 5 * MINUTE), end_time=format_time(BASE + 10 * MINUTE - 1))
    assert (answer["total"], answer["previous_total"], answer["found"]) == (0, 300, 2)
    assert [(p["count"], p["before"], p["change"], p["new"], p["share"]) for p in answer["patterns"]] == [
        (0, 240, 0.0, False, 0.0), (0, 60, 0.0, False, 0.0),
    ]  # fmt: skip


def test_before_the_beginning_of_time_is_no_period(ask: Asking):
    answer = ask("patterns", start_time=str(MIN_NS), end_time="1900-01-02")
    assert (answer["previous"], answer["previous_total"], answer["total"]) == (None, 0, 1)
    answer = ask("patterns", start_time="1900-01-02", end_time="1950-01-01")
    assert (answer["previous"]["start_time"], answer["previous_total"]) == ("1900-01-01T00:00:00Z", 1)


# All of them


def test_where_nothing_is_nothing_is_found(ask: Asking):
    histogram = ask("histogram", **EMPTY)
    assert (histogram["total"], histogram["series"], len(histogram["buckets"])) == (0, [], 49)
    facets = ask("facets", **EMPTY)
    assert (facets["total"], [f["field"] for f in facets["facets"]]) == (0, ["service", "level"])
    assert all((f["distinct"], f["missing"], f["values"]) == (0, 0, []) for f in facets["facets"])
    assert ask("fields", **EMPTY)["fields"] == []
    patterns = ask("patterns", **EMPTY)
    assert (patterns["total"], patterns["rest"], patterns["patterns"]) == (0, 0, [])


@pytest.mark.parametrize("path", PATHS)
def test_ranges_that_cannot_be_are_refused(ask: Asking, path: str):
    assert ask.refused(path, start_time="2024-01-02", end_time="2024-01-01")["field"] == "start_time"
    assert ask.refused(path, start_time="2200-01-01")["field"] == "start_time"
    assert ask.refused(path, start_time="9999-01-01")["field"] == "start_time"
    assert ask.refused(path, end_time="9999-12-31T23:59:59Z")["field"] == "end_time"
    assert ask.refused(path, query="level:loud")["code"] == "query_syntax"


@pytest.mark.parametrize("path", PATHS)
def test_without_times_it_is_the_last_hour(ask: Asking, path: str):
    answer = ask(path, start_time="", end_time="")
    found = answer.get("period", answer)
    assert found["start_time"][:10] > "2024-01-01"
    assert answer.get("total", answer.get("lines")) == 0


async def test_the_limits_of_reads_hold(tmp_path: Path, engine: EngineProcess):
    async with running_api(tmp_path, engine.url, settings=ApiSettings(max_query_days=1, max_rows_read=100)) as api:
        await api.store_all(LINES)
        for path in PATHS:
            answer = await api.get(f"/api/v1/{path}", start_time="2023-11-01", end_time="2023-11-14")
            assert (answer.status_code, answer.json()["error"]["field"]) == (400, "start_time")
            answer = await api.get(f"/api/v1/{path}", **RANGE)
            assert answer.status_code == 422, answer.text
            assert (await api.client.get(f"/api/v1/{path}")).status_code == 401
