"""What groups have committed, asked through a consumer of each group that never joins it.

librdkafka's admin client has a call for this, and ends the process by a segmentation fault when the broker answers it
with an error that asks for another look at the coordinator (seen with 2.16, right after a group was made).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from logstream.bus.kafka import config
from logstream.bus.kafka.faults import MOMENTARY, Faults, error_of, started
from logstream.bus.protocol import Committed
from logstream.errors import BusUnavailable
from logstream.settings import KafkaSettings

_GROUPS = 64
"""Consumers that are kept, the latest used."""
_THREADS = 4


@dataclass(slots=True)
class _Group:
    """lock: librdkafka's binding lets one thread at a time use a consumer.

    failed: reached nobody, perhaps for good (`stranded`): the next one that asks has another one.
    """

    consumer: Consumer
    failed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Positions:
    """Used from one event loop."""

    def __init__(self, settings: KafkaSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka-positions")
        self._closed = False

    async def committed(self, topic: str, group: str, partitions: Sequence[int]) -> list[Committed]:
        """The group's positions, in the order of `partitions`. Raises BusUnavailable."""
        if self._closed:
            raise BusUnavailable("the log is closed")
        what = f"asking for the position of {group!r}"
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        asked = await self._group(group)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.request_timeout_seconds
        async with asked.lock:
            while True:
                try:
                    found = await loop.run_in_executor(
                        self._threads,
                        lambda: asked.consumer.committed(wanted, timeout=self._settings.request_timeout_seconds),
                    )
                except KafkaException as failure:
                    error = error_of(failure)
                    if error is None:
                        raise BusUnavailable(f"{what}: {failure}") from failure
                    if error.code() not in MOMENTARY or loop.time() > deadline:
                        asked.failed = True
                        raise self._faults.map(error, what) from failure
                except RuntimeError as failure:
                    raise BusUnavailable(f"{what}: the log is closed") from failure
                else:
                    errors = [position.error for position in found if position.error is not None]
                    if not errors:
                        break
                    if errors[0].code() not in MOMENTARY or loop.time() > deadline:
                        raise self._faults.map(errors[0], what)
                await asyncio.sleep(0.1)
        by_partition = {position.partition: committed_of(position) for position in found}
        return [by_partition.get(partition, Committed(0)) for partition in partitions]

    async def _group(self, group: str) -> _Group:
        found = self._groups.get(group)
        if found is not None and found.failed:
            del self._groups[group]
            await self._end(found)
            found = self._groups.get(group)
        if found is None:
            properties = config.client(self._settings, on_error=self._faults.note) | config.member(
                self._settings, group
            )
            found = self._groups[group] = _Group(started(Consumer, properties))
            while len(self._groups) > _GROUPS:
                _, oldest = self._groups.popitem(last=False)
                await self._end(oldest)
        self._groups.move_to_end(group)
        return found

    async def _end(self, group: _Group) -> None:
        async with group.lock:
            await asyncio.get_running_loop().run_in_executor(self._threads, group.consumer.close)

    async def close(self) -> None:
        """Idempotent."""
        self._closed = True
        groups, self._groups = list(self._groups.values()), OrderedDict()
        for group in groups:
            await self._end(group)
        self._threads.shutdown(wait=False)


def committed_of(position: TopicPartition) -> Committed:
    """What librdkafka says of a position; one that was never committed has a negative offset."""
    return Committed(position.offset, position.metadata or "") if position.offset >= 0 else Committed(0)
