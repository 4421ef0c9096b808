"""Several streams in one processor: they come and go, share what there is, and keep their troubles to themselves."""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, bus_settings, processor_settings, publish, records, running

from logstream import metrics, processor
from logstream.bus.header import decode
from logstream.bus.protocol import Committed, LedgerEntry
from logstream.bus.sqlite import SqliteBus
from logstream.bus.sqlite.log import Log
from logstream.bus.sqlite.schema import OFFSET_BITS
from logstream.clock import SystemClock
from logstream.processor import Health
from logstream.processor.budget import Account, Budget
from logstream.processor.plan import Plan
from logstream.record import Batch
from logstream.settings import MIB, ProcessorSettings, StoreSettings
from logstream.storage import block
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine


async def made(store: Store, count: int) -> list[Stream]:
    streams = [make_stream("s" + uuid.uuid4().hex[:12]) for _ in range(count)]
    for stream in streams:
        await store.migrate(stream, retention_days=3650)
    return streams


@pytest.fixture
async def store(engine: EngineProcess):  # type: ignore[no-untyped-def]
    store = await Store.connect(StoreSettings(url=engine.url))
    yield store
    await store.close()


async def until(condition, seconds: float = 25.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def count(store: Store, stream: Stream) -> int:
    return int((await store.query(f"SELECT count() FROM {stream.database}.logs")).rows[0][0])


async def test_streams_come_and_go_while_it_runs(tmp_path: Path, store: Store) -> None:
    first, second = await made(store, 2)
    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())

    class Source:
        streams: Sequence[Stream] = (first,)

        def current(self) -> Sequence[Stream]:
            return self.streams

    source, stop = Source(), asyncio.Event()
    for stream in (first, second):
        await bus.create_topic(stream.topic)
        await publish(bus, stream, records(3))
    serving = asyncio.create_task(
        processor.serve(processor_settings(), bus=bus, store=store, streams=source, clock=SystemClock(), stop=stop)
    )
    try:
        await until(lambda: holds(store, first, 3))
        assert await count(store, second) == 0
        source.streams = (second,)
        await until(lambda: holds(store, second, 3))
        await asyncio.sleep(1.1)
        await publish(bus, first, records(3))
        await publish(bus, second, records(3))
        await until(lambda: holds(store, second, 6))
        assert await count(store, first) == 3
        source.streams = (first, second)
        await until(lambda: holds(store, first, 6))
    finally:
        stop.set()
        await serving
        await bus.close()


async def holds(store: Store, stream: Stream, rows: int) -> bool:
    return await count(store, stream) == rows


class SlowStore(Store):
    """The real one; INSERTs into one stream take their time, and all are noted."""

    slow: Stream
    order: list[str]

    async def insert(
        self,
        stream: Stream,
        parts: Sequence[bytes | memoryview],
        *,
        rows: int,
        token: str,
        partition: int | None = None,
    ) -> None:
        self.order.append(stream.name)
        if stream == self.slow:
            await asyncio.sleep(0.05)
        await super().insert(stream, parts, rows=rows, token=token, partition=partition)


async def test_a_noisy_stream_does_not_starve_a_quiet_one(tmp_path: Path, engine: EngineProcess, store: Store) -> None:
    """One slot, four partitions that always have something to store, and a stream with a record now and then."""
    noisy, quiet = await made(store, 2)
    slow = SlowStore(StoreSettings(url=engine.url))
    slow.slow, slow.order = noisy, []
    settings = processor_settings(insert_slots=1, max_rows=10, flush_seconds=0)
    async with running(
        tmp_path / "bus", engine.url, noisy, settings=settings, store=slow, others=[quiet], partitions=4
    ) as run:
        for i in range(120):
            await publish(run.bus, noisy, records(10, seed=i))
        for i in range(5):
            sent_at = len(slow.order)
            await publish(run.bus, quiet, records(1, seed=i))
            await until(lambda i=i: holds(store, quiet, i + 1))
            # At most the INSERT under way, the one that was next in turn, and what began until we looked.
            assert quiet.name in slow.order[sent_at : sent_at + 4]
        assert await count(store, noisy) < 1200
        await run.settled()
        assert await count(store, noisy) == 1200


