"""Readers that give up and members whose topic goes away: nothing is left behind."""

import asyncio
import contextlib

from tests.integration.test_kafka_bus import Told, eventually, header, new_topic, opened
from tests.support.kafka import Kafka

from logstream.bus.protocol import Topic


async def test_readers_that_give_up_leave_their_turn_to_others(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=5)
        for partition in range(5):
            for _ in range(3):
                await bus.publish(topic, header(), b"", partition=partition)
            # Followed from the end on, so that what is there already is read by one of a few others.
            assert await bus.read(topic, partition, 3, max_bytes=1) == ()
        for attempt in range(40):
            reading = asyncio.create_task(bus.read(topic, attempt % 5, 0, max_bytes=1))
            await asyncio.sleep(0.003 * (attempt % 19))
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        async with asyncio.timeout(60):
            for partition in range(5):
                assert [m.offset for m in await bus.read(topic, partition, 0, max_bytes=1)] == [0]


async def test_a_topic_that_comes_back_has_each_partition_once(kafka: Kafka) -> None:
    """What moved to another member while the topic seemed gone is not ours again."""
    topic = new_topic()
    async with opened(kafka.bootstrap) as first, opened(kafka.bootstrap) as second:
        known = await first.create_topic(topic, partitions=4)
        told, other = Told(), Told()
        holder = await first.consumer(topic, "processor", listener=told)
        await eventually(lambda: len(told.partitions) == 4)
        await holder.follow_topic(None)
        assert not told.partitions
        comer = await second.consumer(topic, "processor", listener=other)
        async with asyncio.timeout(60):
            while len(other.partitions) < 2:
                # The bus looks every few seconds, and finds it.
                await holder.follow_topic(None)
                await asyncio.sleep(0.05)
        await holder.follow_topic(Topic(topic, known.incarnation, 4))
        await eventually(lambda: len(told.partitions) == 2)
        assert holder.assignment() == told.partitions
        assert told.partitions | other.partitions == {0, 1, 2, 3}
        assert comer.assignment() == other.partitions
