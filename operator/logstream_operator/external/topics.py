"""Topics by the semantics that Strimzi's KafkaTopic has made known.

The resource wins: settings that differ are set back, a topic that exists already is adopted. Only topics that are
named after a stream are touched. Fewer partitions than there are is refused, since Kafka cannot take any away; more
are added, and what that means for Idempotency-Keys is told. Another number of replicas is told, never faked.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logstream.bus.kafka import config
from logstream.bus.kafka.admin import Admin, Description
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.kafka.tails import read_at
from logstream.bus.protocol import Message, Offsets
from logstream.errors import BusUnavailable, NotFound
from logstream.settings import KafkaSettings
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.metrics import EXTERNAL_CHANGES

_HOUR_MS = 3_600_000
_APPEAR_SECONDS = 10.0
_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WantedTopics:
    """partitions and replication_factor: None where the resource does not say; a topic that is there then keeps its
    own, and a new one is made as the settings say."""

    stream: Stream
    partitions: int | None
    replication_factor: int | None
    retention_hours: float
    dead_letter_days: int


@dataclass(frozen=True, slots=True)
class TopicsState:
    """What there is now. changes: sentences for Events. warnings: what is not as wanted and is left so."""

    incarnation: int
    partitions: int
    replication_factor: int
    changes: Sequence[str] = ()
    warnings: Sequence[str] = ()


class Topics:
    """Of one Kafka. Every method may raise BusUnavailable. All calls from one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises StartupError for settings that are of no use."""
        self.settings = settings
        self.faults = Faults(settings.bootstrap_servers)
        self.admin = Admin(settings, self.faults)
        self.users: dict[str, str] = {}
        """What `logstream_operator.external.users` remembers of this Kafka."""
        self._fetcher: Fetcher | None = None
        self._reading = asyncio.Lock()

    async def ensure(self, wanted: WantedTopics) -> TopicsState:
        """Make and mend both topics of a stream. Raises Refused for fewer partitions than there are."""
        changes: list[str] = []
        warnings: list[str] = []
        stream = wanted.stream
        properties = config.topic(self.settings, letters=False)
        properties["retention.ms"] = str(int(wanted.retention_hours * _HOUR_MS))
        found = await self._ensure_one(
            stream.topic, wanted.partitions, wanted, properties, changes=changes, warnings=warnings
        )
        letters = config.topic(self.settings, letters=True, retention_days=wanted.dead_letter_days)
        # A letter is on the partition of its record's number.
        await self._ensure_one(
            stream.dead_letter_topic,
            found.topic.partitions,
            wanted,
            letters,
            changes=changes,
            warnings=warnings,
            letters=True,
        )
        if wanted.partitions is not None and wanted.partitions < found.topic.partitions:
            raise Refused(
                "PartitionDecrease",
                f"spec.topic.partitions is {wanted.partitions}, topic {stream.topic} has {found.topic.partitions}: "
                f"Kafka cannot take partitions away. Set it to {found.topic.partitions} or more, or make a new stream",
                field="spec.topic.partitions",
            )
        return TopicsState(
            found.topic.incarnation, found.topic.partitions, min(found.replicas), tuple(changes), tuple(warnings)
        )

    async def _ensure_one(
        self,
        name: str,
        partitions: int | None,
        wanted: WantedTopics,
        properties: dict[str, str],
        *,
        changes: list[str],
        warnings: list[str],
        letters: bool = False,
    ) -> Description:
        replicas = wanted.replication_factor or self.settings.replication_factor
        try:
            found = await self.admin.describe(name)
        except NotFound:
            # Else nothing would ever be acknowledged.
            properties["min.insync.replicas"] = str(min(replicas, self.settings.min_insync_replicas))
            count = self.settings.partitions if partitions is None else partitions
            await self.admin.create(name, count, properties, replication_factor=replicas)
            EXTERNAL_CHANGES.labels("topic_created").inc()
            changes.append(f"made topic {name} with {count} partitions and {replicas} replicas")
            return await self._settled(name, count)
        there = min(found.replicas)
        if wanted.replication_factor is not None and there != wanted.replication_factor and not letters:
            warnings.append(
                f"topic {name} has {there} replicas, spec.topic.replicationFactor is {wanted.replication_factor}: "
                "reassign its partitions with Kafka's own tools; LogStream does not move data"
            )
        properties["min.insync.replicas"] = str(min(there, self.settings.min_insync_replicas))
        await self._mend(name, properties, changes)
        if partitions is not None and partitions > found.topic.partitions:
            await self.admin.grow(name, partitions)
            EXTERNAL_CHANGES.labels("partitions_added").inc()
            changes.append(
                f"topic {name} has {partitions} partitions now, it had {found.topic.partitions}"
                + ("" if letters else ": an Idempotency-Key sent before may go to another one and be stored twice")
            )
            return await self._settled(name, partitions)
        return found

    async def _mend(self, name: str, properties: Mapping[str, str], changes: list[str]) -> None:
        there = await self.admin.properties(name)
        for key, value in properties.items():
            if there.get(key) != value:
                await self.admin.change(name, key, value)
                EXTERNAL_CHANGES.labels("topic_setting").inc()
                changes.append(f"{key} of topic {name} is {value} again or now, it was {there.get(key)}")

    async def _settled(self, name: str, partitions: int) -> Description:
        """Brokers tell each other about a new topic, which takes a moment."""
        try:
            async with asyncio.timeout(_APPEAR_SECONDS):
                while True:
                    try:
                        found = await self.admin.describe(name)
                        if found.topic.partitions >= partitions and all(found.in_sync):
                            return found
                    except NotFound:
                        pass
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BusUnavailable(f"topic {name} was made, but has no leader yet", retry_after=2.0) from None

    async def delete(self, stream: Stream) -> None:
        """Remove both topics with all that is in them. Idempotent."""
        await self.admin.delete(stream.topic)
        await self.admin.delete(stream.dead_letter_topic)
        EXTERNAL_CHANGES.labels("topics_deleted").inc()

    async def offsets(self, stream: Stream, partitions: int) -> Sequence[Offsets]:
        """Of the stream's topic, by partition."""
        return await self.admin.offsets(stream.topic, range(partitions))

    async def read(self, topic: str, partition: int, offset: int, *, max_bytes: int) -> Sequence[Message]:
        """Records from `offset` on, of which there is one. Raises OffsetOutOfRange."""
        if self._fetcher is None:
            self._fetcher = Fetcher(self.settings, self.faults, self.admin, buffer_bytes=_READ_BYTES)
        # One place is read at a time: what is kept of others would be memory for nothing.
        async with self._reading:
            return await read_at(self._fetcher, self.admin, (topic, partition), offset, max_bytes=max_bytes, wait=0.0)

    async def leave(self, topic: str, partition: int) -> None:
        """What was read there is not kept."""
        if self._fetcher is not None:
            async with self._reading:
                await self._fetcher.forget((topic, partition))

    async def close(self) -> None:
        """Idempotent."""
        if self._fetcher is not None:
            await self._fetcher.close()
        await self.admin.close()
