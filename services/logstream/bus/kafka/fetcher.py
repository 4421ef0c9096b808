"""Reading partitions: one librdkafka consumer for any number of them, bounded in bytes.

A thread takes what librdkafka has read and hands it to the event loop, where it lies until it is asked for. A
partition of which much lies there is paused, so the others go on and the memory stays bounded; librdkafka then
drops what it has read ahead of it and reads it again later.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Raw

from logstream.bus.kafka import config
from logstream.bus.kafka.faults import Faults, error_of, started
from logstream.bus.protocol import Message
from logstream.errors import BusUnavailable, LogStreamError
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_POLL_SECONDS = 0.05
"""Longest time that a move waits for the thread; data wakes it at once."""
_TAKE = 256
"""Messages taken at once; bounds what is between the thread and the loop."""
_ATTEMPTS = 3
_DAMAGED = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG})

Place = tuple[str, int]
"""Topic and partition."""


class Gone(LogStreamError):
    """The offset to read is not in the partition (any more)."""

    code = "offset_gone"


class Cursor:
    """One partition being read. `records` are consecutive and end before `next`, the offset to come."""

    __slots__ = (
        "bytes", "damaged", "epoch", "fault", "gaps", "grown", "keep", "next", "paused", "place", "records", "used_at",
    )  # fmt: skip

    def __init__(self, place: Place, offset: int, keep: bool) -> None:
        self.place = place
        self.keep = keep
        self.next = offset
        self.records: deque[Message] = deque()
        self.bytes = 0
        self.paused = False
        self.epoch = 0
        self.damaged = 0
        self.gaps = 0
        self.fault: LogStreamError | None = None
        self.grown: asyncio.Future[None] | None = None
        self.used_at = 0.0

    @property
    def first(self) -> int:
        """Offset of the oldest record that lies here."""
        return self.records[0].offset if self.records else self.next

    def wake(self) -> None:
        if self.grown is not None:
            if not self.grown.done():
                self.grown.set_result(None)
            self.grown = None

    def drop_before(self, offset: int) -> None:
        while self.records and self.records[0].offset < offset:
            self.bytes -= len(self.records.popleft().value)

    def take(self, offset: int, max_bytes: int) -> list[Message]:
        """From `offset` on: at least one when there is one, then no more than `max_bytes`."""
        found: list[Message] = []
        for message in reversed(self.records):
            if message.offset < offset:
                break
            found.append(message)
        found.reverse()
        size = 0
        for count, message in enumerate(found):
            size += len(message.value)
            if count and size > max_bytes:
                return found[:count]
        return found


class Fetcher:
    """Used from one event loop.

    buffer_bytes: of all cursors together; as much again may lie in librdkafka, and one record more.
    keep: cursors keep their newest records for other readers and forget the oldest ones, and are never paused.
    fill: offsets without a record at the end of a partition are told by a record of no bytes at the last of them, for
    readers that read up to an end they were told. Others see that the cursor's `next` went on.
    """

    def __init__(
        self, settings: KafkaSettings, faults: Faults, *, buffer_bytes: int, keep: bool = False, fill: bool = False
    ) -> None:
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._buffer_bytes = buffer_bytes
        self.patience = settings.request_timeout_seconds
        """How long records that are known to be there may take, seconds."""
        self._keep = keep
        self._fill = fill
        self._consumer: Consumer = started(
            Consumer,
            config.client(settings, on_error=faults.note) | config.reader(settings, buffer_bytes=buffer_bytes),
        )
        self._cursors: dict[Place, Cursor] = {}
        self._epoch = 0
        self._epochs: dict[Place, int] = {}
        """The thread's: what was read before a seek is told from what is read after it."""
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = False
        self._log = get_logger("bus")
        self._moving = asyncio.Lock()
        self._room = threading.Event()
        self._room.set()
        self._thread = threading.Thread(target=self._run, name="kafka-fetcher", daemon=True)
        self._thread.start()

    def cursor(self, place: Place) -> Cursor | None:
        return self._cursors.get(place)

    @property
    def cursors(self) -> Sequence[Cursor]:
        return tuple(self._cursors.values())

    @property
    def _held(self) -> int:
        """Bytes of all cursors."""
        return sum(cursor.bytes for cursor in self._cursors.values())

    async def move(self, place: Place, offset: int) -> Cursor:
        """Read `place` from `offset` on. Raises BusUnavailable."""
        async with self._moving:
            cursor = self._cursors.get(place)
            if cursor is not None and cursor.first <= offset <= cursor.next and cursor.fault is None:
                return cursor
            self._epoch += 1
            fresh = Cursor(place, offset, self._keep)
            fresh.epoch = self._epoch
            if cursor is not None:
                cursor.wake()
            self._cursors[place] = fresh
            try:
                await self._call(self._seek, place, offset, self._epoch)
            except LogStreamError:
                # Nothing would ever come to it.
                self._cursors.pop(place, None)
                raise
            return fresh

    async def forget(self, place: Place) -> None:
        """Read it no longer; nobody may be waiting for it."""
        async with self._moving:
            cursor = self._cursors.pop(place, None)
            if cursor is not None:
                cursor.wake()
                await self._call(self._unassign, place)

    def _seek(self, place: Place, offset: int, epoch: int) -> None:
        self._unassign(place)
        partition = TopicPartition(*place, offset)
        self._consumer.incremental_assign([partition])
        self._epochs[place] = epoch
        self._consumer.resume([partition])

    def _unassign(self, place: Place) -> None:
        if self._epochs.pop(place, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(*place)])

    async def _call(self, call: Callable[..., object], *arguments: object) -> None:
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
                call(*arguments)
            except Exception as error:
                failure = error
            self._loop.call_soon_threadsafe(settle, failure)

        self._commands.put(run)
        try:
            await done
        except RuntimeError as failure:
            raise BusUnavailable("reading the log: it is closed") from failure
        except KafkaException as failure:
            error = error_of(failure)
            what = "reading the log"
            raise (self._faults.map(error, what) if error else BusUnavailable(f"{what}: {failure}")) from failure

    async def read(
        self, cursor: Cursor, offset: int, *, max_bytes: int, wait: float, until: int | None = None
    ) -> Sequence[Message]:
        """What lies at `cursor` from `offset` on, after up to `wait` seconds; empty too when it was moved away.

        until: not awaited when it turns out that nothing is there before this offset.
        Raises what went wrong with the partition.
        """
        deadline = self._loop.time() + wait
        while True:
            if self._stop:
                raise BusUnavailable("the log is closed")
            if not self._keep:
                cursor.drop_before(offset)
                await self._resume(cursor)
            if cursor.next > offset:
                found = cursor.take(offset, max_bytes)
                if found:
                    return found
            if cursor.fault is not None:
                raise cursor.fault
            remaining = deadline - self._loop.time()
            if until is not None and cursor.next >= until:
                return ()
            if remaining <= 0 or self._cursors.get(cursor.place) is not cursor:
                return ()
            if cursor.grown is None:
                cursor.grown = self._loop.create_future()
            await asyncio.wait((cursor.grown,), timeout=remaining)

    async def _resume(self, cursor: Cursor) -> None:
        share = self._buffer_bytes // max(1, len(self._cursors))
        if cursor.paused and (4 * cursor.bytes <= share or 4 * self._held <= self._buffer_bytes):
            cursor.paused = False
            async with self._moving:
                if self._cursors.get(cursor.place) is cursor:
                    await self._call(self._consumer.resume, [TopicPartition(*cursor.place)])

    # In the fetcher's thread

    def _pause(self, place: Place) -> None:
        if place in self._epochs:
            self._consumer.pause([TopicPartition(*place)])

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
            try:
                self._obey()
                first = self._consumer.poll(_POLL_SECONDS if self._epochs else 0)
                if first is None:
                    continue
                raw = [first, *self._consumer.consume(_TAKE, 0)]
            except (KafkaException, RuntimeError) as error:
                if not self._stop:
                    self._log.warning("kafka_read_failed", error=str(error))
                continue
            self._room.clear()
            taken = [
                (message, self._epochs.get((message.topic() or "", message.partition() or 0), 0)) for message in raw
            ]
            try:
                self._loop.call_soon_threadsafe(self._receive, taken)
            except RuntimeError:
                return
            # The loop takes its time: what it has not taken in must not pile up.
            while not self._room.wait(_POLL_SECONDS) and not self._stop:
                pass

    # In the event loop

    def _receive(self, taken: "list[tuple[Raw, int]]") -> None:
        self._room.set()
        touched: dict[Place, Cursor] = {}
        for raw, epoch in taken:
            place = (raw.topic() or "", raw.partition() or 0)
            cursor = self._cursors.get(place)
            if cursor is None or cursor.epoch != epoch:
                continue
            touched[place] = cursor
            error = raw.error()
            if error is not None:
                self._fail(cursor, error, raw.offset())
                continue
            offset, value = raw.offset(), raw.value()
            if offset is None or offset < cursor.next:
                continue
            message = Message(place[1], offset, value if isinstance(value, bytes) else b"")
            if offset > cursor.next:
                self._gap(cursor, offset)
            cursor.records.append(message)
            cursor.bytes += len(message.value)
            cursor.next = offset + 1
            cursor.fault = None
            cursor.damaged = 0
        for cursor in touched.values():
            self._bound(cursor)
            cursor.wake()

    def _fail(self, cursor: Cursor, error: KafkaError, offset: int | None) -> None:
        topic, partition = cursor.place
        if error.code() in (KafkaError._PARTITION_EOF,):
            if offset is not None and offset > cursor.next:
                self._gap(cursor, offset)
                if self._fill:
                    cursor.records.append(Message(partition, offset - 1, b""))
                cursor.next = offset
            return
        if error.code() in _DAMAGED:
            self._pass_over(cursor, error)
            return
        self._log.warning(
            "kafka_partition_fault", topic=topic, partition=partition, offset=offset, reason=error.name(),
            error=error.str(),
        )  # fmt: skip
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            cursor.fault = Gone(f"offset {cursor.next} of {topic!r}/{partition} is not there")
            return
        cursor.fault = self._faults.map(error, f"reading {topic!r}/{partition}")

    def _gap(self, cursor: Cursor, end: int) -> None:
        """Nothing lies from the cursor's next offset to `end`. Told once: a compacted topic is full of that."""
        if not cursor.gaps:
            self._log.warning(
                "offsets_without_records", topic=cursor.place[0], partition=cursor.place[1], first=cursor.next,
                last=end - 1, reason="marks of somebody's transactions, or records that compaction took",
            )  # fmt: skip
        cursor.gaps += 1

    def _pass_over(self, cursor: Cursor, error: KafkaError) -> None:
        """librdkafka asks for a damaged batch again for ever: go on behind it, one offset at a time.

        Only when it stays damaged: it may have been damaged on the way.
        """
        cursor.damaged += 1
        if cursor.damaged < _ATTEMPTS:
            return
        topic, partition = cursor.place
        self._log.error(
            "record_cannot_be_read", topic=topic, partition=partition, offset=cursor.next, reason=error.name(),
            error=error.str(),
        )  # fmt: skip
        cursor.next += 1
        self._epoch += 1
        cursor.epoch = self._epoch
        self._commands.put(partial(self._seek, cursor.place, cursor.next, cursor.epoch))

    def _bound(self, cursor: Cursor) -> None:
        share = self._buffer_bytes // max(1, len(self._cursors))
        if self._keep:
            while cursor.bytes > share and len(cursor.records) > 1:
                cursor.bytes -= len(cursor.records.popleft().value)
        elif not cursor.paused and 2 * cursor.bytes > share and 2 * self._held > self._buffer_bytes:
            # Who is below half a share goes on, which is no more than the other half of all bytes.
            cursor.paused = True
            self._commands.put(partial(self._pause, cursor.place))

    async def close(self) -> None:
        self._stop = True
        for cursor in self._cursors.values():
            cursor.wake()
        self._commands.put(lambda: None)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.join()
        while not self._commands.empty():
            self._commands.get()()
        self._consumer.close()