async def test_memory_stays_flat_while_the_store_is_away_and_inserts_are_large_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    change = Budget.change

    def watched(self: Budget, account: Account, size: int) -> None:
        nonlocal most
        change(self, account, size)
        most = max(most, self.held)

    monkeypatch.setattr(Budget, "change", watched)
    engine = EngineProcess(tmp_path / "engine")
    await asyncio.to_thread(engine.start)
    try:
        store = await Store.connect(StoreSettings(url=engine.url))
        streams = await made(store, 2)
        await store.close()
        await asyncio.to_thread(engine.kill)
        settings = processor_settings(max_held_bytes=MIB, max_bytes=MIB)
        async with running(
            tmp_path / "bus", engine.url, streams[0], settings=settings, others=streams[1:], partitions=3
        ) as run:
            largest = 0
            for i in range(150):
                for stream in streams:
                    rows = records(500, seed=i)
                    await publish(run.bus, stream, rows)
                    largest = max(largest, len(block.encode(Batch.of(rows))) + 100)
            waiting = sum([e.in_flight for s in streams for e in await run.bus.ledger(s.topic)])
            assert waiting == 150_000
            assert most <= MIB + 6 * largest
            await asyncio.to_thread(engine.restart)
            for stream in streams:
                await until(lambda stream=stream: holds(run.store, stream, 75_000))
                answer = await run.store.query(
                    f"SELECT uniqExact({IDENTITY}), count() / uniqExact(_part) FROM {stream.database}.logs"
                )
                assert answer.rows[0][0] == 75_000
                # Several records an INSERT, although each partition has but a sixth of the memory.
                assert answer.rows[0][1] > 1000
            assert 0.3 * MIB < most <= MIB + 6 * largest
    finally:
        await asyncio.to_thread(engine.close)


# What may be on a topic


async def damage(path: Path, stream: Stream, changes: dict[int, Callable[[bytes], bytes]], *, count: int) -> None:
    """A log of `count` records of 20 rows, some of which are then changed in its file."""
    bus = await SqliteBus.open(bus_settings(path), SystemClock())
    await bus.create_topic(stream.topic)
    for i in range(count):
        await publish(bus, stream, records(20, seed=i))
    [lane] = [each.lane_id for each in bus._views[stream.topic]]
    await bus.close()
    with sqlite3.connect(path / "log.db") as sql:
        for offset, change in changes.items():
            row = lane << OFFSET_BITS | offset
            [value] = sql.execute("SELECT value FROM records WHERE id = ?", (row,)).fetchone()
            assert sql.execute("UPDATE records SET value = ? WHERE id = ?", (change(value), row)).rowcount == 1


async def committed(bus: SqliteBus, stream: Stream, offset: int) -> bool:
    return (await bus.committed(stream.topic, "processor", 0)).offset == offset


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:-3], lambda v: v[: len(v) // 2], lambda v: v[:60], lambda v: v[:10], lambda v: b"",
        lambda v: b"foreign bytes", lambda v: v + b"more",
        lambda v: b'{"level":"info"}' * 500,
    ],
    ids=["end", "half", "header only", "within the header", "nothing", "foreign", "longer", "json"],
)  # fmt: skip
async def test_damaged_records_become_letters_and_their_neighbours_are_stored(
    tmp_path: Path, engine: EngineProcess, store: Store, change: Callable[[bytes], bytes]
) -> None:
    [stream] = await made(store, 1)
    await damage(tmp_path / "bus", stream, {8: change}, count=17)
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await until(lambda: committed(run.bus, stream, 17))
        [message] = await run.bus.read(stream.dead_letter_topic, 0, 0, max_bytes=MIB)
        letter = json.loads(bytes(decode(message.value)[1]))
        assert (letter["partition"], letter["offset"], letter["row"]) == (0, 8, None)
        assert letter["reason"]
        assert await run.scalar("count()") == 320
        assert await run.scalar(f"uniqExact({IDENTITY})") == 320
        assert await run.scalar("countIf(offset = 8)") == 0


