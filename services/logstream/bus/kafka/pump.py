"""One librdkafka consumer and the thread that hands what it has read to the event loop."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as Raw

from logstream.bus.kafka import config
from logstream.bus.kafka.cursor import Place
from logstream.bus.kafka.faults import Faults, error_of, started
from logstream.bus.kafka.stranded import Stranded
from logstream.errors import BusUnavailable
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_POLL_SECONDS = 0.05
"""Longest time that a move waits for the thread; data wakes it at once."""
_TAKE = 256
"""Messages taken at once; bounds what is between the thread and the loop."""

Taken = Sequence[tuple[Raw, int]]
"""Messages and errors, each with the epoch of the seek that it comes from, 0 for none."""


class Pump:
    """Used from one event loop, in which `receive` is called.

    Raises StartupError when the settings are of no use.
    """

    def __init__(
        self, settings: KafkaSettings, faults: Faults, *, buffer_bytes: int, receive: Callable[[Taken], None]
    ) -> None:
        self._faults = faults
        self._receive = receive
        self._patience = settings.request_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._log = get_logger("bus")
        self._stranded = Stranded()
        self._consumer: Consumer = started(
            Consumer,
            config.client(settings, on_error=faults.note)
            | config.reader(settings, buffer_bytes=buffer_bytes)
            | self._stranded.properties,
        )
        self._epochs: dict[Place, int] = {}
        """The thread's: what was read before a seek is told from what is read after it."""
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = False
        self._room = threading.Event()
        self._room.set()
        self._disobeyed = False
        self._thread = threading.Thread(target=self._run, name="kafka-fetcher", daemon=True)
        self._thread.start()

    # Commands. They are queued when this is called, in this order, whether somebody waits for the end or not.

    async def seek(self, place: Place, offset: int, epoch: int) -> None:
        """Read `place` from `offset` on. Raises BusUnavailable."""
        await self._call(partial(self._seek, place, offset, epoch))

    async def unassign(self, place: Place) -> None:
        """Read it no longer. Raises BusUnavailable."""
        await self._call(partial(self._unassign, place))

    async def resume(self, place: Place) -> None:
        """Read it again. Raises BusUnavailable."""
        await self._call(partial(self._resume, place))

    def seek_soon(self, place: Place, offset: int, epoch: int) -> None:
        self._commands.put(partial(self._seek, place, offset, epoch))

    def pause_soon(self, place: Place) -> None:
        self._commands.put(partial(self._pause, place))

    async def _call(self, call: Callable[[], None]) -> None:
        """`call` in the thread, between two looks at librdkafka's queue."""
        if self._stop:
            raise BusUnavailable("the log is closed")
        done: asyncio.Future[None] = self._loop.create_future()

        def settle(failure: Exception | None) -> None:
            if not done.done():
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)

        def run() -> None:
            failure: Exception | None = None
            try:
                call()
            except Exception as error:
                failure = error
                self._disobeyed = True
            self._tell(partial(settle, failure))

        self._commands.put(run)
        what = "reading the log"
        try:
            async with asyncio.timeout(self._patience):
                await done
        except TimeoutError:
            self._disobeyed = True
            raise self._faults.unreachable(what) from None
        except RuntimeError as failure:
            raise BusUnavailable(f"{what}: it is closed") from failure
        except KafkaException as failure:
            error = error_of(failure)
            raise (self._faults.map(error, what) if error else BusUnavailable(f"{what}: {failure}")) from failure

    @property
    def stuck(self) -> str:
        """Why another one must take its place, "" for nothing."""
        if self._stranded.is_so:
            return "lost every broker"
        return "does not obey" if self._disobeyed else ""

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    async def close(self) -> None:
        """Idempotent. One that does not answer any more ends when it can."""
        self.abandon()
        await asyncio.to_thread(self._thread.join, self._patience if self.stuck else None)

    def abandon(self) -> None:
        """As `close`, in its own time: nothing is received any more."""
        self._stop = True
        self._commands.put(lambda: None)

    # In the thread

    def _seek(self, place: Place, offset: int, epoch: int) -> None:
        self._unassign(place)
        partition = TopicPartition(*place, offset)
        self._consumer.incremental_assign([partition])
        self._epochs[place] = epoch
        # librdkafka remembers that a partition was paused when it was assigned before.
        self._consumer.resume([partition])

    def _unassign(self, place: Place) -> None:
        if place in self._epochs:
            self._consumer.incremental_unassign([TopicPartition(*place)])
            del self._epochs[place]

    def _pause(self, place: Place) -> None:
        if place in self._epochs:
            self._consumer.pause([TopicPartition(*place)])

    def _resume(self, place: Place) -> None:
        if place in self._epochs:
            self._consumer.resume([TopicPartition(*place)])

    def _obey(self) -> None:
        """Do what was asked for; while nothing is read, wait for it."""
        try:
            command = self._commands.get(timeout=0.5) if not self._epochs else self._commands.get_nowait()
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _run(self) -> None:
        while not self._stop:
            raw: list[Raw] = []
            try:
                self._obey()
                first = self._consumer.poll(_POLL_SECONDS if self._epochs else 0)
                if first is None:
                    continue
                raw.append(first)
                raw += self._consumer.consume(_TAKE, 0)
            except (KafkaException, RuntimeError) as error:
                if not self._stop:
                    self._log.warning("kafka_read_failed", error=str(error))
            if raw:
                self._hand_over([(m, self._epochs.get((m.topic() or "", m.partition() or 0), 0)) for m in raw])
        try:
            self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            self._log.warning("kafka_close_failed", error=str(error))
        # Also what came too late to be done: it is told so.
        while not self._commands.empty():
            try:
                self._commands.get()()
            except (KafkaException, RuntimeError):
                continue

    def _hand_over(self, taken: Taken) -> None:
        self._room.clear()
        if not self._tell(partial(self._take_in, taken)):
            return
        # The loop takes its time: what it has not taken in must not pile up.
        while not self._room.wait(_POLL_SECONDS) and not self._stop:
            pass

    def _tell(self, call: Callable[[], None]) -> bool:
        """Whether the event loop is still there to be told."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._stop = True
            return False
        return True

    # In the event loop

    def _take_in(self, taken: Taken) -> None:
        self._room.set()
        if not self._stop:
            self._receive(taken)
