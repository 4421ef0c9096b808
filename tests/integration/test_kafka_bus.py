"""The log on a real Kafka: logging in, a broker that freezes, dies and comes back, topics that change under way,
and bytes that are not ours."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.journal import MemoryJournal
from tests.support.kafka import Kafka, Secure

from logstream.bus.header import Header, Kind, MalformedRecord, NewerVersion, Segment, decode, encode
from logstream.bus.kafka import KafkaBus
from logstream.bus.kafka.admin import Description
from logstream.bus.protocol import DEAD_LETTERS, Claim, Committed, Message, Settled, Topic
from logstream.clock import SystemClock
from logstream.errors import (
    BusFull,
    BusUnavailable,
    Fenced,
    NotFound,
    OffsetOutOfRange,
    StartupError,
    StoreUnavailable,
    TooLarge,
)
from logstream.settings import MIB, KafkaSettings

_T = TypeVar("_T")


def settings(bootstrap: str, **changes: object) -> KafkaSettings:
    fields = {
        "bootstrap_servers": bootstrap, "replication_factor": 1, "min_insync_replicas": 1, "partitions": 2,
        "session_timeout_seconds": 6, "request_timeout_seconds": 20, "delivery_timeout_seconds": 20,
    }  # fmt: skip
    return KafkaSettings(**(fields | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def opened(bootstrap: str, *, journal: MemoryJournal | None = None, **changes: object) -> AsyncIterator[KafkaBus]:
    bus = await KafkaBus.open(settings(bootstrap, **changes), SystemClock(), journal=journal)
    try:
        yield bus
    finally:
        await bus.close()


def new_topic() -> str:
    return f"logstream.it-{uuid.uuid4().hex[:12]}"


def header(rows: int = 1) -> Header:
    return Header(rows, 1, 1, 1, (Segment("key1", rows),))


async def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def retried(call: Callable[[], Awaitable[_T]], seconds: float = 90) -> _T:
    """As a caller does that is told 503, or has lost its partition for a while."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await call()
            except (BusUnavailable, Fenced):
                await asyncio.sleep(0.1)


async def read_all(bus: KafkaBus, topic: str, partition: int = 0) -> list[Message]:
    offsets = await bus.offsets(topic, partition)
    found: list[Message] = []
    at = offsets.beginning
    while at < offsets.end:
        found += await bus.read(topic, partition, at, max_bytes=MIB)
        at = found[-1].offset + 1
    return found


