"""Questions about topics, offsets and groups. Every answer comes within the request timeout, or BusUnavailable."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from logstream import metrics
from logstream.bus.kafka import config
from logstream.bus.kafka.faults import MOMENTARY, Faults, error_of, started
from logstream.bus.kafka.positions import Positions
from logstream.bus.kafka.stranded import Stranded
from logstream.bus.protocol import Committed, Offsets, Topic
from logstream.errors import BusUnavailable, NotFound
from logstream.logs import get_logger
from logstream.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Description:
    """A topic as the brokers have it. By partition: number of replicas, and of those in sync, 0 without a leader."""

    topic: Topic
    replicas: Sequence[int]
    in_sync: Sequence[int]

    def shortage(self, needed: int) -> str | None:
        """Why a record may not be acknowledged; needed: min.insync.replicas, which Kafka caps by the replicas."""
        for partition, (replicas, in_sync) in enumerate(zip(self.replicas, self.in_sync, strict=True)):
            if in_sync == 0:
                return f"{self.topic.name}/{partition} has no leader on Kafka"
            if in_sync < min(needed, replicas):
                return (
                    f"{self.topic.name}/{partition} has {in_sync} of {replicas} replicas in sync,"
                    f" min.insync.replicas asks for {needed}"
                )
        return None


def incarnation_of(topic_id: str) -> int:
    """32 bits of Kafka's topic id, never 0: a topic made anew has another id."""
    return int.from_bytes(hashlib.sha256(topic_id.encode()).digest()[:4], "big") or 1


class Admin:
    """One connection for all questions."""

    def __init__(self, settings: KafkaSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._timeout = settings.request_timeout_seconds
        self._log = get_logger("bus")
        self._client, self._stranded = self._start()
        self._renewing = threading.Lock()
        self._positions = Positions(settings, faults)

    def _start(self) -> tuple[AdminClient, Stranded]:
        stranded = Stranded()
        properties = config.client(self._settings, on_error=self._faults.note) | stranded.properties
        return started(AdminClient, properties), stranded

    def _look(self) -> None:
        """Another client when this one lost the brokers. Not in the event loop: letting go of one takes time."""
        with self._renewing:
            self._client.poll(0)
            if self._stranded.is_so:
                self._log.error("kafka_admin_made_anew", reason="lost every broker")
                metrics.BUS_CLIENTS_RENEWED.labels("admin").inc()
                self._client, self._stranded = self._start()

    async def _ask(self, what: str, question: Callable[[], "Mapping[Any, Future[Any]]"]) -> list[Any]:
        """The answers, in the order of the question's futures. Raises what `Faults.map` says."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            try:
                # The call itself may wait for a connection's lock.
                await asyncio.to_thread(self._look)
                futures = await asyncio.to_thread(question)
                async with asyncio.timeout(self._timeout + 1.0):
                    answers = [await asyncio.wrap_future(future) for future in futures.values()]
                break
            except TimeoutError:
                raise self._faults.unreachable(what) from None
            except KafkaException as failure:
                error = error_of(failure)
                if error is None or error.code() not in MOMENTARY or asyncio.get_running_loop().time() > deadline:
                    raise (
                        self._faults.map(error, what) if error else BusUnavailable(f"{what}: {failure}")
                    ) from failure
            await asyncio.sleep(0.1)
        self._faults.clear()
        return answers

    async def ask(self, what: str, question: Callable[[AdminClient], "Mapping[Any, Future[Any]]"]) -> list[Any]:
        """The answers to anything that librdkafka's admin client can be asked, in the order of the question's futures.

        what: to begin an error's sentence with. Raises BusUnavailable, whose cause has Kafka's own code, NotFound.
        """
        return await self._ask(what, lambda: question(self._client))

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
            [len(p.replicas) for p in partitions],
            [len(p.isr) if p.leader is not None and p.leader.id >= 0 else 0 for p in partitions],
        )

    async def create(
        self, name: str, partitions: int, properties: Mapping[str, str], *, replication_factor: int | None = None
    ) -> None:
        """Make the topic; one that is there is left as it is. replication_factor: None: that of the settings.

        Raises BusUnavailable.
        """
        replicas = self._settings.replication_factor if replication_factor is None else replication_factor
        new = NewTopic(name, partitions, replicas, config=dict(properties))
        try:
            await self._ask(
                f"making topic {name!r}",
                lambda: self._client.create_topics([new], request_timeout=self._timeout),
            )
        except BusUnavailable as failure:
            cause = error_of(failure.__cause__) if failure.__cause__ else None
            if cause is None or cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    async def grow(self, name: str, partitions: int) -> None:
        """Give the topic more partitions, `partitions` in all. Raises NotFound, BusUnavailable."""
        await self._ask(
            f"adding partitions to topic {name!r}",
            lambda: self._client.create_partitions([NewPartitions(name, partitions)], request_timeout=self._timeout),
        )

    async def properties(self, name: str) -> dict[str, str]:
        """A topic's settings that count here. Raises BusUnavailable."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        [found] = await self._ask(
            f"reading the settings of topic {name!r}",
            lambda: self._client.describe_configs([resource], request_timeout=self._timeout),
        )
        return {key: entry.value for key, entry in found.items() if entry.value is not None}

    async def change(self, name: str, key: str, value: str) -> None:
        """Give an existing topic another setting. Raises NotFound, BusUnavailable."""
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        await self._ask(
            f"changing {key} of topic {name!r}",
            lambda: self._client.incremental_alter_configs([resource], request_timeout=self._timeout),
        )

    async def delete(self, name: str) -> None:
        """Remove the topic; one that is not there is no error. Brokers go on removing when this returns.

        Raises BusUnavailable.
        """
        with contextlib.suppress(NotFound):
            await self._ask(
                f"deleting topic {name!r}",
                lambda: self._client.delete_topics([name], request_timeout=self._timeout),
            )

    async def offsets(self, topic: str, partitions: Sequence[int]) -> list[Offsets]:
        """Beginning and end of each. Raises NotFound, BusUnavailable."""
        beginnings, ends = await asyncio.gather(
            self._offsets(topic, partitions, OffsetSpec.earliest()),  # type: ignore[no-untyped-call]
            self.ends(topic, partitions),
        )
        return [Offsets(beginning, end) for beginning, end in zip(beginnings, ends, strict=True)]

    async def ends(self, topic: str, partitions: Sequence[int]) -> list[int]:
        """The next offset of each. Raises NotFound, BusUnavailable."""
        return await self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def _offsets(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> list[int]:
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        what = f"asking for the offsets of {topic!r}"
        found = await self._ask(what, lambda: self._client.list_offsets(wanted, request_timeout=self._timeout))
        offsets = [int(answer.offset) for answer in found]
        if min(offsets, default=0) < 0:
            # A broker that did not answer is no error to librdkafka here.
            raise self._faults.unreachable(what)
        return offsets

    async def committed(self, topic: str, group: str, partitions: Sequence[int]) -> list[Committed]:
        """The group's positions. Raises BusUnavailable."""
        return await self._positions.committed(topic, group, partitions)

    async def close(self) -> None:
        """Idempotent."""
        await self._positions.close()
