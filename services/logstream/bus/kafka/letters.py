"""Dead letters that are there already: a letter published again after a crash is found, not repeated.

A letter's claim stands in its record's header. Before one is published, what its partition has got since the
last look is read, the first time its newest part.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from logstream.bus.header import NO_KEY, MalformedRecord, decode
from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.kafka.tails import read_at
from logstream.bus.protocol import Claim, Published, Topic
from logstream.settings import MIB, KafkaSettings

_NEWEST = 20_000
"""Records of a partition that are looked at, and remembered."""
_READ_BYTES = 2 * MIB


@dataclass(slots=True)
class _Known:
    """Letters of one partition up to `next`, by claim."""

    next: int = -1
    offsets: "OrderedDict[bytes, int]" = field(default_factory=OrderedDict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, key: bytes, offset: int) -> None:
        if key != NO_KEY:
            self.offsets.setdefault(key, offset)
            if len(self.offsets) > _NEWEST:
                self.offsets.popitem(last=False)


class Letters:
    """Used from one event loop. Memory: about 3 MB for each dead-letter partition written to."""

    def __init__(self, settings: KafkaSettings, faults: Faults, admin: Admin) -> None:
        self._settings = settings
        self._faults = faults
        self._admin = admin
        self._fetcher: Fetcher | None = None
        self._known: dict[tuple[int, int], _Known] = {}

    async def publish(
        self, topic: Topic, partition: int, claim: Claim, append: Callable[[], Awaitable[Published]]
    ) -> Published:
        """`append`, unless a letter of this claim is in the partition. Raises BusUnavailable, and what it does."""
        known = self._known.setdefault((topic.incarnation, partition), _Known())
        async with known.lock:
            await self._catch_up(topic, partition, known)
            offset = known.offsets.get(claim.key)
            if offset is not None:
                return Published(partition, offset, duplicate=True)
            published = await append()
            known.add(claim.key, published.offset)
            if published.offset == known.next:
                known.next += 1
            return published

    def forget_all_but(self, incarnations: Collection[int]) -> None:
        """Topics that are gone need no memory."""
        for place, known in list(self._known.items()):
            if place[0] not in incarnations and not known.lock.locked():
                del self._known[place]

    async def _catch_up(self, topic: Topic, partition: int, known: _Known) -> None:
        [offsets] = await self._admin.offsets(topic.name, [partition])
        if known.next < 0:
            known.next = max(offsets.beginning, offsets.end - _NEWEST)
        known.next = max(known.next, offsets.beginning)
        if known.next >= offsets.end:
            return
        if self._fetcher is None:
            self._fetcher = Fetcher(self._settings, self._faults, self._admin, buffer_bytes=_READ_BYTES)
        place = (topic.name, partition)
        while known.next < offsets.end:
            found = await read_at(
                self._fetcher, self._admin, place, known.next,
                max_bytes=_READ_BYTES, wait=self._settings.request_timeout_seconds, until=offsets.end,
            )  # fmt: skip
            if not found:
                cursor = self._fetcher.cursor(place)
                if cursor is not None and cursor.next >= offsets.end:
                    # The rest cannot be read.
                    known.next = offsets.end
                    break
                raise self._faults.unreachable(f"reading {topic.name}/{partition}")
            for message in found:
                try:
                    header, _ = decode(message.value)
                except MalformedRecord:
                    continue
                known.add(header.idempotency_key, message.offset)
            known.next = found[-1].offset + 1
        await self._fetcher.forget(place)

    async def close(self) -> None:
        if self._fetcher is not None:
            await self._fetcher.close()
