"""One partition: read, plan, remember the plan, insert, commit. One INSERT in flight; the next is read meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from logstream import metrics
from logstream.bus.protocol import Bus, Committed, Consumer, Outcome, Published, Settled, minute_of
from logstream.clock import Clock
from logstream.errors import (
    BusUnavailable,
    Fenced,
    LogStreamError,
    NotFound,
    StoreRefused,
    StoreUnavailable,
    TooLarge,
)
from logstream.logs import get_logger
from logstream.processor import resume, rows
from logstream.processor.budget import Account, Budget, Slots
from logstream.processor.health import Health
from logstream.processor.intake import Intake
from logstream.processor.letter import Letter
from logstream.processor.plan import Item, Plan, choose, idle
from logstream.processor.poison import Poison
from logstream.processor.retry import Backoff, Stopped, sleep
from logstream.processor.sending import send_again
from logstream.processor.window import ClaimWindow, Decision, Deduplication, is_keyed
from logstream.settings import ProcessorSettings
from logstream.storage.block import Provenance, seal
from logstream.storage.store import Store
from logstream.stream import Stream

_MANY_RECORDS = 1 << 40
_STEP_SECONDS = 0.05
_CUT_BYTES = 256 * 1024
"""Kept of a record that is too large for a dead letter."""
_FRESH_SECONDS = 10.0
"""A plan remembered longer ago than this is remembered again before it is sent: the partition may be another's now."""

_T = TypeVar("_T")