async def test_a_record_of_a_newer_version_waits_and_is_not_buried(
    tmp_path: Path, engine: EngineProcess, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    [stream] = await made(store, 1)
    bus = tmp_path / "bus"
    await damage(bus, stream, {1: lambda v: v[:2] + b"\x02" + v[3:]}, count=3)
    health = Health()
    async with running(bus, engine.url, stream, health=health) as run:
        await until(lambda: holds(store, stream, 20))
        await until(lambda: problem(health, "upgrade"))
        assert "offset 1" in health.problems()[0]
        assert (await run.bus.offsets(stream.dead_letter_topic, 0)).end == 0
        assert await committed(run.bus, stream, 1)
    # The upgraded processor reads it.
    monkeypatch.setattr("logstream.processor.plan.decode_block", lambda v: decode(v[:2] + b"\x01" + v[3:]))
    async with running(bus, engine.url, stream):
        await until(lambda: holds(store, stream, 60))


async def test_a_planned_record_of_a_newer_version_is_not_left_out(
    tmp_path: Path, engine: EngineProcess, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgraded processor planned it, and an older one takes over."""
    [stream] = await made(store, 1)
    path = tmp_path / "bus"
    await damage(path, stream, {1: lambda v: v[:2] + b"\x02" + v[3:]}, count=3)
    bus = await SqliteBus.open(bus_settings(path), SystemClock())
    plan = Plan((await bus.create_topic(stream.topic)).incarnation, 0, 0, 2)
    await bus.commit(stream.topic, "processor", 0, Committed(0, plan.dump()), None)
    await bus.close()
    health = Health()
    async with running(path, engine.url, stream, health=health) as run:
        await until(lambda: problem(health, "upgrade"))
        assert await count(store, stream) == 0
        assert await run.bus.committed(stream.topic, "processor", 0) == Committed(0, plan.dump())
    monkeypatch.setattr("logstream.processor.plan.decode_block", lambda v: decode(v[:2] + b"\x01" + v[3:]))
    async with running(path, engine.url, stream):
        await until(lambda: holds(store, stream, 60))


async def problem(health: Health, words: str) -> bool:
    return any(words in problem for problem in health.problems())


async def test_a_missing_table_is_one_streams_trouble(tmp_path: Path, engine: EngineProcess, store: Store) -> None:
    [fine] = await made(store, 1)
    without = make_stream("x" + uuid.uuid4().hex[:12])
    health = Health()
    async with running(tmp_path / "bus", engine.url, without, others=[fine], health=health) as run:
        await publish(run.bus, without, records(5))
        await until(lambda: problem(health, without.name))
        await publish(run.bus, fine, records(5))
        await until(lambda: holds(store, fine, 5))
        await store.migrate(without, retention_days=30)
        await run.settled()
        assert (await run.ledger())["key1"] == LedgerEntry("key1", 5, 5, 0, 0, 0)
        assert health.problems() == []


async def test_records_that_the_log_lost_are_told_and_passed(
    tmp_path: Path, engine: EngineProcess, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    [stream] = await made(store, 1)
    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
    await bus.create_topic(stream.topic)
    for i in range(6):
        await publish(bus, stream, records(2, seed=i))

    def forget(log: Log) -> None:
        lane = log.lanes[stream.topic][0]
        for table in ("records", "entries"):
            log.sql.execute(f"DELETE FROM {table} WHERE id < ?", (lane.row(4),))

    await bus._call(forget)
    await bus.close()
    before = lost(stream)
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await until(lambda: holds(store, stream, 4))
        assert lost(stream) - before == 4
        assert await run.scalar("min(offset)") == 4


def lost(stream: Stream) -> float:
    return metrics.PROCESSOR_LOST.labels(stream.name)._value.get()


def test_the_limits_of_one_machine_are_as_before() -> None:
    settings = ProcessorSettings()
    assert settings.max_held_bytes >= 2 * settings.max_bytes
