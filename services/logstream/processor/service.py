"""All partitions of all streams, and what is measured about them."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from logstream import metrics
from logstream.bus.protocol import Bus, Consumer
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import LogStreamError
from logstream.processor.retry import Backoff, Stopped, sleep
from logstream.processor.worker import Worker
from logstream.settings import ProcessorSettings
from logstream.storage.store import Store
from logstream.stream import Stream

GROUP = "processor"
_LOOK_SECONDS = 1.0
_MEASURE_SECONDS = 5.0


async def serve(
    settings: ProcessorSettings, *, bus: Bus, store: Store, streams: Sequence[Stream], clock: Clock, stop: asyncio.Event
) -> None:
    """Store what arrives on the topics of `streams` until `stop` is set; INSERTs in flight are finished first.

    The streams' tables must be there or come. Log and store may come and go: nothing is raised for that.
    """
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(_Service(settings, stream, bus=bus, store=store, clock=clock, stop=stop).run())


class _Service:
    """One stream."""

    def __init__(
        self,
        settings: ProcessorSettings,
        stream: Stream,
        *,
        bus: Bus,
        store: Store,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._store = store
        self._stream = stream
        self._clock = clock
        self._stop = stop
        self._workers: dict[int, tuple[Worker, asyncio.Event, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        try:
            consumer = await self._join()
        except Stopped:
            return
        measuring = asyncio.create_task(self._measure())
        try:
            while not self._stop.is_set():
                await self._follow(consumer)
                await sleep(_LOOK_SECONDS, self._stop)
        finally:
            measuring.cancel()
            for _, stop, _ in self._workers.values():
                stop.set()
            await asyncio.gather(measuring, return_exceptions=True)
            await asyncio.gather(*(task for _, _, task in self._workers.values()))
            await consumer.close()

    async def _join(self) -> Consumer:
        backoff = Backoff(self._settings.retry_seconds, self._stop)
        while True:
            try:
                await self._bus.create_topic(self._stream.topic)
                await self._bus.create_topic(self._stream.dead_letter_topic)
                return await self._bus.consumer(self._stream.topic, GROUP)
            except LogStreamError:
                await backoff.pause()

    async def _follow(self, consumer: Consumer) -> None:
        """One worker for each partition that is ours now."""
        ours = consumer.assignment()
        for partition in self._workers.keys() - ours:
            _, stop, task = self._workers.pop(partition)
            stop.set()
            await task
        for partition in ours - self._workers.keys():
            stop = asyncio.Event()
            worker = Worker(
                self._settings, stream=self._stream, bus=self._bus, consumer=consumer, partition=partition,
                store=self._store, clock=self._clock, stop=stop,
            )  # fmt: skip
            self._workers[partition] = (worker, stop, asyncio.create_task(worker.run()))
        for _, _, task in self._workers.values():
            if task.done():
                # Only by an error nobody foresaw: let the process end, and its supervisor start it again.
                task.result()

    async def _measure(self) -> None:
        lag = metrics.PROCESSOR_LAG.labels(self._stream.name)
        oldest = metrics.PROCESSOR_OLDEST_SECONDS.labels(self._stream.name)
        while True:
            started = time.monotonic()
            with contextlib.suppress(LogStreamError):
                lag.set(sum(entry.in_flight for entry in await self._bus.ledger(self._stream.topic)))
            waiting = [at for worker, _, _ in self._workers.values() if (at := worker.oldest_received_at()) is not None]
            oldest.set(max(0.0, (self._clock.now_ns() - min(waiting)) / NS_PER_SECOND) if waiting else 0.0)
            # Counting a long backlog takes a while: spend no more than a twentieth of the time on it.
            await asyncio.sleep(max(_MEASURE_SECONDS, 20 * (time.monotonic() - started)))