async def raw(bootstrap: str, topic: str, *values: bytes) -> None:
    """Records that LogStream did not write."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert await asyncio.to_thread(producer.flush, 30) == 0


# Logging in


@pytest.fixture
def secure(kafka: Kafka) -> Secure:
    if kafka.secure is None:
        pytest.skip("a foreign broker: nobody told how to log in")
    return kafka.secure


def ways_in(secure: Secure) -> dict[str, tuple[str, dict[str, object]]]:
    user = {"username": secure.username, "password": secure.password}
    tls = {"ca_file": secure.ca_file}
    return {
        "plain": (secure.sasl_plaintext, {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", **user}),
        "scram": (secure.sasl_plaintext, {"security_protocol": "SASL_PLAINTEXT", **user}),
        "scram over tls": (secure.sasl_ssl, {"security_protocol": "SASL_SSL", **user, **tls}),
        "mutual tls": (
            secure.ssl,
            {"security_protocol": "SSL", **tls, "cert_file": secure.cert_file, "key_file": secure.key_file},
        ),
    }


@pytest.mark.parametrize("way", ["plain", "scram", "scram over tls", "mutual tls"])
async def test_the_ways_to_log_in(secure: Secure, way: str) -> None:
    address, how = ways_in(secure)[way]
    topic = new_topic()
    async with opened(address, **how) as bus:
        await bus.create_topic(topic, partitions=1)
        placed = await bus.publish(topic, header(), b"x")
        assert [m.offset for m in await bus.read(topic, 0, placed.offset, max_bytes=MIB)] == [placed.offset]
        consumer = await bus.consumer(topic, "processor")
        await eventually(consumer.assignment)
        await consumer.commit(0, Committed(1))
        await bus.check()


@pytest.mark.parametrize(
    ("way", "changes", "reason"),
    [
        ("plain", {"password": "wrong"}, "refused the credentials"),
        ("scram", {"password": "wrong"}, "refused the credentials"),
        ("scram over tls", {"ca_file": "stranger_ca_file"}, "TLS"),
        ("mutual tls", {"cert_file": "stranger_cert_file", "key_file": "stranger_key_file"}, "Kafka at"),
    ],
)
async def test_who_is_refused_is_told_why(secure: Secure, way: str, changes: dict[str, str], reason: str) -> None:
    address, how = ways_in(secure)[way]
    wrong = {name: getattr(secure, value, value) for name, value in changes.items()}
    with pytest.raises(BusUnavailable, match=reason) as caught:
        async with opened(address, **(how | wrong | {"request_timeout_seconds": 6})):
            pass
    assert secure.password not in caught.value.message


async def test_settings_of_no_use_are_an_error_at_start(secure: Secure, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="LOGSTREAM_KAFKA"):
        async with opened(secure.sasl_ssl, security_protocol="SSL", ca_file=tmp_path / "nowhere.pem"):
            pass


async def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        async with opened("127.0.0.1:1", request_timeout_seconds=2):
            pass


# Brokers that fail


async def test_a_frozen_broker_is_answered_in_time_and_in_bounded_memory(own_kafka: Kafka) -> None:
    topic, value = new_topic(), bytes(256 * 1024)
    impatient = {"max_queued_bytes": 2 * MIB, "request_timeout_seconds": 4, "delivery_timeout_seconds": 4}
    async with opened(own_kafka.bootstrap, **impatient) as bus:
        await bus.create_topic(topic, partitions=1)
        await bus.publish(topic, header(), b"before")
        assert len(await bus.read(topic, 0, 0, max_bytes=MIB)) == 1
        reading = asyncio.create_task(retried(lambda: bus.read(topic, 0, 1, max_bytes=MIB, wait=120)))
        await asyncio.to_thread(own_kafka.pause)
        try:
            waiting = [asyncio.create_task(bus.publish(topic, header(), value)) for _ in range(20)]
            async with asyncio.timeout(30):
                results = await asyncio.gather(*waiting, return_exceptions=True)
            full = [r for r in results if isinstance(r, BusFull)]
            assert len(full) >= 12  # eight quarters of a megabyte wait at most
            assert all(isinstance(r, BusUnavailable) for r in results)
            with pytest.raises(BusUnavailable, match="Kafka"):
                await bus.check()
        finally:
            await asyncio.to_thread(own_kafka.resume)
        placed = await retried(lambda: bus.publish(topic, header(), b"after"))
        assert [m.offset for m in await reading][:1] == [1]
        [last] = await retried(lambda: bus.read(topic, 0, placed.offset, max_bytes=1, wait=60))
        assert decode(last.value)[1] == b"after"
        await retried(bus.check)


async def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(own_kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(own_kafka.bootstrap, delivery_timeout_seconds=4) as bus:
        await retried(lambda: bus.create_topic(topic, partitions=1))
        consumer = await retried(lambda: bus.consumer(topic, "processor"))
        await eventually(consumer.assignment)
        acknowledged: dict[int, bytes] = {}
        stop = asyncio.Event()

        async def send(name: int) -> None:
            number = 0
            while not stop.is_set():
                payload = b"%d/%d" % (name, number)
                with contextlib.suppress(BusUnavailable):
                    placed = await bus.publish(topic, header(), payload)
                    assert placed.offset not in acknowledged
                    acknowledged[placed.offset] = payload
                number += 1
                await asyncio.sleep(0.005)

        async def follow() -> list[Message]:
            found: list[Message] = []
            while not stop.is_set() or len(found) <= max(acknowledged):
                at = len(found)
                found += await retried(lambda at=at: consumer.read(0, at, max_bytes=MIB, wait=0.2))
            return found

        senders = [asyncio.create_task(send(name)) for name in range(4)]
        following = asyncio.create_task(follow())
        await eventually(lambda: len(acknowledged) > 50)
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.to_thread(own_kafka.start)
        before = len(acknowledged)
        await eventually(lambda: len(acknowledged) > before + 50, 90)
        stop.set()
        await asyncio.gather(*senders)
        async with asyncio.timeout(60):
            followed = await following
        assert [m.offset for m in followed] == list(range(len(followed)))
        there = {m.offset: bytes(decode(m.value)[1]) for m in followed}
        assert {offset: there[offset] for offset in acknowledged} == acknowledged
        await eventually(consumer.assignment)
        await retried(lambda: consumer.commit(0, Committed(len(followed), "m")))
        assert await retried(lambda: bus.committed(topic, "processor", 0)) == Committed(len(followed), "m")


# Groups


class Told:
    """A listener that commits what it holds when it must give it up."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()
        self.on_revoked: Callable[[frozenset[int]], Awaitable[None]] | None = None
        self.calls: list[str] = []

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.calls.append(f"assigned {sorted(partitions)}")
        self.partitions |= partitions

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.calls.append(f"revoked {sorted(partitions)}")
        if self.on_revoked is not None:
            await self.on_revoked(partitions)
        self.partitions -= partitions


