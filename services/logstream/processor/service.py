"""All partitions of all streams, and what is measured about them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from logstream import metrics
from logstream.bus.protocol import Bus, Consumer
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import Fenced, LogStreamError, NotFound
from logstream.logs import get_logger
from logstream.processor.budget import Budget, Slots
from logstream.processor.health import Health
from logstream.processor.retry import Backoff, Stopped, sleep
from logstream.processor.streams import FixedStreams, StreamSource
from logstream.processor.window import Deduplication
from logstream.processor.worker import Shared, Worker
from logstream.settings import ProcessorSettings
from logstream.storage.store import Store
from logstream.stream import Stream

GROUP = "processor"
_LOOK_SECONDS = 1.0
_MEASURE_SECONDS = 5.0
_AGAIN_SECONDS = 5.0
_MISSING_LOOKS = 4
"""Looks at a topic that is gone before it is made again: whoever deletes a stream ends its service sooner."""

_log = get_logger("processor")


async def serve(
    settings: ProcessorSettings,
    *,
    bus: Bus,
    store: Store,
    streams: StreamSource | Sequence[Stream],
    clock: Clock,
    stop: asyncio.Event,
    deduplication: Deduplication | None = None,
    health: Health | None = None,
    served: set[Stream] | None = None,
) -> None:
    """Store what arrives on the topics of `streams` until `stop` is set; INSERTs in flight are finished first.

    The streams' tables must be there or come. Log and store may come and go, and one partition's trouble is its
    own: nothing is raised for that. It is told to `health`.
    served: kept up to date with the streams of which something still runs here.
    deduplication: where the bus leaves repeats under an Idempotency-Key to the processor: on Kafka.
    """
    shared = Shared(
        settings, bus, store, clock, Budget(settings.max_held_bytes), Slots(settings.insert_slots),
        health or Health(), deduplication,
    )  # fmt: skip
    source = FixedStreams(streams) if isinstance(streams, Sequence) else streams
    serving: dict[Stream, tuple[asyncio.Event, asyncio.Task[None]]] = {}
    served = set() if served is None else served
    try:
        while not stop.is_set():
            wanted = set(source.current())
            for stream, (leave, task) in list(serving.items()):
                if stream not in wanted:
                    leave.set()
                if task.done():
                    # One that comes back while it still ends is served anew from here.
                    del serving[stream]
                    served.discard(stream)
            for stream in wanted - serving.keys():
                leave = asyncio.Event()
                served.add(stream)
                serving[stream] = leave, asyncio.create_task(_Service(shared, stream, leave).run())
            metrics.PROCESSOR_HELD_BYTES.set(shared.budget.held)
            await sleep(_LOOK_SECONDS, stop)
    finally:
        for leave, _ in serving.values():
            leave.set()
        await _end([task for _, task in serving.values()])
        served.clear()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `tasks`, whatever they raise; when we are cancelled, they are."""
    try:
        if tasks:
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("task_failed", exc_info=result)


@dataclass(slots=True)
class _Running:
    worker: Worker
    stop: asyncio.Event
    task: asyncio.Task[None]


