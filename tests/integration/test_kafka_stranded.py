"""A client of Kafka that lost every broker for good is made anew, whatever it is for."""

import asyncio
import json
import random
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import REGISTRY
from tests.integration.test_kafka_bus import Told, eventually, header, new_topic, opened, retried, settings
from tests.support.brokerless import Brokerless
from tests.support.kafka import Kafka

from logstream.bus.kafka import config, stranded
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.stranded import Stranded
from logstream.bus.known import read_known
from logstream.bus.protocol import Committed
from logstream.settings import MIB

NOBODY = json.dumps({"brokers": {}})


def strand(*watched: Stranded) -> None:
    for one in watched:
        one.note(NOBODY)
        one.note(NOBODY)


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


class Client:
    """A reader of a topic without leader, and its librdkafka's last report."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.stranded = Stranded()
        self.report: dict[str, Any] = {}
        chosen = settings(bootstrap)
        self.consumer = Consumer(
            config.client(chosen, on_error=Faults(bootstrap).note)
            | config.reader(chosen, buffer_bytes=MIB)
            | self.stranded.properties
            | {"stats_cb": self._note}
        )
        self.consumer.incremental_assign([TopicPartition(topic, 0, 0)])

    def _note(self, report: str) -> None:
        self.report = json.loads(report)
        self.stranded.note(report)

    @property
    def connected(self) -> bool:
        brokers = self.report.get("brokers", {}).values()
        return any(broker["source"] == "learned" and broker["state"] == "UP" for broker in brokers)


@pytest.mark.slow
async def test_who_is_told_of_no_brokers_comes_back_or_is_told_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What librdkafka does is its business, and a race; that one of the two is known at the end is ours."""
    monkeypatch.setattr(stranded, "_INTERVAL_MS", 500)
    chance = random.Random(1)
    broker = Brokerless("t")
    await broker.start()
    clients = [Client(f"127.0.0.1:{broker.port}", "t") for _ in range(12)]

    async def go_on(seconds: float) -> None:
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            for client in clients:
                await asyncio.to_thread(client.consumer.poll, 0.001)

    try:
        await go_on(2)
        assert all(client.connected for client in clients)
        for _ in range(40):
            broker.lists_itself = chance.random() < 0.5
            if chance.random() < 0.5:
                broker.cut()
            await go_on(chance.choice([0.02, 0.1, 0.3, 0.8]))
        broker.lists_itself = True
        async with asyncio.timeout(90):
            while not all(client.connected or client.stranded.is_so for client in clients):
                await go_on(0.5)
        assert not any(client.connected and client.stranded.is_so for client in clients)
        # Nobody comes back from there, so that taking another one takes nothing away.
        lost = [client for client in clients if client.stranded.is_so]
        await go_on(3)
        assert not any(client.connected for client in lost)
    finally:
        for client in clients:
            await asyncio.to_thread(client.consumer.close)
        await broker.stop()