Parts = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a process share. deduplication: None when the bus itself keeps repeats out."""

    settings: ProcessorSettings
    bus: Bus
    store: Store
    clock: Clock
    budget: Budget
    slots: Slots
    health: Health
    deduplication: Deduplication | None = None


class Worker:
    """Owns one partition from `run` on until `stop` is set."""

    def __init__(
        self, shared: Shared, *, stream: Stream, consumer: Consumer, partition: int, stop: asyncio.Event
    ) -> None:
        self.shared = shared
        self._settings = shared.settings
        self.stream = stream
        self.consumer = consumer
        self.partition = partition
        self.store = shared.store
        self.clock = shared.clock
        self.stop = stop
        self.incarnation = consumer.topic.incarnation
        account: Account = shared.budget.open(stream.name)
        self.intake = Intake(
            shared.settings, consumer, partition, stream=stream.name, account=account, health=shared.health, stop=stop
        )
        self.doubtful_to = -1
        """Records up to this offset may be stored already, although no plan says so."""
        self._window: ClaimWindow | None = None
        self._max_records = _MANY_RECORDS
        self._inserted_at = float("-inf")
        self._remembered_at = float("-inf")
        self.log = get_logger("processor").bind(stream=stream.name, partition=partition)

    def oldest_received_at(self) -> int | None:
        """Arrival of the oldest record in hand, ns; None when there is none."""
        return next((item.header.received_at for item in self.intake.items if item.header), None)

    @property
    def claims(self) -> int:
        """Idempotency-Keys remembered."""
        return len(self._window) if self._window else 0

    async def run(self) -> None:
        """Work until told to stop; an INSERT in flight is finished and committed first.

        Raises Fenced when the partition is not ours any more, and LogStreamError for what does not pass by itself.
        """
        try:
            await resume.resume(self)
            while not self.stop.is_set():
                if await self._gather():
                    await self._store_next()
        except Stopped:
            self.log.info("stopped_with_a_plan")
        finally:
            self.intake.close()

    async def _gather(self) -> bool:
        """Wait until an INSERT is worth while: something is there, and the last one is long enough ago."""
        settings, slept = self._settings, not self.intake.items
        await self.intake.wait()
        began = time.monotonic() if slept else float("-inf")
        await self.intake.fill()
        await self._gather_until(self._inserted_at + settings.flush_seconds)
        if self.intake.rows >= settings.busy_rows:
            # More of the kind is to come, also where these are the first after a while.
            due = max(self._inserted_at + settings.busy_flush_seconds, began + settings.flush_seconds)
            await self._gather_until(due)
        return not self.stop.is_set()

    async def _gather_until(self, due: float) -> None:
        """Take in what comes until `due` (monotonic, s), or until there is one INSERT's worth."""
        while not self.intake.full and not self.stop.is_set() and (left := due - time.monotonic()) > 0:
            # In steps: what is read ahead has less room than one INSERT.
            await sleep(min(left, _STEP_SECONDS), self.stop)
            await self.intake.fill()

    # Storing

    async def _store_next(self) -> None:
        items = self.intake.items
        if items[0].newer:
            await self.intake.newer()
        doubtful = items[0].offset <= self.doubtful_to
        if doubtful:
            items = [item for item in items if item.offset <= self.doubtful_to]
        count = choose(
            items,
            max_rows=self._settings.max_rows,
            max_bytes=self._settings.max_bytes,
            max_records=self._max_records,
        )
        chosen = items[:count]
        plan = Plan(self.incarnation, self.partition, chosen[0].offset, chosen[-1].offset)
        await self.remember(plan)
        self._inserted_at = time.monotonic()
        await self.store_range(plan, chosen, doubtful=doubtful)

    async def store_range(self, plan: Plan, items: Sequence[Item], *, doubtful: bool = False) -> None:
        """Bring the records of a remembered plan to their end: stored, dropped or dead-lettered, and committed."""
        if items[0].reason:
            await self._bury(items[0])
            self.intake.forget(1)
            return
        decision = await self.decide(plan, items)
        kept = [item for item in items if item.offset not in decision.dropped]
        inserting = asyncio.create_task(
            self.insert(plan, self._parts(kept), sum(item.rows for item in kept), doubtful=doubtful)
        )
        try:
            await self._read_beyond(items, inserting)
            await inserting
        except StoreRefused as refused:
            self.log.warning("insert_refused", first=plan.first, last=plan.last, reason=refused.message)
            if len(items) > 1:
                # Nothing of it was stored, so the records can be planned anew, fewer at a time.
                self._max_records = len(items) // 2
                return
            await Poison(self, items[0], decision).run(refused=refused)
            self._max_records = 1
        else:
            self._max_records = min(_MANY_RECORDS, self._max_records * 2)
            await self.commit(Settled(plan.first, plan.last, outcomes(items, decision), decision.claims))
            self._count_dropped(items, decision)
        finally:
            inserting.cancel()
            await asyncio.gather(inserting, return_exceptions=True)
        self.intake.forget(len(items))

    async def _read_beyond(self, items: Sequence[Item], inserting: "asyncio.Task[None]") -> None:
        """Take in what comes while the INSERT is under way: the longer it takes, the larger is the next one."""
        while not inserting.done():
            try:
                await self.intake.fill_beyond(items)
            except Fenced:
                # The commit will tell, when the INSERT has ended.
                return
            await asyncio.wait((inserting,), timeout=_STEP_SECONDS)

    async def decide(self, plan: Plan, items: Sequence[Item]) -> Decision:
        """Which of `items`, about to be stored by `plan`, are repeats. Raises Stopped."""
        deduplication = self.shared.deduplication
        if deduplication is None or not any(map(is_keyed, items)):
            return Decision()
        if self._window is None:
            # Only now: most streams never see a key. What is recorded of `plan` itself must not count.
            window = ClaimWindow(deduplication.window_seconds, self._settings.max_claims)
            since = window.since(min(item.header.received_at for item in items if item.header and is_keyed(item)))
            journal, topic, limit = deduplication.journal, self.consumer.topic, self._settings.max_claims
            window.add(
                await self.retrying(
                    lambda: journal.claims(topic, self.partition, since, before=plan.first, limit=limit)
                )
            )
            self._window = window
        return self._window.decide(items)

    def _count_dropped(self, items: Sequence[Item], decision: Decision) -> None:
        if decision.dropped:
            dropped = sum(item.rows for item in items if item.offset in decision.dropped)
            metrics.PROCESSOR_DEDUPLICATED.labels(self.stream.name).inc(dropped)

    def _parts(self, items: Sequence[Item]) -> Parts:
        parts: list[bytes | memoryview] = []
        for item in items:
            if item.header is not None and item.header.rows:
                parts += seal(item.payload, item.header.rows, self.source(item))
        return parts

    def source(self, item: Item, first_row: int = 0, last_row: int | None = None) -> Provenance:
        """Where the rows of `item` (all, or `first_row` … `last_row`) come from."""
        return provenance(item, self.incarnation, self.partition, first_row, last_row)

    async def insert(self, plan: Plan, parts: Parts, count: int, *, doubtful: bool = False) -> None:
        """INSERT until it is stored, however long the store is away.

        doubtful: an earlier attempt may have succeeded. Raises StoreRefused, Stopped, and Fenced.
        """
        if not count:
            return
        backoff = self._backoff()
        while True:
            try:
                if await self._attempt(plan, parts, count, doubtful=doubtful):
                    break
                doubtful = True
                continue
            except StoreUnavailable as error:
                doubtful = True
                self.waits("store_unavailable", error.message)
                metrics.PROCESSOR_RETRIES.labels(self.stream.name).inc()
            await backoff.pause()
        self.goes_on()
        metrics.PROCESSOR_STORED.labels(self.stream.name).inc(count)

    async def _attempt(self, plan: Plan, parts: Parts, count: int, *, doubtful: bool) -> bool:
        """One INSERT, in turn with the other partitions; False when the plan has grown old while it waited."""
        await self.shared.slots.acquire(self.stream.name, self.stop)
        try:
            if time.monotonic() - self._remembered_at > _FRESH_SECONDS:
                # This process may have been stopped for a while, and the partition may have gone to another.
                await self.remember(plan)
                return False
            if doubtful and await self.contains(plan):
                return True
            started = time.perf_counter()
            if doubtful and not self.store.distributed:
                await send_again(plan, partial(self._send, plan, parts, count), self.contains)
            else:
                await self._send(plan, parts, count, plan.token)
            metrics.PROCESSOR_INSERT_SECONDS.observe(time.perf_counter() - started)
            metrics.PROCESSOR_INSERT_ROWS.observe(count)
            return True
        finally:
            self.shared.slots.release(self.stream.name)

    async def _send(self, plan: Plan, parts: Parts, count: int, token: str) -> None:
        await self.store.insert(self.stream, parts, rows=count, token=token, partition=plan.partition)

    async def contains(self, plan: Plan) -> bool:
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
        """Make `plan` durable before its INSERT is sent; it also proves that the partition is ours. Raises Fenced."""
        await self._commit(Committed(plan.first, plan.dump()), None)
        self._remembered_at = time.monotonic()

    async def commit_position(self, position: Committed) -> None:
        """Go on elsewhere; nothing came to its end. Raises Fenced."""
        await self._commit(position, None)

    async def commit(self, settled: Settled) -> None:
        """All up to the end of `settled` came to its end."""
        await self._commit(Committed(settled.last + 1, idle(self.incarnation)), settled)
        self.goes_on()
        if self._window is not None:
            self._window.add(settled.claims)

    async def _commit(self, position: Committed, settled: Settled | None) -> None:
        backoff = self._backoff()
        while True:
            try:
                return await self.consumer.commit(self.partition, position, settled)
            except (BusUnavailable, StoreUnavailable) as error:
                self.waits("commit_failed", error.message)
            await backoff.pause()
            # It may have been stored after all, and outcomes must not be counted twice.
            if await self.retrying(lambda: self.consumer.committed(self.partition)) == position:
                return None

    # Dead letters

    async def _bury(self, item: Item) -> None:
        """A bus record that is no record of ours, or a damaged one: one letter for all of it.

        When its header cannot be read, nobody knows its rows or its sender.
        """
        self.log.error("record_cannot_be_stored", offset=item.offset, reason=item.reason)
        now = self.clock.now_ns()
        sent: Counter[str] = Counter()
        for segment in item.header.segments if item.header else ():
            sent[segment.key_id] += segment.rows
        received_at = item.header.received_at if item.header else now
        await self.send(
            Letter(
                self.stream.name, self.incarnation, self.partition, item.offset, None, item.rows, ",".join(sent),
                received_at, now, item.reason, 0, item.value,
            )
        )  # fmt: skip
        minute = minute_of(received_at)
        dead = {(key_id, minute): Outcome(dead_lettered=count) for key_id, count in sent.items()}
        await self.commit(Settled(item.offset, item.offset, dead))

    async def send(self, letter: Letter) -> None:
        """Publish a dead letter, to the partition of the same number; the same one again is a no-op."""
        header, payload = letter.header(), letter.payload()
        bus, topic = self.shared.bus, self.stream.dead_letter_topic

        async def publish() -> Published:
            try:
                return await bus.publish(topic, header, payload, claim=letter.claim(), partition=self.partition)
            except NotFound:
                # Somebody deleted it, or gave the stream's topic more partitions.
                await bus.create_topic(topic, partitions=max(self.consumer.topic.partitions, self.partition + 1))
                raise BusUnavailable(f"topic {topic!r} is there again, and not every client knows it yet") from None

        try:
            published = await self.retrying(publish)
        except TooLarge as error:
            # Only what no collector wrote. The partition must not wait for it for ever.
            self.log.error("letter_cut", offset=letter.offset, bytes=len(letter.raw), reason=error.message)
            payload = letter.cut(_CUT_BYTES).payload()
            published = await self.retrying(publish)
        if not published.duplicate:
            metrics.PROCESSOR_DEAD_LETTERED.labels(self.stream.name).inc(letter.rows)

    # Retrying

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.retry_seconds, self.stop)

    def waits(self, code: str, message: str) -> None:
        """Say, once, what keeps the partition from going on."""
        if self.shared.health.report(self.stream.name, self.partition, code, message):
            self.log.warning(code, error=message)

    def goes_on(self) -> None:
        self.shared.health.clear(self.stream.name, self.partition)

    async def retrying(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """`call` until log and store are there. Raises Stopped."""
        backoff = self._backoff()
        while True:
            try:
                return await call()
            except (BusUnavailable, StoreUnavailable) as error:
                self.waits(error.code, error.message)
            await backoff.pause()


def provenance(
    item: Item, incarnation: int, partition: int, first_row: int = 0, last_row: int | None = None
) -> Provenance:
    """Where the rows of `item` (all, or `first_row` … `last_row`) come from. Its header must be readable."""
    assert item.header is not None
    keys = rows.keys_between(item.header.segments, first_row, item.rows - 1 if last_row is None else last_row)
    return Provenance(item.header.received_at, keys, incarnation, partition, item.offset, first_row)


def outcomes(items: Sequence[Item], decision: Decision) -> Mapping[tuple[str, int], Outcome]:
    """What becomes of the rows of `items` when those that are kept were stored."""
    stored: Counter[tuple[str, int]] = Counter()
    dropped: Counter[tuple[str, int]] = Counter()
    for item in items:
        if item.header is not None:
            minute = minute_of(item.header.received_at)
            counts = dropped if item.offset in decision.dropped else stored
            for segment in item.header.segments:
                counts[segment.key_id, minute] += segment.rows
    return {cell: Outcome(stored=stored[cell], deduplicated=dropped[cell]) for cell in stored.keys() | dropped.keys()}
