"""A producer that librdkafka has given up is replaced while the collector runs."""

import ctypes
from pathlib import Path

from confluent_kafka import Producer
from tests.integration.test_kafka_bus import header, new_topic, opened, retried
from tests.support.kafka import Kafka

_OUT_OF_ORDER = 45


def give_up(producer: Producer) -> None:
    """By librdkafka's own function for tests; its handle stands behind the head of the Python object."""
    [path] = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "librdkafka" in line}
    library = ctypes.CDLL(path)
    handle = ctypes.c_void_p(ctypes.c_void_p.from_address(id(producer) + object.__basicsize__).value)
    assert library.rd_kafka_test_fatal_error(handle, ctypes.c_int(_OUT_OF_ORDER), b"given up") == 0


async def test_a_producer_that_gave_up_is_replaced(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=1)
        for offset in range(3):
            # The second one is broken, too.
            assert (await retried(lambda: bus.publish(topic, header(), b""))).offset == offset
            broken = bus._appender._producer
            give_up(broken)
        assert (await retried(lambda: bus.publish(topic, header(), b""))).offset == 3
        assert bus._appender._producer is not broken