class _Service:
    """One stream. Listens to which partitions are ours (`logstream.bus.protocol.RebalanceListener`)."""

    def __init__(self, shared: Shared, stream: Stream, stop: asyncio.Event) -> None:
        self._shared = shared
        self._stream = stream
        self._stop = stop
        self._ours: set[int] = set()
        self._changed = asyncio.Event()
        self._running: dict[int, _Running] = {}
        self._not_before: dict[int, float] = {}
        self._log = _log.bind(stream=stream.name)

    async def run(self) -> None:
        """Until `stop`; what fails is tried again."""
        self._shared.slots.join(self._stream.name)
        try:
            while not self._stop.is_set():
                try:
                    await self._serve()
                except Stopped:
                    return
                except Exception as error:
                    self._tell(None, error)
                    await sleep(_AGAIN_SECONDS, self._stop)
        finally:
            self._shared.slots.leave(self._stream.name)
            self._shared.health.clear(self._stream.name, None)

    async def _serve(self) -> None:
        consumer = await self._join()
        measuring = asyncio.create_task(self._measure())
        try:
            while not self._stop.is_set():
                self._changed.clear()
                self._follow(consumer)
                await self._pause()
        finally:
            measuring.cancel()
            for running in self._running.values():
                running.stop.set()
            await _end([running.task for running in self._running.values()])
            await asyncio.gather(measuring, return_exceptions=True)
            for partition in self._ours | self._running.keys():
                self._shared.health.clear(self._stream.name, partition)
            self._running.clear()
            self._ours.clear()
            await consumer.close()

    async def _pause(self) -> None:
        """Until something changes, a worker ends, or it is time to look."""
        waiting = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._changed.wait())]
        try:
            await asyncio.wait(waiting, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _join(self) -> Consumer:
        bus, health = self._shared.bus, self._shared.health
        backoff = Backoff(self._shared.settings.retry_seconds, self._stop)
        while True:
            try:
                topic = await bus.create_topic(self._stream.topic)
                await bus.create_topic(self._stream.dead_letter_topic, partitions=topic.partitions)
                consumer = await bus.consumer(self._stream.topic, GROUP, listener=self)
                health.clear(self._stream.name, None)
                return consumer
            except LogStreamError as error:
                if health.report(self._stream.name, None, error.code, error.message):
                    self._log.error("topic_cannot_be_read", error=error.message)
                await backoff.pause()

    # Partitions come and go

    async def assigned(self, partitions: frozenset[int]) -> None:
        """As RebalanceListener."""
        self._ours |= partitions
        for partition in partitions:
            self._not_before.pop(partition, None)
        self._changed.set()

    async def revoked(self, partitions: frozenset[int]) -> None:
        """As RebalanceListener. An INSERT that does not end in time is left to its remembered plan."""
        self._ours -= partitions
        leaving = [self._running.pop(partition) for partition in partitions & self._running.keys()]
        if leaving:
            await self._leave(leaving)
        for partition in partitions:
            self._shared.health.clear(self._stream.name, partition)

    async def _leave(self, leaving: list[_Running]) -> None:
        for running in leaving:
            running.stop.set()
        tasks = [running.task for running in leaving]
        _, late = await asyncio.wait(tasks, timeout=self._shared.settings.revoke_seconds)
        if late:
            self._log.warning("left_with_a_plan", partitions=[r.worker.partition for r in leaving if r.task in late])
        for task in late:
            task.cancel()
        for running, result in zip(leaving, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(result, Exception) and not isinstance(result, Fenced):
                self._log.error("partition_failed", partition=running.worker.partition, exc_info=result)

    def _follow(self, consumer: Consumer) -> None:
        """One worker for each partition that is ours now."""
        for partition, running in list(self._running.items()):
            if running.task.done():
                del self._running[partition]
                self._ended(partition, running.task)
            elif running.worker.incarnation != consumer.topic.incarnation:
                running.stop.set()
        now = time.monotonic()
        for partition in self._ours - self._running.keys():
            if self._not_before.get(partition, now) <= now:
                stop = asyncio.Event()
                worker = Worker(self._shared, stream=self._stream, consumer=consumer, partition=partition, stop=stop)
                task = asyncio.create_task(worker.run())
                task.add_done_callback(lambda _: self._changed.set())
                self._running[partition] = _Running(worker, stop, task)

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Fenced):
            # The group tells soon whose it is. Should it be ours all the same, its position proves it.
            metrics.PROCESSOR_FENCED.labels(self._stream.name).inc()
            self._log.warning("fenced", partition=partition, reason=error.message)
            self._not_before[partition] = time.monotonic() + _AGAIN_SECONDS
        elif error is not None:
            self._tell(partition, error)
            self._not_before[partition] = time.monotonic() + _AGAIN_SECONDS

    def _tell(self, partition: int | None, error: BaseException) -> None:
        """Something that nobody foresaw, or that does not pass by itself."""
        code, message = (
            ("failed", repr(error)) if not isinstance(error, LogStreamError) else (error.code, error.message)
        )
        if self._shared.health.report(self._stream.name, partition, code, message):
            self._log.error("partition_failed", partition=partition, reason=message, exc_info=error)

    # Measuring

    async def _missing(self, times: int) -> None:
        """Somebody deleted the stream's topic: make it again, once it is clear that the stream was not deleted, too."""
        health, name = self._shared.health, self._stream.name
        if health.report(name, None, "topic_missing", "its topic was deleted, and is made again within a minute"):
            self._log.error("topic_missing", topic=self._stream.topic)
        if times < _MISSING_LOOKS:
            return
        try:
            topic = await self._shared.bus.create_topic(self._stream.topic)
            await self._shared.bus.create_topic(self._stream.dead_letter_topic, partitions=topic.partitions)
        except LogStreamError as error:
            self._log.warning("topic_cannot_be_made", error=error.message)
            return
        health.clear(name, None)
        self._log.warning("topic_made_again", topic=topic.name, partitions=topic.partitions)

    async def _measure(self) -> None:
        name = self._stream.name
        lag = metrics.PROCESSOR_LAG.labels(name)
        oldest = metrics.PROCESSOR_OLDEST_SECONDS.labels(name)
        claims = metrics.PROCESSOR_CLAIMS.labels(name)
        missing = 0
        while True:
            started = time.monotonic()
            try:
                lag.set(sum(entry.in_flight for entry in await self._shared.bus.ledger(self._stream.topic)))
                missing = 0
            except NotFound:
                missing += 1
                await self._missing(missing)
            except LogStreamError:
                pass
            workers = [running.worker for running in self._running.values()]
            waiting = [at for worker in workers if (at := worker.oldest_received_at()) is not None]
            oldest.set(max(0.0, (self._shared.clock.now_ns() - min(waiting)) / NS_PER_SECOND) if waiting else 0.0)
            claims.set(sum(worker.claims for worker in workers))
            # Counting a long backlog takes a while: spend no more than a twentieth of the time on it.
            await asyncio.sleep(max(_MEASURE_SECONDS, 20 * (time.monotonic() - started)))
