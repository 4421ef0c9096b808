"""One tail client: its queue, its gaps, its catching up. The shared reader is `logstream.query.tail`."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from logstream.errors import LogStreamError, OffsetOutOfRange, TooLarge
from logstream.metrics import TAIL_GAPS, TAIL_SENT
from logstream.query.cursor import BEGINNING, Cursor, Position, Positions, moved
from logstream.query.filter import LogFilter
from logstream.query.frames import Frame, Gap, Heartbeat, Lines, Piece, match
from logstream.query.pieces import cut
from logstream.record import Batch

if TYPE_CHECKING:
    from logstream.query.tail import Tail

QUEUE_BYTES = 4 * 1024 * 1024
"""Characters waiting for one client; like `tail_queue_records`, what exceeds it becomes a gap."""
_CATCH_UP_BYTES = 256 * 1024
_CATCH_UP_LINES = 1_000


class TailClient:
    """One client's view: `frames()` until it ends.

    positions: behind the last line that was queued or sent. overrun: it ended because it was too slow.
    """

    def __init__(self, tail: "Tail", logs: LogFilter, *, lossless: bool) -> None:
        self.logs = logs
        self.positions: Positions = ()
        self.overrun = False
        self._tail = tail
        self._lossless = lossless
        self._queue: deque[Lines | Gap] = deque()
        self._queued_records = 0
        self._queued_bytes = 0
        self._dropping = False
        self._joined = False
        self._ended = False
        self._lost = False
        self._refusal: LogStreamError | None = None
        self._changed = asyncio.Event()

    def begin(self, cursor: Cursor | None, ends: Positions) -> None:
        """Stand where `cursor` says, or at the shared reader. Called once, by `Tail.open`.

        ends: where the next record of each partition will be.
        """
        if cursor is None:
            self.positions = self._tail.positions
            self._joined = self._tail.join(self)
        elif cursor.incarnation != self._tail.topic.incarnation:
            # The log was made anew since: what it held before is gone, what it holds now is all new to the client.
            self._lost = True
            self.positions = (BEGINNING,) * len(ends)
        else:
            asked = (cursor.positions + (BEGINNING,) * len(ends))[: len(ends)]
            # A log that ends before the cursor has lost its end (an old copy was restored): go on from there.
            self.positions = tuple(map(min, asked, ends))
            self._lost = self.positions != asked

    # Called by the shared reader

    def take(self, lines: Lines, positions: Positions) -> None:
        """Queue `lines`, or count them as dropped; the client now stands at `positions`."""
        self.positions = positions
        if not lines.records or self._ended:
            return
        if self._has_room(lines):
            self._dropping = False
            self._queue.append(lines)
            self._queued_records += lines.records
            self._queued_bytes += lines.size
        elif self._lossless:
            self.overrun = True
            self.end()
            return
        else:
            self._drop(lines)
        self._changed.set()

    def _has_room(self, lines: Lines) -> bool:
        if not self._queue:
            return True
        # Once it drops, it drops until half the queue is free: few long gaps are easier to live with than many.
        share = 2 if self._dropping else 1
        return (
            self._queued_records + lines.records <= self._tail.queue_records // share
            and self._queued_bytes + lines.size <= QUEUE_BYTES // share
        )

    def _drop(self, lines: Lines) -> None:
        self._dropping = True
        last = self._queue[-1]
        if isinstance(last, Gap):
            last.records = (last.records or 0) + lines.records
            last.cursor = lines.cursor
        else:
            self._queue.append(Gap(lines.records, lines.cursor))

    def detach(self) -> None:
        """The shared reader left a hole: catch up again once the queue is sent."""
        self._joined = False
        self._changed.set()

    def end(self) -> None:
        """No more frames after those that are queued; none at all when it was overrun."""
        self._ended = True
        self._changed.set()

    def refuse(self, error: LogStreamError) -> None:
        """`end`; whoever takes the frames then gets `error`."""
        self._refusal = error
        self.end()

    # Called by the connection

    async def frames(self, heartbeat: float) -> AsyncGenerator[Frame]:
        """Every frame, in order, beginning with a heartbeat; another one after `heartbeat` seconds of silence.

        Raises StoreUnavailable or BusUnavailable while catching up, and TooExpensive for a filter that holds up others.
        """
        yield Heartbeat(self._cursor())
        if self._lost:
            self._lost = False
            yield Gap(None, self._cursor())
        while not self.overrun:
            if self._queue:
                yield self._pop()
            elif self._ended:
                if self._refusal is not None:
                    raise self._refusal
                return
            elif not self._joined:
                async with aclosing(self._catch_up(heartbeat)) as frames:
                    async for frame in frames:
                        yield frame
            elif not await self._wait(heartbeat):
                yield Heartbeat(self._cursor())

    def close(self) -> None:
        """Leave. Idempotent."""
        self.end()
        self._queue.clear()
        self._tail.release(self)

    def _cursor(self) -> str:
        return self._tail.cursor(self.positions)

    async def _wait(self, seconds: float) -> bool:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
                return True
        return False

    def _pop(self) -> Lines | Gap:
        frame = self._queue.popleft()
        stream = self._tail.stream.name
        if isinstance(frame, Lines):
            self._queued_records -= frame.records
            self._queued_bytes -= frame.size
            TAIL_SENT.labels(stream).inc(frame.records)
        else:
            TAIL_GAPS.labels(stream).inc(frame.records or 0)
        return frame

    async def _catch_up(self, heartbeat: float) -> AsyncGenerator[Frame]:
        """What lies between this client and the shared reader; then it is joined."""
        tail = self._tail
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        while not self._ended:
            await asyncio.sleep(0)  # reads from memory and sends into an empty socket never wait by themselves
            if loop.time() - quiet_since >= heartbeat:
                quiet_since = loop.time()
                yield Heartbeat(self._cursor())
            if tail.join(self):
                self._joined = True
                return
            for partition, position in enumerate(self.positions):
                if position >= tail.positions[partition]:
                    continue
                try:
                    messages = await tail.bus.read(
                        tail.topic.name, partition, position.offset, max_bytes=_CATCH_UP_BYTES
                    )
                except OffsetOutOfRange as error:
                    if position.offset < error.beginning:
                        async with aclosing(self._replay(partition, error.beginning)) as frames:
                            async for frame in frames:
                                yield frame
                    continue
                for message in messages:
                    async for piece, after in cut(message, self.positions[partition]):
                        self.positions = moved(self.positions, partition, after)
                        if piece is not None and (matched := match(self.logs, [piece])):
                            yield self._sent(matched)

    async def _replay(self, partition: int, end: int) -> AsyncGenerator[Frame]:
        """Stored lines up to the offset `end`, page by page."""
        limit = _CATCH_UP_LINES
        while self.positions[partition].offset < end and not self._ended:
            try:
                page = await self._tail.reader.replay(
                    self._tail.stream,
                    self.logs,
                    incarnation=self._tail.topic.incarnation,
                    partition=partition,
                    start=self.positions[partition],
                    end=end,
                    limit=limit,
                )
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)
                continue
            last = page[-1] if len(page) == limit else None
            after = Position(last.offset, last.row + 1) if last else Position(end)
            self.positions = moved(self.positions, partition, after)
            if page:
                batch = Batch.of([stored.record for stored in page])
                piece = Piece(page[0].offset, page[0].row, batch)
                yield self._sent([(piece, row) for row in range(len(batch))])

    def _sent(self, matched: Sequence[tuple[Piece, int]]) -> Lines:
        TAIL_SENT.labels(self._tail.stream.name).inc(len(matched))
        return Lines(matched, self._cursor())