async def test_a_partition_that_moves_is_committed_first_and_fenced_then(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as first, opened(kafka.bootstrap) as second:
        await first.create_topic(topic, partitions=4)
        for partition in range(4):
            await first.publish(topic, header(), b"", partition=partition)
        told, other = Told(), Told()
        holder = await first.consumer(topic, "processor", listener=told)
        await eventually(lambda: len(told.partitions) == 4)

        async def finish(partitions: frozenset[int]) -> None:
            for partition in partitions:
                await holder.commit(partition, Committed(1, f"by the first, {partition}"))

        told.on_revoked = finish
        comer = await second.consumer(topic, "processor", listener=other)
        await eventually(lambda: len(told.partitions) == len(other.partitions) == 2)
        assert told.partitions | other.partitions == {0, 1, 2, 3}
        assert holder.assignment() == told.partitions
        for partition in other.partitions:
            assert await comer.committed(partition) == Committed(1, f"by the first, {partition}")
            with pytest.raises(Fenced):
                await holder.commit(partition, Committed(0))
            with pytest.raises(Fenced):
                await holder.read(partition, 0, max_bytes=MIB)
            await comer.commit(partition, Committed(1, "by the second"))
        # What did not move goes on.
        for partition in told.partitions:
            assert len(await holder.read(partition, 0, max_bytes=MIB)) == 1
            await holder.commit(partition, Committed(1))
        await comer.close()
        await eventually(lambda: len(told.partitions) == 4)
        assert holder.assignment() == {0, 1, 2, 3}


async def test_the_journal_comes_before_the_commit(kafka: Kafka) -> None:
    topic, journal = new_topic(), MemoryJournal()
    async with opened(kafka.bootstrap, journal=journal) as bus:
        await bus.create_topic(topic, partitions=1)
        await bus.publish(topic, header(), b"")
        consumer = await bus.consumer(topic, "processor")
        await eventually(consumer.assignment)
        journal.failures.append(StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable):
            await consumer.commit(0, Committed(1), Settled(0, 0))
        assert await consumer.committed(0) == Committed(0)
        await consumer.commit(0, Committed(1), Settled(0, 0))
        assert await consumer.committed(0) == Committed(1)
        assert len(journal.settled) == 1


async def test_a_topic_made_anew_is_noticed_and_begins_again(kafka: Kafka) -> None:
    topic = new_topic()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    async with opened(kafka.bootstrap) as bus:
        before = await bus.create_topic(topic, partitions=2)
        for _ in range(10):
            await bus.publish(topic, header(), b"old", partition=0)
        told = Told()
        consumer = await bus.consumer(topic, "processor", listener=told)
        await eventually(lambda: told.partitions == {0, 1})
        assert len(await consumer.read(0, 0, max_bytes=MIB)) > 0
        await consumer.commit(0, Committed(10))
        await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 30)
        await eventually(lambda: not told.partitions)
        with pytest.raises((Fenced, NotFound)):
            await consumer.commit(0, Committed(10))
        after = await retried(lambda: bus.create_topic(topic, partitions=2))
        assert after.incarnation != before.incarnation
        await eventually(lambda: told.partitions == {0, 1})
        assert consumer.topic == after
        placed = await retried(lambda: bus.publish(topic, header(), b"new", partition=0))
        assert placed.offset == 0
        [message] = await consumer.read(0, 0, max_bytes=MIB, wait=30)
        assert decode(message.value)[1] == b"new"
        assert await consumer.committed(0) == Committed(0)
        await consumer.commit(0, Committed(1))
        assert len(await bus.read(topic, 0, 0, max_bytes=MIB)) == 1


