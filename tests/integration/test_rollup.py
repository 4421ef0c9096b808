"""Counts from the roll-up are those of the lines, whatever the range cuts."""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.engine import EngineProcess
from tests.support.table import Table

from logstream.query import rollup
from logstream.query.filter import LogFilter, select
from logstream.record import Batch, Record

pytestmark = pytest.mark.engine

MINUTE = 60 * 10**9
BORDERS = (-3 * MINUTE, -1, 0, 1, MINUTE - 1, MINUTE, 2 * MINUTE, 29 * MINUTE)


def _records() -> list[Record]:
    random = Random(7)
    times = [at + shift for at in BORDERS for shift in (-1, 0, 1)] + [
        random.randint(-5, 40) * 7 * 10**9 for _ in range(80)
    ]
    services, levels = ("a", "b", ""), (1, 3, 5)
    return [Record(at, random.choice(services), random.choice(levels), "x", {}, "", "") for at in times]


RECORDS = _records()


@pytest.fixture(scope="module", params=["fresh", "merged"])
def table(request: pytest.FixtureRequest, engine: EngineProcess) -> Iterator[Table]:
    table = Table(engine.url, f"rollup-{request.param}", RECORDS, merged=request.param == "merged")
    yield table
    table.close()


_ENDS = st.one_of(st.none(), st.sampled_from(BORDERS), st.integers(-4 * MINUTE, 30 * MINUTE))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=_ENDS,
    end=_ENDS,
    query=st.sampled_from(["", "service:a", "level>=info -service:b", "(service:a OR level:error)", "service:*"]),
)
def test_counts_are_those_of_the_lines(table: Table, start: int | None, end: int | None, query: str) -> None:
    logs = LogFilter.of(query=query, start=start, end=end)
    counts = rollup.source(table.name, logs)
    if counts is None:
        assert start is not None
        assert end is not None
        assert end - start < 2 * MINUTE
        return
    rows = table.query(
        f"SELECT minute, service, toInt8(level), sum(lines) FROM {counts.sql} GROUP BY ALL", dict(counts.parameters)
    )
    batch = Batch.of(RECORDS)
    wanted = Counter(
        (RECORDS[i].timestamp // MINUTE * MINUTE, RECORDS[i].service, int(RECORDS[i].level))
        for i in select(logs, batch)
    )
    assert {(minute, service, level): lines for minute, service, level, lines in rows} == wanted


def test_the_roll_up_is_read_in_place_of_lines(table: Table) -> None:
    counts = rollup.source(table.name, LogFilter.of(query="service:a", start=1, end=10 * MINUTE))
    assert counts is not None
    plan = table.query(f"EXPLAIN projections = 1 SELECT sum(lines) FROM {counts.sql}", dict(counts.parameters))
    assert any("minute_times" in str(line) for line in plan), plan


@pytest.mark.parametrize("query", ["word", "key:value", "trace_id:x", "level:info message:x", "NOT word"])
def test_what_the_roll_up_does_not_know_is_counted_from_lines(query: str) -> None:
    assert rollup.source("t", LogFilter.of(query=query, start=0, end=10 * MINUTE)) is None
