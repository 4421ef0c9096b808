"""Parts known to lie within a range are counted without looking at times, and every count stays right."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from tests.support.engine import EngineProcess

from logstream.clock import ManualClock
from logstream.query import parts
from logstream.query.filter import LogFilter, matches
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
    await store._command(f"SYSTEM STOP MERGES {TABLE}")
    for number, records in enumerate(RECORDS):
        await _insert(store, number, records)
    yield store
    await store._command(f"DROP DATABASE {STREAM.database} SYNC")
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
    await store._command(f"SYSTEM START MERGES {TABLE}")
    await store._command(f"OPTIMIZE TABLE {TABLE} FINAL")
    # The names are those of parts that are gone.
    assert await _count(store, logs, names) == _wanted(logs, records + late)


async def test_it_looks_again_by_itself_and_forgets_parts_that_are_gone(store: Store) -> None:
    clock = ManualClock()
    times = PartTimes(store, clock, min_rows=1)
    everything = Period(-(10**18), 10**18)
    assert times.within(STREAM, everything) == ()
    await _until(lambda: len(times.within(STREAM, everything)) == len(RECORDS))
    await store._command(f"SYSTEM START MERGES {TABLE}")
    await store._command(f"OPTIMIZE TABLE {TABLE} FINAL")
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
