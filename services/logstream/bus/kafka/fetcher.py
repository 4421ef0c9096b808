"""Reading partitions: one librdkafka consumer for any number of them, bounded in bytes.

A thread takes what librdkafka has read and hands it to the event loop, where it lies until it is asked for. A
partition of which much lies there is paused, so the others go on and the memory stays bounded; librdkafka then
drops what it has read ahead of it and reads it again later.

A consumer that gives nothing of a partition though the brokers answer, and say that there is more, is made anew.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from confluent_kafka import KafkaError

from logstream import metrics
from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.cursor import Cursor, Gone, Place
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.pump import Pump, Taken
from logstream.bus.kafka.silence import Silence
from logstream.bus.protocol import Message
from logstream.errors import BusUnavailable, LogStreamError
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_ATTEMPTS = 3
_DAMAGED = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG})
_LOOKS = 2
"""Looks for silence in the time that records may take."""
_USED = 3
"""Times that time, after which a partition that nobody read is not looked at."""


class Fetcher:
    """Used from one event loop.

    buffer_bytes: of all cursors together; as much again may lie in librdkafka, and one record more.
    keep: cursors keep their newest records for other readers and forget the oldest ones, and are never paused.
    fill: offsets at the end of a partition that have no record, or none that can be read, are told by a record of no
    bytes at the last of them, for readers that read up to an end they were told. Others see that `next` went on.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        faults: Faults,
        admin: Admin,
        *,
        buffer_bytes: int,
        keep: bool = False,
        fill: bool = False,
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._admin = admin
        self._loop = asyncio.get_running_loop()
        self._buffer_bytes = buffer_bytes
        self.patience = settings.request_timeout_seconds
        """How long records that are known to be there may take, seconds."""
        self._keep = keep
        self._fill = fill
        self._cursors: dict[Place, Cursor] = {}
        self._epoch = 0
        self._stop = False
        self._log = get_logger("bus")
        self._moving = asyncio.Lock()
        self._silence = Silence(self.patience)
        self._pump = self._new_pump()
        self._left: list[Pump] = []
        self._watching = self._loop.create_task(self._watch())

    def _new_pump(self) -> Pump:
        return Pump(self._settings, self._faults, buffer_bytes=self._buffer_bytes, receive=self._receive)

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
            self._require_open()
            cursor = self._cursors.get(place)
            if cursor is not None and cursor.first <= offset <= cursor.next and cursor.fault is None:
                return cursor
            fresh = Cursor(place, offset, self._keep)
            fresh.epoch = self._next_epoch()
            fresh.used_at = self._loop.time()
            if cursor is not None:
                cursor.wake()
            self._cursors[place] = fresh
            try:
                await self._pump.seek(place, offset, fresh.epoch)
            except LogStreamError:
                # Nothing would ever come to it.
                if self._cursors.get(place) is fresh:
                    del self._cursors[place]
                raise
            return fresh

    async def forget(self, place: Place) -> None:
        """Read it no longer; nobody may be waiting for it."""
        async with self._moving:
            cursor = self._cursors.pop(place, None)
            if cursor is not None:
                cursor.wake()
                await self._pump.unassign(place)

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _require_open(self) -> None:
        if self._stop:
            raise BusUnavailable("the log is closed")

    async def read(
        self, cursor: Cursor, offset: int, *, max_bytes: int, wait: float, until: int | None = None
    ) -> Sequence[Message]:
        """What lies at `cursor` from `offset` on, after up to `wait` seconds; empty too when it was moved away.

        until: not awaited when it turns out that nothing is there before this offset.
        Raises what went wrong with the partition.
        """
        deadline = self._loop.time() + wait
        while True:
            self._require_open()
            cursor.used_at = self._loop.time()
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
            async with self._moving:
                if self._cursors.get(cursor.place) is cursor:
                    # Not before: who waits for the lock may give up, and nobody would resume it.
                    cursor.paused = False
                    await self._pump.resume(cursor.place)

    # A consumer that gives nothing

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.patience / _LOOKS)
            try:
                silent = await self._silent()
                if silent or self._pump.stuck:
                    self._renew(silent)
            except Exception as error:
                self._log.exception("kafka_reader_not_watched", error=str(error))

    async def _silent(self) -> Sequence[Place]:
        """Where records are that do not come, though somebody reads there."""
        before = self._loop.time() - _USED * self.patience
        waiting = [
            cursor for cursor in self._cursors.values()
            if cursor.fault is None and not cursor.paused and cursor.used_at >= before
        ]  # fmt: skip
        ends: dict[Place, int] = {}
        for topic in {cursor.place[0] for cursor in waiting}:
            partitions = [cursor.place[1] for cursor in waiting if cursor.place[0] == topic]
            # Of what the brokers do not tell, nothing is known: it may be them.
            with contextlib.suppress(LogStreamError):
                found = await self._admin.ends(topic, partitions)
                ends |= {(topic, partition): end for partition, end in zip(partitions, found, strict=True)}
        nexts = {cursor.place: cursor.next for cursor in waiting if self._cursors.get(cursor.place) is cursor}
        return self._silence.look(self._loop.time(), nexts, ends)

    def _renew(self, silent: Sequence[Place]) -> None:
        """Go on with another consumer, each cursor where it stands. Raises StartupError."""
        if self._stop:
            return
        old, self._pump = self._pump, self._new_pump()
        for cursor in self._cursors.values():
            cursor.epoch = self._next_epoch()
            cursor.paused = False
            # One with a fault is moved by whoever reads it next.
            if cursor.fault is None:
                self._pump.seek_soon(cursor.place, cursor.next, cursor.epoch)
        old.abandon()
        self._left = [*(pump for pump in self._left if not pump.ended), old]
        metrics.BUS_CLIENTS_RENEWED.labels("reader").inc()
        self._log.error(
            "kafka_reader_made_anew", silent=[f"{topic}/{partition}" for topic, partition in silent],
            partitions=len(self._cursors), reason=old.stuck or "gave nothing of what is there",
        )  # fmt: skip

    # In the event loop

    def _receive(self, taken: Taken) -> None:
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
            if offset is not None:
                self._reach_end(cursor, offset)
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

    def _reach_end(self, cursor: Cursor, end: int) -> None:
        if end > cursor.next:
            self._gap(cursor, end)
            cursor.next = end
        elif end != cursor.next or cursor.passed != end - 1:
            return
        cursor.passed = -1
        if self._fill:
            cursor.records.append(Message(cursor.place[1], end - 1, b""))

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
        metrics.BUS_UNREADABLE.labels(topic).inc()
        cursor.passed = cursor.next
        cursor.next += 1
        cursor.epoch = self._next_epoch()
        self._pump.seek_soon(cursor.place, cursor.next, cursor.epoch)

    def _bound(self, cursor: Cursor) -> None:
        share = self._buffer_bytes // max(1, len(self._cursors))
        if self._keep:
            while cursor.bytes > share and len(cursor.records) > 1:
                cursor.bytes -= len(cursor.records.popleft().value)
        elif not cursor.paused and 2 * cursor.bytes > share and 2 * self._held > self._buffer_bytes:
            # Who is below half a share goes on, which is no more than the other half of all bytes.
            cursor.paused = True
            self._pump.pause_soon(cursor.place)

    async def close(self) -> None:
        """Idempotent. What was given up has as long as one request, and ends by itself later."""
        self._stop = True
        self._watching.cancel()
        for cursor in self._cursors.values():
            cursor.wake()
        await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(pump.close() for pump in (*self._left, self._pump)))
