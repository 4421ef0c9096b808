"""Parts known to lie within a range are counted without looking at times, and every count stays right."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.engine import EngineProcess

from logstream.clock import ManualClock
from logstream.query import parts, rollup
from logstream.query.analysis import Analysis, AnalysisReader
from logstream.query.filter import LogFilter, matches
from logstream.query.limits import QueryLimits
from logstream.query.parts import PartTimes
from logstream.query.period import Period
from logstream.record import Batch, Record
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.schema import MINUTE_NS
from logstream.storage.store import Store
from logstream.stream import make_stream

pytestmark = pytest.mark.engine

SECOND = 10**9
_RECEIVED = 1_790_000_000 * SECOND
# Before 1970 and across it, within one bucket of five minutes and over several.
_PARTS = (range(-900, -300, 7), range(-250, 250, 5), range(240, 260), range(1_000, 3_000, 40), (5_000, 9_000))
RECORDS = [
    [Record(at * SECOND + 17, "ab"[at % 2], 3, "red" if at % 3 else "blue", {"n": str(at % 4)}, "", "") for at in times]
    for times in _PARTS
]
STREAM = make_stream("parts")
TABLE = f"{STREAM.database}.logs"


async def _insert(store: Store, number: int, records: list[Record]) -> None:
    batch = Batch.of(records)
    sealed = block.seal(block.encode(batch), len(batch), block.Provenance(_RECEIVED, [("k", len(batch))], 1, 0, number))
    await store.insert(STREAM, sealed, rows=len(batch), token=str(number))


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(STREAM, retention_days=10_950)
    # Each INSERT stays a part of its own.
    await store.command(f"SYSTEM STOP MERGES {TABLE}")
    for number, records in enumerate(RECORDS):
        await _insert(store, number, records)
    yield store
    await store.command(f"DROP DATABASE {STREAM.database} SYNC")
    await store.close()


async def _count(store: Store, logs: LogFilter, names: tuple[str, ...]) -> dict[tuple[int, str], int]:
    counts = parts.source(TABLE, logs, names, ("minute", "service"))
    assert counts is not None
    rows = await store.query(
        f"SELECT minute, service, sum(lines) FROM {counts.sql} GROUP BY minute, service", counts.parameters
    )
    found = {(minute, service): lines for minute, service, lines in rows.rows}
    alone = parts.source(TABLE, logs, names, ())
    assert alone is not None
    total = await store.query(f"SELECT sum(lines) FROM {alone.sql}", alone.parameters)
    assert total.rows[0][0] == sum(found.values())
    return found


def _wanted(logs: LogFilter, records: list[Record]) -> Counter[tuple[int, str]]:
    return Counter((r.timestamp // MINUTE_NS * MINUTE_NS, r.service) for r in records if matches(logs, r))


async def test_the_times_of_parts_are_those_of_their_lines(store: Store) -> None:
    times = PartTimes(store, ManualClock(), min_rows=20)
    await times.look(STREAM)
    everything = Period(-(10**18), 10**18)
    assert len(times.within(STREAM, everything)) == 4, "the part of two lines is too small"
    for records in RECORDS[:4]:
        first, last = records[0].timestamp, records[-1].timestamp
        assert len(times.within(STREAM, Period(first, last))) >= 1
        exact = set(times.within(STREAM, Period(first, last)))
        assert not exact & set(times.within(STREAM, Period(first + 1, last)))
        assert not exact & set(times.within(STREAM, Period(first, last - 1)))


@pytest.mark.parametrize("query", ["", "red", "n:1", "red -n:1", "service:a blue"])
@pytest.mark.parametrize(("start", "end"), [(-900, 9_000), (-250, 260), (-249, 9_000), (0, 2_960), (1_000, 2_960)])
async def test_counts_stay_right_whatever_happens_to_the_parts(store: Store, query: str, start: int, end: int) -> None:
    logs = LogFilter.of(query=query, start=start * SECOND, end=end * SECOND + 17)
    times = PartTimes(store, ManualClock(), min_rows=1)
    await times.look(STREAM)
    assert logs.start is not None
    assert logs.end is not None
    names = times.within(STREAM, Period(logs.start, logs.end))
    assert names
    records = [record for part in RECORDS for record in part]
    assert await _count(store, logs, names) == _wanted(logs, records)
    late = [Record(at * SECOND, "b", 3, "red blue", {"n": "1"}, "", "") for at in (-10_000, start, end, 10_000)]
    await _insert(store, 99, late)
    assert await _count(store, logs, names) == _wanted(logs, records + late)
    await store.command(f"SYSTEM START MERGES {TABLE}")
    await store.command(f"OPTIMIZE TABLE {TABLE} FINAL")
    # The names are those of parts that are gone.
    assert await _count(store, logs, names) == _wanted(logs, records + late)


async def test_it_looks_again_by_itself_and_forgets_parts_that_are_gone(store: Store) -> None:
    clock = ManualClock()
    times = PartTimes(store, clock, min_rows=1)
    everything = Period(-(10**18), 10**18)
    assert times.within(STREAM, everything) == ()
    await _until(lambda: len(times.within(STREAM, everything)) == len(RECORDS))
    await store.command(f"SYSTEM START MERGES {TABLE}")
    await store.command(f"OPTIMIZE TABLE {TABLE} FINAL")
    assert len(times.within(STREAM, everything)) == len(RECORDS)
    clock.advance(parts.REFRESH_SECONDS + 1)
    await _until(lambda: len(times.within(STREAM, everything)) == 1)


async def test_where_the_store_does_not_tell_reads_go_on_without() -> None:
    clock = ManualClock()
    away = await Store.connect(StoreSettings(url="http://127.0.0.1:9"))
    times = PartTimes(away, clock)
    assert times.within(STREAM, Period(0, 1)) == ()
    await _until(lambda: not times._looking)
    assert times.within(STREAM, Period(0, 1)) == ()
    assert not times._looking, "it asks again for every read"
    clock.advance(parts.REFRESH_SECONDS + 1)
    times.within(STREAM, Period(0, 1))
    assert times._looking
    await times.close()
    await away.close()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("query", ["", "service:a", "level:info", "-service:b"])
@pytest.mark.parametrize(
    ("start", "end"),
    [(-900, 9_000), (-899, 8_999), (-895, 2_960), (-840, 2_999), (0, 120), (17, 150), (1_000, 2_960), (-7_200, 14_399)],
)
async def test_minutes_that_a_range_cuts_are_counted_by_their_lines(
    store: Store, query: str, start: int, end: int
) -> None:
    records = [record for part in RECORDS for record in part]
    for offset in (0, 17, 18):
        logs = LogFilter.of(query=query, start=start * SECOND + offset, end=end * SECOND + offset)
        rows = await rollup.counted(
            store, TABLE, logs, {"minute": "minute", "service": "service"}, bound={}, settings={}
        )
        assert rows is not None
        found: Counter[tuple[int, str]] = Counter()
        for minute, service, lines in rows:
            found[minute, service] += lines
        assert found == _wanted(logs, records)


async def test_no_line_is_asked_for_its_time_where_all_lie_in_the_range(store: Store) -> None:
    times = PartTimes(store, ManualClock(), min_rows=1)
    period = Period(-900 * SECOND, 10_000 * SECOND)
    assert times.covering(STREAM, period) is None, "nothing was looked at yet"
    await times.look(STREAM)
    names = times.covering(STREAM, period)
    assert names is not None
    assert len(names) == len(RECORDS)
    assert times.covering(STREAM, Period(-899 * SECOND, period.end)) is None, "one part begins before"
    small = PartTimes(store, ManualClock(), min_rows=3)
    await small.look(STREAM)
    assert small.covering(STREAM, period) is None, "of the smallest part no times are known"

    asked = Analysis.of("red | stats count() by service", LogFilter(start=period.start, end=period.end))
    records = [record for part in RECORDS for record in part]
    statements: list[str] = []
    query = store.query

    async def watched(sql: str, *arguments: Any, **settings: Any) -> Any:
        statements.append(sql)
        return await query(sql, *arguments, **settings)

    store.query = watched  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as executor:
        reader = AnalysisReader(store, QueryLimits(), executor, times)

        async def counts() -> dict[str, int]:
            statements.clear()
            return dict((await reader.read(STREAM, asked, limit=10, now_ns=0)).rows)

        red = Counter(record.service for record in records if record.message == "red")
        assert await counts() == red
        assert len(statements) == 2
        assert "timestamp" not in statements[0]
        # A part that came since the last look, with a line on either side of the end.
        await _insert(store, 99, [Record(at * SECOND, "b", 3, "red", {}, "", "") for at in (9_999, 10_001)])
        assert await counts() == red + Counter("b")
        assert len(statements) == 3


async def test_a_count_of_everything_in_a_minute_keeps_to_its_range(store: Store) -> None:
    times = PartTimes(store, ManualClock(), min_rows=1)
    await times.look(STREAM)
    logs = LogFilter(start=241 * SECOND, end=259 * SECOND + 17)
    assert rollup.source(TABLE, logs) is None, "no whole minute"
    with ThreadPoolExecutor(1) as executor:
        reader = AnalysisReader(store, QueryLimits(), executor, times)
        answer = await reader.read(STREAM, Analysis.of("* | stats count()", logs), limit=10, now_ns=0)
    records = [record for part in RECORDS for record in part]
    assert answer.rows[0][0] == sum(_wanted(logs, records).values())
