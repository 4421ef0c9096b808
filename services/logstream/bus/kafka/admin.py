"""Questions about topics, offsets and groups. Every answer comes within the request timeout, or BusUnavailable."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from logstream.bus.kafka import config
from logstream.bus.kafka.faults import Faults, error_of, started
from logstream.bus.protocol import Committed, Offsets, Topic
from logstream.errors import BusUnavailable, NotFound
from logstream.logs import get_logger
from logstream.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Description:
    """A topic as the brokers have it. in_sync: by partition, number of replicas in sync; 0 without a leader."""

    topic: Topic
    in_sync: Sequence[int]


def incarnation_of(topic_id: str) -> int:
    """32 bits of Kafka's topic id, never 0: a topic made anew has another id."""
    return int.from_bytes(hashlib.sha256(topic_id.encode()).digest()[:4], "big") or 1


class Admin:
    """One connection for all questions."""

    def __init__(self, settings: KafkaSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._timeout = settings.request_timeout_seconds
        self._client: AdminClient = started(AdminClient, config.client(settings, on_error=faults.note))
        self._log = get_logger("bus")

    async def _ask(self, what: str, question: Callable[[], "Mapping[Any, Future[Any]]"]) -> list[Any]:
        """The answers, in the order of the question's futures. Raises what `Faults.map` says."""
        try:
            # The call itself may wait for a connection's lock.
            futures = await asyncio.to_thread(question)
            async with asyncio.timeout(self._timeout + 1.0):
                answers = [await asyncio.wrap_future(future) for future in futures.values()]
        except TimeoutError:
            raise self._faults.unreachable(what) from None
        except KafkaException as failure:
            error = error_of(failure)
            raise (self._faults.map(error, what) if error else BusUnavailable(f"{what}: {failure}")) from failure
        self._faults.clear()
        return answers

    async def reach(self) -> None:
        """Raises BusUnavailable, with the reason, when the brokers do not answer us."""
        await self._ask(
            "reaching the log",
            lambda: {"cluster": self._client.describe_cluster(request_timeout=self._timeout)},
        )

    async def describe(self, name: str) -> Description:
        """Raises NotFound, BusUnavailable."""
        [found] = await self._ask(
            f"looking up topic {name!r}",
            lambda: self._client.describe_topics(TopicCollection([name]), request_timeout=self._timeout),
        )
        partitions = sorted(found.partitions, key=lambda p: p.id)
        if not partitions:
            raise NotFound(f"there is no topic {name!r} on Kafka")
        return Description(
            Topic(name, incarnation_of(str(found.topic_id)), len(partitions)),
            [len(p.isr) if p.leader is not None and p.leader.id >= 0 else 0 for p in partitions],
        )

    async def create(self, name: str, partitions: int, properties: Mapping[str, str]) -> None:
        """Make the topic; one that is there is left as it is. Raises BusUnavailable."""
        new = NewTopic(name, partitions, self._settings.replication_factor, config=dict(properties))
        try:
            await self._ask(
                f"making topic {name!r}",
                lambda: self._client.create_topics([new], request_timeout=self._timeout),
            )
        except BusUnavailable as failure:
            cause = error_of(failure.__cause__) if failure.__cause__ else None
            if cause is None or cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    async def properties(self, name: str) -> dict[str, str]:
        """A topic's settings that count here. Raises BusUnavailable."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        [found] = await self._ask(
            f"reading the settings of topic {name!r}",
            lambda: self._client.describe_configs([resource], request_timeout=self._timeout),
        )
        return {key: entry.value for key, entry in found.items() if entry.value is not None}

    async def raise_max_bytes(self, name: str, max_bytes: int) -> None:
        """Let an existing topic take records of `max_bytes`. Raises BusUnavailable."""
        entry = ConfigEntry("max.message.bytes", str(max_bytes), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        await self._ask(
            f"raising max.message.bytes of topic {name!r}",
            lambda: self._client.incremental_alter_configs([resource], request_timeout=self._timeout),
        )

    async def offsets(self, topic: str, partitions: Sequence[int]) -> list[Offsets]:
        """Beginning and end of each. Raises NotFound, BusUnavailable."""
        beginnings, ends = await asyncio.gather(
            self._offsets(topic, partitions, OffsetSpec.earliest()), self.ends(topic, partitions)
        )
        return [Offsets(beginning, end) for beginning, end in zip(beginnings, ends, strict=True)]

    async def ends(self, topic: str, partitions: Sequence[int]) -> list[int]:
        """The next offset of each. Raises NotFound, BusUnavailable."""
        return await self._offsets(topic, partitions, OffsetSpec.latest())

    async def _offsets(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> list[int]:
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        found = await self._ask(
            f"asking for the offsets of {topic!r}",
            lambda: self._client.list_offsets(wanted, request_timeout=self._timeout),
        )
        return [answer.offset for answer in found]

    async def committed(self, topic: str, group: str, partitions: Sequence[int]) -> list[Committed]:
        """The group's positions. Raises BusUnavailable."""
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in partitions])
        [found] = await self._ask(
            f"asking for the position of {group!r}",
            lambda: self._client.list_consumer_group_offsets([wanted], request_timeout=self._timeout),
        )
        by_partition: dict[int, Committed] = {}
        for position in found.topic_partitions:
            if position.error is not None:
                raise self._faults.map(position.error, f"asking for the position of {group!r}")
            by_partition[position.partition] = committed_of(position)
        return [by_partition.get(partition, Committed(0)) for partition in partitions]


def committed_of(position: TopicPartition) -> Committed:
    """What librdkafka says of a position; one that was never committed has a negative offset."""
    return Committed(position.offset, position.metadata or "") if position.offset >= 0 else Committed(0)
