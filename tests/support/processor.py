"""A log, a processor and a stream's table, for tests that run the real ones."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from logstream import processor
from logstream.bus.header import Header, segments_of
from logstream.bus.protocol import Bus, Claim, LedgerEntry, Published
from logstream.bus.sqlite import SqliteBus
from logstream.clock import Clock, SystemClock
from logstream.record import Batch, Record
from logstream.settings import BusSettings, ProcessorSettings, StoreSettings
from logstream.storage.block import encode
from logstream.storage.store import Store
from logstream.stream import Stream

IDENTITY = "(incarnation, partition, offset, row)"


def bus_settings(path: Path, **changes: object) -> BusSettings:
    return BusSettings(path=path, min_free_disk_bytes=0, **changes)  # type: ignore[arg-type]


def processor_settings(**changes: object) -> ProcessorSettings:
    """Short pauses."""
    fields: dict[str, object] = {"flush_seconds": 0.02, "retry_seconds": 0.02}
    return ProcessorSettings(**fields | changes)  # type: ignore[arg-type]


def records(count: int, seed: int = 0, message: str = "request done") -> list[Record]:
    rng = random.Random(seed)
    return [
        Record(
            1_700_000_000_000_000_000 + i, rng.choice(("api", "payment")), rng.randint(1, 6),
            f"{message} {seed}-{i}", {"id": f"{seed}-{i}"},
        )
        for i in range(count)
    ]  # fmt: skip


async def publish(
    bus: Bus,
    stream: Stream,
    rows: Sequence[Record],
    *,
    keys: Sequence[tuple[str, int]] | None = None,
    received_at: int | None = None,
    claim: Claim | None = None,
    payload: bytes | None = None,
) -> Published:
    """One bus record of `rows`, sent with the API key "key1" unless `keys` says otherwise."""
    times = [r.timestamp for r in rows]
    header = Header(
        len(rows), SystemClock().now_ns() if received_at is None else received_at, min(times), max(times),
        segments_of(keys or [("key1", len(rows))]),
    )  # fmt: skip
    return await bus.publish(stream.topic, header, payload or encode(Batch.of(rows)), claim=claim)


class Running:
    """A processor that runs, and what it works on."""

    def __init__(self, bus: SqliteBus, store: Store, stream: Stream) -> None:
        self.bus = bus
        self.store = store
        self.stream = stream

    async def scalar(self, expression: str, where: str = "1") -> object:
        """One value over the stream's table."""
        answer = await self.store.query(f"SELECT {expression} FROM {self.stream.database}.logs WHERE {where}")
        return answer.rows[0][0]

    async def ledger(self) -> dict[str, LedgerEntry]:
        entries = await self.bus.ledger(self.stream.topic)
        for e in entries:
            assert e.accepted == e.stored + e.deduplicated + e.dead_lettered + e.in_flight, e
        return {e.key_id: e for e in entries}

    async def settled(self, seconds: float = 60.0) -> None:
        """Wait until nothing is in flight any more."""
        async with asyncio.timeout(seconds):
            while any(e.in_flight for e in (await self.ledger()).values()):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(
    bus_path: Path,
    url: str,
    stream: Stream,
    *,
    settings: ProcessorSettings | None = None,
    clock: Clock | None = None,
    store: Store | None = None,
    **bus_changes: object,
) -> AsyncIterator[Running]:
    """Log, processor and table of `stream`, until the block is left; then stopped as a process would be."""
    clock = clock or SystemClock()
    bus = await SqliteBus.open(bus_settings(bus_path, **bus_changes), clock)
    store = store or await Store.connect(StoreSettings(url=url, insert_timeout_seconds=20))
    stop = asyncio.Event()
    task: asyncio.Task[None] | None = None
    try:
        await bus.create_topic(stream.topic)
        task = asyncio.create_task(
            processor.serve(
                settings or processor_settings(), bus=bus, store=store, streams=[stream], clock=clock, stop=stop
            )
        )
        yield Running(bus, store, stream)
    finally:
        stop.set()
        if task is not None:
            await task
        await bus.close()
        await store.close()
