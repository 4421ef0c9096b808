"""A reader that gives nothing of what is there is made anew, and goes on where it stood."""

import asyncio
import contextlib
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from prometheus_client import REGISTRY
from tests.integration.test_kafka_bus import Told, eventually, header, new_topic, opened
from tests.support.kafka import Kafka

from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.known import read_known
from logstream.errors import BusUnavailable
from logstream.settings import MIB

PATIENCE = 2.0


def renewed() -> float:
    return REGISTRY.get_sample_value("logstream_bus_clients_renewed_total", {"client": "reader"}) or 0.0


def hush(fetcher: Fetcher, place: tuple[str, int]) -> None:
    """Leave it as a lost command would: paused, and nobody knows."""
    assert fetcher.cursor(place) is not None
    fetcher._pump.pause_soon(place)


@pytest.mark.parametrize("follows", [True, False], ids=["newest", "older"])
async def test_a_silent_reader_of_the_log_is_made_anew(kafka: Kafka, follows: bool) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap, request_timeout_seconds=PATIENCE) as bus:
        await bus.create_topic(topic, partitions=2)
        for partition in range(2):
            for _ in range(3):
                await bus.publish(topic, header(), b"", partition=partition)
            await bus.read(topic, partition, 3, max_bytes=1)
        if follows:
            reader, at = bus._tails._head, 3
        else:
            await read_known(bus, topic, 0, 0, max_bytes=1)
            [behind] = bus._tails._behind
            reader, at = behind.fetcher, 3
            bus._tails._head._cursors[topic, 0].next = 10  # type: ignore[union-attr]
            bus._tails._head._cursors[topic, 0].records.clear()  # type: ignore[union-attr]
        assert reader is not None
        await eventually(lambda: reader.cursors[0].next == 3)
        hush(reader, (topic, 0))
        await asyncio.sleep(0.2)
        before = renewed()
        await bus.publish(topic, header(), b"new", partition=0)
        # The other one goes on meanwhile, and after.
        await bus.publish(topic, header(), b"", partition=1)
        assert [m.offset for m in await read_known(bus, topic, 1, 3, max_bytes=MIB)] == [3]
        assert [m.offset for m in await read_known(bus, topic, 0, at, max_bytes=MIB)] == [3]
        assert renewed() == before + 1
        if follows:
            await bus.publish(topic, header(), b"", partition=1)
            assert [m.offset for m in await read_known(bus, topic, 1, 4, max_bytes=MIB)] == [4]
            await eventually(lambda: reader._left[0].ended)


async def test_a_silent_reader_of_a_member_is_made_anew(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap, request_timeout_seconds=PATIENCE) as bus:
        await bus.create_topic(topic, partitions=1)
        told = Told()
        member: Any = await bus.consumer(topic, "processor", listener=told)
        await eventually(lambda: told.partitions == {0})
        await bus.publish(topic, header(), b"", partition=0)
        assert [m.offset for m in await member.read(0, 0, max_bytes=1, wait=30)] == [0]
        hush(member._fetcher, (topic, 0))
        await asyncio.sleep(0.2)
        before = renewed()
        await bus.publish(topic, header(), b"", partition=0)
        async with asyncio.timeout(60):
            while not (found := await member.read(0, 1, max_bytes=1, wait=1)):
                pass
        assert [m.offset for m in found] == [1]
        assert renewed() == before + 1


async def test_a_reader_that_does_not_obey_is_made_anew(kafka: Kafka) -> None:
    """What the consumer has no longer cannot be taken from it: every move would fail."""
    topic = new_topic()
    async with opened(kafka.bootstrap, request_timeout_seconds=PATIENCE) as bus:
        await bus.create_topic(topic, partitions=1)
        await bus.publish(topic, header(), b"", partition=0)
        fetcher = Fetcher(bus._settings, bus._faults, bus._admin, buffer_bytes=MIB)
        try:
            await fetcher.move((topic, 0), 0)
            before = renewed()
            fetcher._pump._consumer.incremental_unassign([TopicPartition(topic, 0)])
            with pytest.raises(BusUnavailable):
                await fetcher.move((topic, 0), 1)
            await eventually(lambda: renewed() > before)
            cursor = await fetcher.move((topic, 0), 0)
            assert [m.offset for m in await fetcher.read(cursor, 0, max_bytes=1, wait=30)] == [0]
        finally:
            await fetcher.close()


async def test_who_gives_up_while_waiting_to_resume_leaves_it_to_the_next(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=1)
        fetcher = Fetcher(bus._settings, bus._faults, bus._admin, buffer_bytes=MIB)
        try:
            place = (topic, 0)
            cursor = await fetcher.move(place, 0)
            cursor.paused = True
            hush(fetcher, place)
            await bus.publish(topic, header(), b"", partition=0)
            before = renewed()
            async with fetcher._moving:
                reading = asyncio.create_task(fetcher.read(cursor, 0, max_bytes=1, wait=30))
                await asyncio.sleep(0.1)
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading
            assert [m.offset for m in await fetcher.read(cursor, 0, max_bytes=1, wait=30)] == [0]
            assert renewed() == before
        finally:
            await fetcher.close()
