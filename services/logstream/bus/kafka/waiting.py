"""What is in flight: rows of the records behind a position, counted from their headers.

Kafka hands out whole records only, so what was counted is remembered, in chunks of about a megabyte: the next
count reads what was appended since, and the chunk in which the position lies.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from logstream.bus.header import MalformedRecord, decode_block
from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.kafka.tails import read_at
from logstream.bus.protocol import Topic, minute_of
from logstream.settings import MIB, KafkaSettings

_CHUNK_BYTES = MIB
_CHUNK_RECORDS = 256
_CHUNKS = 2_048
"""Of a partition; then neighbours are joined."""
_READ_BYTES = 4 * MIB

Rows = Counter[tuple[str, int]]
"""By API key and minute of received_at."""


@dataclass(slots=True)
class _Chunk:
    first: int
    end: int
    rows: Rows = field(default_factory=Counter)
    bytes: int = 0


@dataclass(slots=True)
class _Partition:
    """grain: size of new chunks, in megabytes."""

    chunks: list[_Chunk] = field(default_factory=list)
    grain: int = 1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def end(self) -> int:
        return self.chunks[-1].end if self.chunks else -1

    def forget_before(self, position: int) -> None:
        """A chunk in which `position` lies is counted again from there."""
        self.chunks = [chunk for chunk in self.chunks if chunk.end > position]
        if self.chunks and self.chunks[0].first < position:
            self.chunks[0] = _Chunk(position, position)

    def add(self, offset: int, size: int, rows: Mapping[tuple[str, int], int]) -> None:
        last = self.chunks[-1] if self.chunks else None
        if last is None:
            self.grain = 1
        full = last is not None and (
            last.bytes >= self.grain * _CHUNK_BYTES or offset - last.first >= self.grain * _CHUNK_RECORDS
        )
        if last is None or full:
            if len(self.chunks) >= _CHUNKS:
                self._join()
            last = _Chunk(offset, offset)
            self.chunks.append(last)
        last.end = offset + 1
        last.bytes += size
        last.rows.update(rows)

    def _join(self) -> None:
        """Two by two, and new ones as large from now on: counting one again must stay a small part of all."""
        self.grain *= 2
        joined: list[_Chunk] = []
        for number, chunk in enumerate(self.chunks):
            if number % 2:
                joined[-1] = _Chunk(
                    joined[-1].first, chunk.end, joined[-1].rows + chunk.rows, joined[-1].bytes + chunk.bytes
                )
            else:
                joined.append(chunk)
        self.chunks = joined


class Waiting:
    """Used from one event loop. Memory: 2,048 counters a partition, at most."""

    def __init__(self, settings: KafkaSettings, faults: Faults, admin: Admin) -> None:
        self._settings = settings
        self._faults = faults
        self._admin = admin
        self._fetcher: Fetcher | None = None
        self._partitions: dict[tuple[int, int], _Partition] = {}

    async def rows(
        self, topic: Topic, positions: Sequence[int], *, first_minute: int | None, end_minute: int | None
    ) -> Counter[str]:
        """By API key, of records received in [first_minute, end_minute). positions: by partition, from where on.

        Raises BusUnavailable.
        """
        offsets = await self._admin.offsets(topic.name, range(topic.partitions))
        counted = await asyncio.gather(*(
            self._count(topic, partition, max(position, bounds.beginning), bounds.end)
            for partition, (position, bounds) in enumerate(zip(positions, offsets, strict=True))
        ))  # fmt: skip
        found: Counter[str] = Counter()
        for rows in counted:
            for (key_id, minute), count in rows.items():
                if (first_minute is None or minute >= first_minute) and (end_minute is None or minute < end_minute):
                    found[key_id] += count
        return found

    def forget_all_but(self, incarnations: Collection[int]) -> None:
        """Topics that are gone need no memory."""
        for place, known in list(self._partitions.items()):
            if place[0] not in incarnations and not known.lock.locked():
                del self._partitions[place]

    async def _count(self, topic: Topic, partition: int, position: int, end: int) -> Rows:
        known = self._partitions.setdefault((topic.incarnation, partition), _Partition())
        async with known.lock:
            known.forget_before(position)
            if known.chunks and known.chunks[0].first > position:
                # Somebody went back.
                known.chunks.clear()
            if known.chunks and known.chunks[0].end == position and len(known.chunks) > 1:
                await self._scan(topic, partition, known, position, known.chunks[1].first)
            await self._scan(topic, partition, known, max(known.end, position), end)
            rows: Rows = Counter()
            for chunk in known.chunks:
                rows.update(chunk.rows)
            return rows

    async def _scan(self, topic: Topic, partition: int, known: _Partition, first: int, end: int) -> None:
        """Count the records from `first` to `end` (excluded) into their chunk."""
        if first >= end:
            return
        rest = known.chunks[1:] if known.chunks and known.end > first else []
        known.chunks = known.chunks[: len(known.chunks) - len(rest)]
        if self._fetcher is None:
            self._fetcher = Fetcher(self._settings, self._faults, self._admin, buffer_bytes=_READ_BYTES)
        place = (topic.name, partition)
        at = first
        try:
            while at < end:
                found = await read_at(
                    self._fetcher, self._admin, place, at,
                    max_bytes=_READ_BYTES, wait=self._settings.request_timeout_seconds, until=end,
                )  # fmt: skip
                if not found:
                    cursor = self._fetcher.cursor(place)
                    if cursor is not None and cursor.next >= end:
                        # The rest cannot be read.
                        break
                    raise self._faults.unreachable(f"counting {topic.name}/{partition}")
                for message in found:
                    if message.offset < end:
                        known.add(message.offset, len(message.value), _rows_of(message.value))
                at = found[-1].offset + 1
                await asyncio.sleep(0)
        except BaseException:
            # What was counted has a hole now.
            known.chunks.clear()
            raise
        finally:
            await self._fetcher.forget(place)
        known.chunks += rest

    async def close(self) -> None:
        if self._fetcher is not None:
            await self._fetcher.close()


def _rows_of(value: bytes) -> Rows:
    rows: Rows = Counter()
    try:
        header, _ = decode_block(value)
    except MalformedRecord:
        return rows
    minute = minute_of(header.received_at)
    for segment in header.segments:
        rows[segment.key_id, minute] += segment.rows
    return rows
