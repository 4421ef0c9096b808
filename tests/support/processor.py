"""A log, a processor and a stream's table, for tests that run the real ones."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from logstream import processor
from logstream.bus.header import NO_KEY, Header, segments_of
from logstream.bus.protocol import Bus, Claim, Committed, Consumer, LedgerEntry, Published, RebalanceListener, Settled
from logstream.bus.sqlite import SqliteBus
from logstream.clock import Clock, SystemClock
from logstream.errors import Fenced
from logstream.processor import Deduplication, FixedStreams, Health
from logstream.record import Batch, Record
from logstream.settings import BusSettings, ProcessorSettings, StoreSettings
from logstream.storage.block import encode
from logstream.storage.journal import StoreJournal, make_journal
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
    carried: Claim | None = None,
    payload: bytes | None = None,
    partition: int | None = None,
) -> Published:
    """One bus record of `rows`, sent with the API key "key1" unless `keys` says otherwise.

    carried: a claim that stands in the record only, so that the bus takes repeats, as Kafka does.
    """
    times = [r.timestamp for r in rows]
    header = Header(
        len(rows), SystemClock().now_ns() if received_at is None else received_at, min(times), max(times),
        segments_of(keys or [("key1", len(rows))]),
        idempotency_key=carried.key if carried else NO_KEY, fingerprint=carried.fingerprint if carried else NO_KEY,
    )  # fmt: skip
    return await bus.publish(stream.topic, header, payload or encode(Batch.of(rows)), claim=claim, partition=partition)


class JournalledBus(SqliteBus):
    """The embedded log with a journal, as Kafka has: claims are not looked at when records come in.

    lost: a commit is recorded in the journal, and then the process is thought to die, once.
    """

    journal: StoreJournal
    lost = False

    async def consumer(self, topic: str, group: str, *, listener: RebalanceListener | None = None) -> Consumer:  # type: ignore[override]
        consumer = await super().consumer(topic, group, listener=listener)
        commit = consumer.commit

        async def recorded(partition: int, position: Committed, settled: Settled | None = None) -> None:
            if settled is not None:
                await self.journal.record(consumer.topic, partition, settled)
                if self.lost:
                    raise Fenced("lost between journal and commit")
            await commit(partition, position, settled)

        consumer.commit = recorded  # type: ignore[method-assign]
        return consumer


class Running:
    """A processor that runs, and what it works on."""

    def __init__(self, bus: SqliteBus, store: Store, stream: Stream) -> None:
        self.bus = bus
        self.store = store
        self.stream = stream
        self.deduplication: Deduplication | None = None

    async def drained(self, records: int, seconds: float = 60.0) -> None:
        """Wait until `records` bus records, over all partitions, came to their end."""
        async with asyncio.timeout(seconds):
            while True:
                topic = await self.bus.create_topic(self.stream.topic)
                places = [
                    await self.bus.committed(topic.name, "processor", partition)
                    for partition in range(topic.partitions)
                ]
                if sum(place.offset for place in places) >= records:
                    return
                await asyncio.sleep(0.01)

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
    journalled: bool = False,
    window_seconds: float = 3600.0,
    others: Sequence[Stream] = (),
    health: Health | None = None,
    partitions: int = 1,
    **bus_changes: object,
) -> AsyncIterator[Running]:
    """Log, processor and table of `stream`, until the block is left; then stopped as a process would be.

    journalled: repeats are left to the processor. others: further streams that it serves.
    """
    clock = clock or SystemClock()
    store = store or await Store.connect(StoreSettings(url=url, insert_timeout_seconds=20))
    kind = JournalledBus if journalled else SqliteBus
    bus = await kind.open(bus_settings(bus_path, **bus_changes), clock)
    deduplication = None
    if isinstance(bus, JournalledBus):
        bus.journal = make_journal(store)
        deduplication = Deduplication(bus.journal, window_seconds)
    stop = asyncio.Event()
    task: asyncio.Task[None] | None = None
    try:
        for each in (stream, *others):
            await bus.create_topic(each.topic, partitions=partitions)
        task = asyncio.create_task(
            processor.serve(
                settings or processor_settings(), bus=bus, store=store, streams=FixedStreams([stream, *others]),
                clock=clock, stop=stop, deduplication=deduplication, health=health,
            )
        )  # fmt: skip
        run = Running(bus, store, stream)
        run.deduplication = deduplication
        yield run
    finally:
        stop.set()
        if task is not None:
            await task
        await bus.close()
        await store.close()
