"""Search in pages and the context of a line, over HTTP against everything real."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.query.page import Snapshot, decode
from logstream.query.place import Place, encode_id
from logstream.query.search import SearchReader
from logstream.query.time import format_time
from logstream.record import Record
from logstream.stream import make_stream

pytestmark = pytest.mark.engine

SECOND = 10**9
BASE = 1_700_000_040 * SECOND
START = BASE - 10**6 * SECOND
FROM = format_time(START)
ASKED = LogFilter(start=START)


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        yield running


async def pages(api: Api, limit: int, **parameters: Any) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    while True:
        answer = await api.get("/api/v1/search", limit=limit, **parameters, **({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["logs"])
        cursor = answer.json()["next"]
        if cursor is None:
            return found


def order(records: list[Record]) -> list[str]:
    """Messages newest first; `records` as they arrived."""
    placed = sorted(((r.timestamp, i, r.message) for i, r in enumerate(records)), reverse=True)
    return [message for _, _, message in placed]


async def test_pages_are_the_whole_search_in_order(api: Api):
    records = [Record(BASE + i // 7 * SECOND * 600, "web", 3, f"line {i}", {"n": str(i)}) for i in range(100)]
    await api.store_all(records[:60])
    await api.store_all(records[60:])
    whole = (await api.get("/api/v1/search", start_time=FROM, limit=1000)).json()
    assert whole["next"] is None
    assert [line["message"] for line in whole["logs"]] == order(records)
    assert [line for page in await pages(api, 9, start_time=FROM) for line in page] == whole["logs"]
    assert whole["logs"][0].keys() == {"timestamp", "service", "level", "message", "metadata", "id"}
    plain = (await api.get("/logs", start_time=FROM, limit=1000)).json()
    assert [{k: v for k, v in line.items() if k != "id"} for line in whole["logs"]] == plain


async def test_a_page_that_is_just_full_is_the_last(api: Api):
    await api.store_all([Record(BASE + i, "web", 3, str(i)) for i in range(6)])
    assert [len(page) for page in await pages(api, 3, start_time=FROM)] == [3, 3]
    assert [len(page) for page in await pages(api, 3, start_time=FROM, query="message:nothing")] == [0]


ARRIVALS = st.lists(st.lists(st.integers(-4, 4), min_size=1, max_size=6), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=ARRIVALS, between=ARRIVALS, limit=st.integers(1, 7), wide=st.booleans())
def test_lines_that_arrive_between_pages_neither_hide_nor_repeat_others(
    world: "World", before: list[list[int]], between: list[list[int]], limit: int, wide: bool
):
    world.run(before, between, limit, 400 * SECOND if wide else 1)


class World:
    """An API that lives as long as a test's examples; each has a service of its own."""

    def __init__(self, path: Path, url: str) -> None:
        self.runner = asyncio.Runner()
        self.context = running_api(path, url)
        self.api = self.runner.run(self.context.__aenter__())
        self.example = 0

    def close(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))
        self.runner.close()

    def run(self, before: list[list[int]], between: list[list[int]], limit: int, step: int) -> None:
        self.example += 1
        self.runner.run(self._check(f"s{self.example}", before, between, limit, step))

    async def _check(
        self, service: str, before: list[list[int]], between: list[list[int]], limit: int, step: int
    ) -> None:
        number = 0

        def records(times: list[int]) -> list[Record]:
            nonlocal number
            made = [Record(BASE + t * step, service, 3, str(number + i)) for i, t in enumerate(times)]
            number += len(made)
            return made

        stored: list[Record] = []
        for times in before:
            await self.api.send(made := records(times))
            stored += made
        await self.api.stored()
        arrivals = list(between)
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.api.get(
                "/api/v1/search", query=f"service:{service}", start_time=FROM, limit=limit, **cursor
            )
            assert answer.status_code == 200, answer.text
            found += [line["message"] for line in answer.json()["logs"]]
            if answer.json()["next"] is None:
                break
            cursor = {"cursor": answer.json()["next"]}
            if arrivals:
                await self.api.store_all(records(arrivals.pop()))
        assert found == order(stored)


@pytest.fixture(scope="module")
def world(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("search"), engine.url)
    yield made
    made.close()


async def test_a_cursor_keeps_the_range_of_time_that_now_would_move(api: Api):
    reader = SearchReader(api.store, api.bus, QueryLimits())
    await api.store_all([Record(BASE + i * SECOND, "web", 3, str(i)) for i in range(5)])
    asked = LogFilter()
    first = await reader.search(api.stream, asked, limit=2, now_ns=BASE, start=BASE + SECOND)
    assert first.next is not None
    cursor = decode(first.next.encode(), api.stream, asked)
    second = await reader.search(
        api.stream, asked, limit=5, now_ns=BASE + 3600 * SECOND, start=BASE + 4 * SECOND, cursor=cursor
    )
    assert [line.record.message for page in (first, second) for line in page.lines] == ["4", "3", "2", "1"]


async def test_cursors_that_are_none_are_refused_by_name(api: Api):
    await api.store_all([Record(BASE + i, "web", 3, str(i)) for i in range(3)])
    cursor = (await api.get("/api/v1/search", start_time=FROM, limit=1)).json()["next"]
    tail = "AQAAAAAAAAAAAAEAAAAAAAAAAAAAAAA"
    for wrong in ("x", "é", "A" * 300, cursor[:-1], cursor[:-2] + "AA", "B" + cursor[1:], cursor + "=", tail):
        answer = await api.get("/api/v1/search", start_time=FROM, limit=1, cursor=wrong)
        assert answer.status_code == 400, wrong
        assert answer.json()["error"]["field"] == "cursor"
    for other in ({"query": "level:error"}, {"service": "web"}, {"end_time": FROM}):
        answer = await api.get("/api/v1/search", limit=1, cursor=cursor, **{"start_time": FROM} | other)
        assert answer.status_code == 400
        assert "another search" in answer.json()["error"]["message"]
    foreign = replace(decode(cursor, api.stream, ASKED), stream=b"\0\0\0\0").encode()
    answer = await api.get("/api/v1/search", start_time=FROM, limit=1, cursor=foreign)
    assert answer.status_code == 400
    assert "another stream" in answer.json()["error"]["message"]


