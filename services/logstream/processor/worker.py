"""One partition: read, plan, remember the plan, insert, commit. One INSERT in flight; the next is read meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from logstream import metrics
from logstream.bus.protocol import Bus, Committed, Consumer, Outcome, Settled, minute_of
from logstream.clock import Clock
from logstream.errors import BusUnavailable, LogStreamError, OffsetOutOfRange, StoreRefused, StoreUnavailable
from logstream.logs import get_logger
from logstream.processor import rows
from logstream.processor.letter import Letter
from logstream.processor.plan import Item, Plan, choose, idle, item_of, remembered
from logstream.processor.poison import Poison
from logstream.processor.retry import Backoff, Stopped, sleep
from logstream.settings import MIB, ProcessorSettings
from logstream.storage.block import Provenance, seal
from logstream.storage.store import Store
from logstream.stream import Stream

_READ_BYTES = 8 * MIB
_IDLE_SECONDS = 60.0
_MANY_RECORDS = 1 << 40

_T = TypeVar("_T")

Parts = Sequence[bytes | memoryview]


class Worker:
    """Owns one partition from `run` on until `stop` is set. Memory: twice `settings.max_bytes` of records."""

    def __init__(
        self,
        settings: ProcessorSettings,
        *,
        stream: Stream,
        bus: Bus,
        consumer: Consumer,
        partition: int,
        store: Store,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self.stream = stream
        self._bus = bus
        self._consumer = consumer
        self.partition = partition
        self.store = store
        self.clock = clock
        self._stop = stop
        self.incarnation = consumer.topic.incarnation
        self._items: list[Item] = []
        self._rows = 0
        self._bytes = 0
        self._read_at = 0
        self._max_records = _MANY_RECORDS
        self._inserted_at = float("-inf")
        self._log = get_logger("processor").bind(stream=stream.name, partition=partition)

    def oldest_received_at(self) -> int | None:
        """Arrival of the oldest record in hand, ns; None when there is none."""
        return next((item.header.received_at for item in self._items if item.header), None)

    async def run(self) -> None:
        """Work until told to stop; an INSERT in flight is finished and committed first."""
        try:
            await self._resume()
            while not self._stop.is_set():
                if await self._gather():
                    await self._store_next()
        except Stopped:
            self._log.info("stopped_with_a_plan")

    # Where to go on

    async def _resume(self) -> None:
        position = await self.retrying(lambda: self._consumer.committed(self.partition))
        memory = remembered(position.metadata, self.partition)
        if memory.incarnation not in (None, self.incarnation):
            # The topic was made anew: offsets began at 0 again, and the plan speaks of other records.
            self._log.warning("position_of_an_earlier_topic", incarnation=memory.incarnation)
            return
        self._read_at = position.offset
        if memory.plan is None:
            return
        items = await self._planned_items(memory.plan)
        if not items:
            self._log.error("planned_records_missing", first=memory.plan.first, last=memory.plan.last)
        elif memory.plan.first_row is not None and items[0].header is not None:
            await Poison(self, items[0]).run(resumed=memory.plan)
            self._forget(1)
        else:
            await self._store(memory.plan, items, doubtful=True)

    async def _planned_items(self, plan: Plan) -> Sequence[Item]:
        """The very records of a remembered plan, which the log keeps until they are committed."""
        backoff = self._backoff()
        while not self._items or self._items[-1].offset < plan.last:
            if not await self._read(_READ_BYTES):
                await backoff.pause()
        return self._items[: sum(item.offset <= plan.last for item in self._items)]

    # Reading

    async def _gather(self) -> bool:
        """Wait until an INSERT is worth while: something is there, and the last one is long enough ago."""
        if not self._items:
            await self._wait_for_records()
        await self._read_ahead()
        if not self._full():
            due = self._inserted_at + self._settings.flush_seconds
            await sleep(due - time.monotonic(), self._stop)
            await self._read_ahead()
        return bool(self._items) and not self._stop.is_set()

    async def _wait_for_records(self) -> None:
        reading = asyncio.create_task(self._read(_READ_BYTES, wait=_IDLE_SECONDS))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            reading.cancel()
            results = await asyncio.gather(reading, stopping, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _read_ahead(self) -> None:
        """What the log has now, up to one INSERT's worth."""
        while not self._full() and await self._read(min(_READ_BYTES, self._settings.max_bytes)):
            pass

    def _full(self) -> bool:
        return self._rows >= self._settings.max_rows or self._bytes >= self._settings.max_bytes

    async def _read(self, max_bytes: int, wait: float = 0.0) -> bool:
        """Take records from the log; whether there were any. An unavailable log is asked again, after a pause."""
        try:
            messages = await self._consumer.read(self.partition, self._read_at, max_bytes=max_bytes, wait=wait)
        except BusUnavailable as error:
            self._log.warning("log_unavailable", error=error.message)
            await sleep(self._settings.retry_seconds, self._stop)
            return False
        except OffsetOutOfRange as error:
            # Only when the log lost records: it keeps what was not committed.
            self._log.error("records_missing", first=self._read_at, last=error.beginning - 1)
            self._read_at = error.beginning
            return False
        for message in messages:
            item = item_of(message)
            self._items.append(item)
            self._rows += item.rows
            self._bytes += len(item.value)
            self._read_at = item.offset + 1
        return bool(messages)

    def _forget(self, count: int) -> None:
        for item in self._items[:count]:
            self._rows -= item.rows
            self._bytes -= len(item.value)
        del self._items[:count]

    # Storing

    async def _store_next(self) -> None:
        count = choose(
            self._items,
            max_rows=self._settings.max_rows,
            max_bytes=self._settings.max_bytes,
            max_records=self._max_records,
        )
        items = self._items[:count]
        plan = Plan(self.incarnation, self.partition, items[0].offset, items[-1].offset)
        await self.remember(plan)
        self._inserted_at = time.monotonic()
        await self._store(plan, items)

    async def _store(self, plan: Plan, items: Sequence[Item], *, doubtful: bool = False) -> None:
        """Bring the records of a remembered plan to their end: stored or dead-lettered, and committed."""
        if items[0].header is None:
            await self._bury(items[0])
            self._forget(1)
            return
        inserting = asyncio.create_task(self.insert(plan, self._parts(items), _rows_of(items), doubtful=doubtful))
        try:
            await self._read_beyond(items)
            await inserting
        except StoreRefused as refused:
            self._log.warning("insert_refused", first=plan.first, last=plan.last, reason=refused.message)
            if len(items) > 1:
                # Nothing of it was stored, so the records can be planned anew, fewer at a time.
                self._max_records = len(items) // 2
                return
            await Poison(self, items[0]).run(refused=refused)
            self._max_records = 1
        else:
            self._max_records = min(_MANY_RECORDS, self._max_records * 2)
            await self.commit(Settled(plan.first, plan.last, _stored(items)))
        finally:
            inserting.cancel()
            await asyncio.gather(inserting, return_exceptions=True)
        self._forget(len(items))

    async def _read_beyond(self, items: Sequence[Item]) -> None:
        """While the INSERT runs: read up to one more INSERT's worth behind `items`."""
        held_rows, held_bytes = _rows_of(items), sum(len(item.value) for item in items)
        while (
            self._rows - held_rows < self._settings.max_rows
            and self._bytes - held_bytes < self._settings.max_bytes
            and await self._read(min(_READ_BYTES, self._settings.max_bytes))
        ):
            pass

    def _parts(self, items: Sequence[Item]) -> Parts:
        parts: list[bytes | memoryview] = []
        for item in items:
            if item.header is not None and item.header.rows:
                parts += seal(item.payload, item.header.rows, self.source(item))
        return parts

    def source(self, item: Item, first_row: int = 0, last_row: int | None = None) -> Provenance:
        """Where the rows of `item` (all, or `first_row` … `last_row`) come from."""
        assert item.header is not None
        return Provenance(
            item.header.received_at,
            rows.keys_between(item.header.segments, first_row, item.rows - 1 if last_row is None else last_row),
            self.incarnation,
            self.partition,
            item.offset,
            first_row,
        )

    async def insert(self, plan: Plan, parts: Parts, count: int, *, doubtful: bool = False) -> None:
        """INSERT until it is stored, however long the store is away.

        doubtful: an earlier attempt may have succeeded. Raises StoreRefused, and Stopped.
        """
        if not count:
            return
        backoff = self._backoff()
        while True:
            try:
                if doubtful and await self._contains(plan):
                    break
                started = time.perf_counter()
                await self.store.insert(self.stream, parts, rows=count, token=plan.token)
                metrics.PROCESSOR_INSERT_SECONDS.observe(time.perf_counter() - started)
                metrics.PROCESSOR_INSERT_ROWS.observe(count)
                break
            except StoreUnavailable as error:
                doubtful = True
                self._log.warning("store_unavailable", error=error.message)
                metrics.PROCESSOR_RETRIES.labels(self.stream.name).inc()
            await backoff.pause()
        metrics.PROCESSOR_STORED.labels(self.stream.name).inc(count)

    async def _contains(self, plan: Plan) -> bool:
        """Whether the plan's rows are stored; an INSERT is atomic, so any of them speaks for all."""
        try:
            if plan.first_row is not None and plan.last_row is not None:
                return await rows.contains(self.store, self.stream, plan)
            return await self.store.contains(
                self.stream, incarnation=plan.incarnation, partition=plan.partition, first=plan.first, last=plan.last
            )
        except LogStreamError as error:
            raise StoreUnavailable(error.message) from error

    # Committing

    async def remember(self, plan: Plan) -> None:
        """Make `plan` durable before its INSERT is sent."""
        await self._commit(Committed(plan.first, plan.dump()), None)

    async def commit(self, settled: Settled) -> None:
        """All up to the end of `settled` came to its end."""
        await self._commit(Committed(settled.last + 1, idle(self.incarnation)), settled)

    async def _commit(self, position: Committed, settled: Settled | None) -> None:
        backoff = self._backoff()
        while True:
            try:
                return await self._consumer.commit(self.partition, position, settled)
            except BusUnavailable as error:
                self._log.warning("commit_failed", error=error.message)
            await backoff.pause()
            # It may have been stored after all, and outcomes must not be counted twice.
            if await self.retrying(lambda: self._consumer.committed(self.partition)) == position:
                return None

    # Dead letters

    async def _bury(self, item: Item) -> None:
        """A bus record whose header cannot be read: nobody knows its rows or its sender."""
        self._log.error("record_cannot_be_read", offset=item.offset, reason=item.reason)
        now = self.clock.now_ns()
        await self.send(
            Letter(
                self.stream.name, self.incarnation, self.partition, item.offset, None, 0, "", now, now,
                item.reason, 0, item.value,
            )
        )  # fmt: skip
        await self.commit(Settled(item.offset, item.offset))

    async def send(self, letter: Letter) -> None:
        """Publish a dead letter; the same one again is a no-op."""
        header, payload = letter.header(), letter.payload()
        published = await self.retrying(
            lambda: self._bus.publish(self.stream.dead_letter_topic, header, payload, claim=letter.claim())
        )
        if not published.duplicate:
            metrics.PROCESSOR_DEAD_LETTERED.labels(self.stream.name).inc(letter.rows)

    # Retrying

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.retry_seconds, self._stop)

    async def retrying(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """`call` until log and store are there. Raises Stopped."""
        backoff = self._backoff()
        while True:
            try:
                return await call()
            except (BusUnavailable, StoreUnavailable) as error:
                self._log.warning("retrying", error=error.message)
            await backoff.pause()


def _rows_of(items: Sequence[Item]) -> int:
    return sum(item.rows for item in items)


def _stored(items: Sequence[Item]) -> dict[tuple[str, int], Outcome]:
    counts: Counter[tuple[str, int]] = Counter()
    for item in items:
        if item.header is not None:
            minute = minute_of(item.header.received_at)
            for segment in item.header.segments:
                counts[segment.key_id, minute] += segment.rows
    return {place: Outcome(stored=count) for place, count in counts.items()}