# Reading


async def test_many_readers_at_different_places_share_a_few_connections(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=1)
        await asyncio.gather(*(bus.publish(topic, header(), b"%d" % n) for n in range(300)))

        async def tail(first: int) -> list[int]:
            found: list[int] = []
            while len(found) < 310 - first:
                at = first + len(found)
                found += [m.offset for m in await bus.read(topic, 0, at, max_bytes=MIB, wait=60)]
            return found

        tails = [asyncio.create_task(tail(first)) for first in range(0, 300, 15)]
        for _ in range(10):
            await bus.publish(topic, header(), b"late")
        async with asyncio.timeout(90):
            for first, found in zip(range(0, 300, 15), await asyncio.gather(*tails), strict=True):
                assert found == list(range(first, 310))
        assert len(bus._tails._behind) <= 3


async def test_records_that_retention_took_are_out_of_range(kafka: Kafka) -> None:
    topic = new_topic()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=1)
        for _ in range(6):
            await bus.publish(topic, header(), b"")
        consumer = await bus.consumer(topic, "processor")
        await eventually(consumer.assignment)
        for future in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
            await asyncio.to_thread(future.result, 30)
        for read in (bus.read(topic, 0, 1, max_bytes=1), consumer.read(0, 1, max_bytes=1)):
            with pytest.raises(OffsetOutOfRange) as caught:
                await read
            assert (caught.value.beginning, caught.value.end) == (4, 6)
        assert [m.offset for m in await read_all(bus, topic)] == [4, 5]


async def test_bytes_of_others_are_handed_on_and_told_apart(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap) as bus:
        await bus.create_topic(topic, partitions=1)
        ours = encode(header(), b"payload")
        newer = ours[:2] + b"\x02" + ours[3:]
        await raw(kafka.bootstrap, topic, ours, b"\x00\xffnobody knows", b"", newer, ours[:40], ours)
        messages = await read_all(bus, topic)
        assert [m.offset for m in messages] == list(range(6))
        assert decode(messages[0].value)[1] == decode(messages[5].value)[1] == b"payload"
        with pytest.raises(NewerVersion):
            decode(messages[3].value)
        for offset in (1, 2, 4):
            with pytest.raises(MalformedRecord) as caught:
                decode(messages[offset].value)
            assert not isinstance(caught.value, NewerVersion)
        # The others are counted all the same.
        assert [(e.key_id, e.in_flight) for e in await bus.ledger(topic)] == [("key1", 2)]


# Writing


