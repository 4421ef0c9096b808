"""One reader for many who read: the newest records of each partition in memory, older ones from Kafka again.

A partition that somebody reads is followed from its end on by the one `Fetcher` for all partitions. Who reads
further back has a turn with one of a few others, and goes on where it stood when its turn comes again.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.cursor import Cursor, Gone, Place
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.protocol import Message
from logstream.errors import BusUnavailable, LogStreamError, OffsetOutOfRange
from logstream.settings import MIB, KafkaSettings

_BEHIND = 3
"""Readers of older records that work side by side."""
_BEHIND_BYTES = 4 * MIB
_IDLE_SECONDS = 60.0


async def require_offset(admin: Admin, place: Place, offset: int) -> None:
    """Raises OffsetOutOfRange when the partition has no such place, NotFound, BusUnavailable."""
    [offsets] = await admin.offsets(place[0], [place[1]])
    if not offsets.beginning <= offset <= offsets.end:
        raise OffsetOutOfRange(
            f"offset {offset} of {place[0]}/{place[1]} is outside {offsets.beginning} to {offsets.end}",
            beginning=offsets.beginning, end=offsets.end,
        )  # fmt: skip


async def read_at(
    fetcher: Fetcher, admin: Admin, place: Place, offset: int, *, max_bytes: int, wait: float, until: int | None = None
) -> Sequence[Message]:
    """As `Bus.read`, by moving `fetcher` there if need be. until: as `Fetcher.read`."""
    cursor = fetcher.cursor(place)
    if cursor is None or cursor.fault is not None or not cursor.first <= offset <= cursor.next:
        await require_offset(admin, place, offset)
        cursor = await fetcher.move(place, offset)
        # What is there already is on its way: an empty answer would be wrong.
        [end] = await admin.ends(place[0], [place[1]])
        if offset < end:
            wait = max(wait, fetcher.patience)
    try:
        return await fetcher.read(cursor, offset, max_bytes=max_bytes, wait=wait, until=until)
    except Gone:
        await require_offset(admin, place, offset)
        raise BusUnavailable(f"reading {place[0]}/{place[1]} from {offset} did not work: ask again") from None


@dataclass(slots=True, eq=False)
class _Behind:
    """A reader of older records. One at a time."""

    fetcher: Fetcher
    busy: bool = False
    used_at: float = field(default=0.0)


class Tails:
    """`Bus.read` for any number of readers. Used from one event loop."""

    def __init__(self, settings: KafkaSettings, faults: Faults, admin: Admin) -> None:
        self._settings = settings
        self._faults = faults
        self._admin = admin
        self._loop = asyncio.get_running_loop()
        self._head: Fetcher | None = None
        self._behind: list[_Behind] = []
        self._turns = asyncio.Semaphore(_BEHIND)
        self._following: dict[Place, asyncio.Lock] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, place: Place, offset: int, *, max_bytes: int, wait: float) -> Sequence[Message]:
        """As `Bus.read`."""
        head = await self._follow(place, offset)
        assert self._head is not None
        head.used_at = self._loop.time()
        if offset < head.first:
            return await self._read_behind(place, offset, max_bytes=max_bytes)
        if offset > head.next:
            await require_offset(self._admin, place, offset)
        try:
            return await self._head.read(head, offset, max_bytes=max_bytes, wait=wait)
        except Gone:
            await require_offset(self._admin, place, offset)
            raise BusUnavailable(f"reading {place[0]}/{place[1]} from {offset} did not work: ask again") from None

    async def _follow(self, place: Place, offset: int) -> Cursor:
        """The cursor at the newest records of `place`."""
        if self._closed:
            raise BusUnavailable("the log is closed")
        if self._head is None:
            self._head = Fetcher(
                self._settings, self._faults, self._admin,
                buffer_bytes=self._settings.read_buffer_bytes, keep=True, fill=True,
            )  # fmt: skip
            self._tidying = self._loop.create_task(self._tidy())
        async with self._following.setdefault(place, asyncio.Lock()):
            head = self._head.cursor(place)
            if head is not None and head.fault is None:
                return head
            await require_offset(self._admin, place, offset)
            [end] = await self._admin.ends(place[0], [place[1]])
            return await self._head.move(place, end)

    async def _read_behind(self, place: Place, offset: int, *, max_bytes: int) -> Sequence[Message]:
        async with self._turns:
            if self._closed:
                raise BusUnavailable("the log is closed")
            behind = self._choose(place, offset)
            behind.busy = True
            # Whoever waits for an answer may give up at any moment: then the turn must not be lost.
            try:
                if not _stands(behind.fetcher, place, offset):
                    for cursor in behind.fetcher.cursors:
                        await behind.fetcher.forget(cursor.place)
                return await read_at(
                    behind.fetcher, self._admin, place, offset,
                    max_bytes=max_bytes, wait=self._settings.request_timeout_seconds,
                )  # fmt: skip
            finally:
                behind.busy = False
                behind.used_at = self._loop.time()

    def _choose(self, place: Place, offset: int) -> _Behind:
        """A free reader: one that stands there, else a new one, else the one that was not used for longest."""
        free = [behind for behind in self._behind if not behind.busy]
        standing = [behind for behind in free if _stands(behind.fetcher, place, offset)]
        if not standing and len(self._behind) < _BEHIND:
            made = _Behind(Fetcher(self._settings, self._faults, self._admin, buffer_bytes=_BEHIND_BYTES, fill=True))
            self._behind.append(made)
            return made
        return min(standing or free, key=lambda behind: behind.used_at)

    async def _tidy(self) -> None:
        """Let go of what nobody reads any more."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS / 4)
            before = self._loop.time() - _IDLE_SECONDS
            idle = [b for b in self._behind if not b.busy and b.used_at < before]
            self._behind = [b for b in self._behind if b not in idle]
            for behind in idle:
                await behind.fetcher.close()
            if self._head is not None:
                for cursor in self._head.cursors:
                    if cursor.used_at < before and cursor.grown is None:
                        # One that cannot be let go of now is, next time.
                        with contextlib.suppress(LogStreamError):
                            await self._head.forget(cursor.place)

    async def close(self) -> None:
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        fetchers = [b.fetcher for b in self._behind] + ([self._head] if self._head is not None else [])
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers))


def _stands(fetcher: Fetcher, place: Place, offset: int) -> bool:
    cursor = fetcher.cursor(place)
    return cursor is not None and cursor.fault is None and cursor.first <= offset <= cursor.next