async def test_a_forged_cursor_with_a_good_checksum_shows_a_page_or_is_refused(api: Api):
    await api.store_all([Record(BASE + i, "web", 3, str(i)) for i in range(3)])
    cursor = (await api.get("/api/v1/search", start_time=FROM, limit=1)).json()["next"]
    good = decode(cursor, api.stream, ASKED)
    for forged in (
        replace(good, after=Place(2**63 - 1, 65535, 2**64 - 1, 2**32 - 1, 2**32 - 1)),
        replace(good, after=good.after._replace(timestamp=-(2**63))),
        replace(good, start=-(2**63)),
        replace(good, start=2**63 - 1),
        replace(good, snapshot=Snapshot(0, ())),
        replace(good, snapshot=Snapshot(1, (2**64 - 1,) * 900)),
    ):
        answer = await api.get("/api/v1/search", start_time=FROM, limit=1, cursor=forged.encode())
        assert answer.status_code in {200, 400}, answer.text


async def test_lines_of_an_earlier_log_are_there_and_those_of_a_later_one_are_not(api: Api):
    await api.store_all([Record(BASE + i, "web", 3, str(i)) for i in range(4)])
    table = f"{api.stream.database}.logs"
    await api.store.command(
        f"INSERT INTO {table} (timestamp, service, message, received_at, incarnation, offset)"
        f" SELECT fromUnixTimestamp64Nano({BASE}, 'UTC'), 'web', 'earlier', now64(9), 7, 1000"
    )
    found = [line["message"] for page in await pages(api, 1, start_time=FROM) for line in page]
    assert found == ["3", "2", "1", "earlier", "0"]


# Context


async def around(api: Api, message: str, **parameters: Any) -> tuple[list[str], str, list[str]]:
    found = (await api.get("/api/v1/search", start_time=FROM, query=f'message="{message}"')).json()["logs"]
    answer = await api.get("/api/v1/context", id=found[0]["id"], **parameters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["line"] == found[0]
    return [x["message"] for x in body["before"]], body["line"]["message"], [x["message"] for x in body["after"]]


async def test_lines_around_a_line_are_of_its_service(api: Api):
    await api.store_all([Record(BASE + i // 3, ("web", "db")[i % 2], 3, f"line {i}") for i in range(20)])
    assert await around(api, "line 9", before=2, after=3) == (
        ["line 5", "line 7"], "line 9", ["line 11", "line 13", "line 15"]
    )  # fmt: skip
    assert await around(api, "line 9", before=0, after=0) == ([], "line 9", [])
    assert await around(api, "line 1") == ([], "line 1", [f"line {i}" for i in range(3, 20, 2)])
    assert await around(api, "line 9", before=2, after=2, by="") == (
        ["line 7", "line 8"], "line 9", ["line 10", "line 11"]
    )  # fmt: skip


async def test_lines_around_a_line_may_be_far_away(api: Api):
    gaps = (0, 1, 400, 4_000, 30_000, 100_000, 500_000, 700_000)
    await api.store_all([Record(BASE + sign * s * SECOND, "web", 3, f"{sign * s}") for s in gaps for sign in (1, -1)])
    before, _, after = await around(api, "0", before=10, after=10)
    # Both lines at 0 are there; whichever was found, the other is on one side. A week is 604,800 s.
    far = [int(text) for text in (*before, *after)]
    assert sorted(far) == sorted([*(s * sign for s in gaps[1:-1] for sign in (1, -1)), 0])
    assert far == sorted(far)


async def test_lines_around_a_line_have_the_values_that_are_asked_for(api: Api):
    await api.store_all([
        Record(BASE + i, "web", 1 + i % 3, f"line {i}", {"host": f"h{i % 2}"} if i % 5 else {}, trace_id=f"t{i % 4}")
        for i in range(30)
    ])  # fmt: skip
    assert await around(api, "line 11", before=1, after=1, by="host") == (["line 9"], "line 11", ["line 13"])
    assert await around(api, "line 10", before=1, after=1, by="host") == (["line 5"], "line 10", ["line 15"])
    assert await around(api, "line 12", before=1, after=1, by="level,trace_id") == (["line 0"], "line 12", ["line 24"])


async def test_ids_that_are_none_are_refused_by_name(api: Api):
    await api.store_all([Record(BASE, "web", 3, "one")])
    ((line,),) = await pages(api, 1, start_time=FROM)
    absent = encode_id(Place(BASE, 0, 99, 0, 1), api.stream)
    foreign = encode_id(Place(BASE, 0, 0, 0, 1), make_stream("another"))
    for wrong, status in (("x", 400), ("é", 400), (line["id"][:-1], 400), (foreign, 400), (absent, 404)):
        answer = await api.get("/api/v1/context", id=wrong)
        assert (answer.status_code, answer.json()["error"]["field"]) == (status, "id"), wrong
    for wrong in (
        {"before": 501}, {"after": -1}, {"by": ",".join(f"f{i}" for i in range(11))}, {"by": "x" * 300},
    ):  # fmt: skip
        answer = await api.get("/api/v1/context", id=line["id"], **wrong)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, next(iter(wrong)))