async def test_a_record_too_large_is_refused_by_name_and_a_large_one_is_taken(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap, max_record_bytes=24 * MIB) as bus:
        await bus.create_topic(topic, partitions=1)
        with pytest.raises(TooLarge) as caught:
            await bus.publish(topic, header(), bytes(24 * MIB + 1))
        assert (caught.value.field, caught.value.limit) == ("max_record_bytes", 24 * MIB)
        large = uuid.uuid4().bytes * (20 * MIB // 16)
        await bus.publish(topic, header(), large)
        await bus.publish(topic, header(), b"next")
        messages = await read_all(bus, topic)
        assert decode(messages[0].value)[1] == large
        assert decode(messages[1].value)[1] == b"next"


def test_too_few_replicas_in_sync_are_named() -> None:
    topic = Topic("t", 1, 2)
    assert Description(topic, [3, 3], [3, 2]).shortage(2) is None
    shortage = Description(topic, [3, 3], [3, 1]).shortage(2)
    assert shortage is not None
    assert "t/1 has 1 of 3 replicas in sync" in shortage
    assert "no leader" in (Description(topic, [3, 3], [0, 3]).shortage(2) or "")
    # One replica is all there is: Kafka acknowledges then.
    assert Description(topic, [1, 1], [1, 1]).shortage(2) is None


async def test_a_letter_that_another_process_published_is_found(kafka: Kafka) -> None:
    topic = new_topic() + ".deadletters"
    letter = Header(1, 1, 0, 0, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)
    claims = [Claim(bytes([n + 1]) * 16, b"f" * 16) for n in range(3)]
    async with opened(kafka.bootstrap) as first, opened(kafka.bootstrap) as second:
        await first.create_topic(topic, partitions=2)
        placed = [await first.publish(topic, letter, b"{}", claim=claim, partition=1) for claim in claims]
        assert [p.offset for p in placed] == [0, 1, 2]
        again = [await second.publish(topic, letter, b"{}", claim=claim, partition=1) for claim in claims]
        assert [(p.offset, p.duplicate) for p in again] == [(0, True), (1, True), (2, True)]
        # Published by the second while the first thought it knew.
        new = Claim(b"n" * 16, b"f" * 16)
        results = await asyncio.gather(
            *(second.publish(topic, letter, b"{}", claim=new, partition=1) for _ in range(9))
        )
        assert sum(not p.duplicate for p in results) == 1
        assert (await first.publish(topic, letter, b"{}", claim=new, partition=1)).duplicate
        # Another partition is another place.
        assert not (await first.publish(topic, letter, b"{}", claim=new, partition=0)).duplicate


async def test_an_existing_topic_is_taken_as_it_is_but_takes_our_records(kafka: Kafka) -> None:
    topic = new_topic()
    async with opened(kafka.bootstrap, max_record_bytes=MIB) as bus:
        made = await bus.create_topic(topic, partitions=1)
    async with opened(kafka.bootstrap, partitions=5, max_record_bytes=8 * MIB) as bus:
        assert await bus.create_topic(topic) == made
        await bus.publish(topic, header(), uuid.uuid4().bytes * (6 * MIB // 16))


async def test_where_somebody_else_makes_topics_none_is_made_or_changed(kafka: Kafka) -> None:
    name = new_topic()
    bus = await KafkaBus.open(settings(kafka.bootstrap), SystemClock(), makes_topics=False)
    try:
        with pytest.raises(BusUnavailable, match="is not there"):
            await bus.create_topic(name)
        async with opened(kafka.bootstrap) as maker:
            with pytest.raises(NotFound):
                await maker.topic(name)
            made = await maker.create_topic(name, partitions=2)
            letters = await maker.create_topic(name + DEAD_LETTERS, partitions=2)
        assert await bus.create_topic(name) == made
        assert await bus.create_topic(letters.name, partitions=3) == letters
    finally:
        await bus.close()
