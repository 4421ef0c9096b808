"""A client of Kafka that lost every broker for good is made anew, whatever it is for."""

import asyncio
import json
from typing import Any

from prometheus_client import REGISTRY
from tests.integration.test_kafka_bus import Told, eventually, header, new_topic, opened, retried
from tests.support.kafka import Kafka

from logstream.bus.kafka.stranded import Stranded
from logstream.bus.known import read_known
from logstream.bus.protocol import Committed
from logstream.settings import MIB

NOBODY = json.dumps({"brokers": {}})


def strand(*watched: Stranded) -> None:
    for stranded in watched:
        stranded.note(NOBODY)
        stranded.note(NOBODY)


def renewed(client: str) -> float:
    return REGISTRY.get_sample_value("logstream_bus_clients_renewed_total", {"client": client}) or 0.0


async def test_all_that_reads_and_writes_goes_on(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap, request_timeout_seconds=5) as bus:
        await bus.create_topic(topic, partitions=1)
        await bus.publish(topic, header(), b"0", partition=0)
        await bus.read(topic, 0, 1, max_bytes=1)
        before = {client: renewed(client) for client in ("producer", "admin", "reader")}
        reader = bus._tails._head
        assert reader is not None
        strand(bus._appender._stranded, bus._admin._stranded, reader._pump._stranded)
        old = bus._appender._producer
        await eventually(lambda: bus._appender._producer is not old)
        assert (await bus.publish(topic, header(), b"1", partition=0)).offset == 1
        assert (await bus.offsets(topic, 0)).end == 2
        assert [m.offset for m in await read_known(bus, topic, 0, 1, max_bytes=MIB)] == [1]
        await eventually(lambda: renewed("reader") > before["reader"])
        assert {client: renewed(client) - count for client, count in before.items()} == dict.fromkeys(before, 1)


async def test_a_member_joins_again_and_no_commit_of_before_counts(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=2)
        for _ in range(2):
            await bus.publish(topic, header(), b"", partition=0)
        told = Told()
        member: Any = await bus.consumer(topic, "processor", listener=told)
        await eventually(lambda: told.partitions == {0, 1})
        await retried(lambda: member.commit(0, Committed(1)))
        old, before = member._consumer, renewed("member")
        strand(member._stranded)
        await eventually(lambda: renewed("member") > before)
        await eventually(lambda: member._consumer is not old and told.partitions == {0, 1})
        assert (await retried(lambda: member.committed(0))).offset == 1
        await retried(lambda: member.commit(0, Committed(2)))
        assert (await retried(lambda: member.committed(0))).offset == 2
        # Whoever ends later says nothing about what is ours now.
        await asyncio.sleep(1)
        assert member.assignment() == {0, 1}
