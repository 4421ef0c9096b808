"""What every bus must do: the embedded log, and Kafka on a real broker.

They differ by design in one thing: the embedded log keeps repeats of a claim out of every topic, Kafka only out
of dead letters, and its processor drops the others. Tests of claims on a topic of logs have `sqlite_world`; what
Kafka does instead stands in `test_on_kafka_a_repeat_goes_to_the_partition_of_the_first`. What differs in a few
words besides is a property of `World`.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.support.journal import MemoryJournal

from logstream.bus.header import Header, Kind, Segment, decode
from logstream.bus.kafka import KafkaBus
from logstream.bus.protocol import (
    NS_PER_MINUTE,
    Bus,
    Claim,
    Committed,
    Consumer,
    LedgerEntry,
    Message,
    Outcome,
    Settled,
)
from logstream.bus.sqlite import SqliteBus
from logstream.clock import NS_PER_SECOND, ManualClock
from logstream.errors import InvalidValue, KeyReused, LogStreamError, NotFound, OffsetOutOfRange
from logstream.settings import BusSettings, KafkaSettings

MIB = 1 << 20


class World:
    """One bus that can be closed and opened again on the same data, and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        # Topics stay on the broker when a test ends.
        self.topic = f"logstream.test-{uuid.uuid4().hex[:12]}"
        self.letters = self.topic + ".deadletters"
        self.group = "processor"
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus:
        assert self._bus is not None
        return self._bus

    async def make(self) -> Bus:
        raise NotImplementedError

    async def open(self) -> Bus:
        self._bus = await self.make()
        return self._bus

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()
            self._bus = None

    async def restart(self) -> Bus:
        await self.close()
        return await self.open()

    async def join(self, topic: str | None = None, group: str | None = None) -> Consumer:
        """A member of the group, once it owns its partitions: on Kafka that takes a moment."""
        consumer = await self.bus.consumer(topic or self.topic, group or self.group)
        async with asyncio.timeout(60):
            while not consumer.assignment():
                await asyncio.sleep(0.02)
        return consumer


class SqliteWorld(World):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def make(self) -> Bus:
        settings = BusSettings(path=self._path, idempotency_window_seconds=600, min_free_disk_bytes=0)
        return await SqliteBus.open(settings, self.clock)


class KafkaWorld(World):
    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.journal = MemoryJournal()
        self.settings = KafkaSettings(
            bootstrap_servers=bootstrap, replication_factor=1, min_insync_replicas=1, session_timeout_seconds=6
        )

    async def make(self) -> Bus:
        return await KafkaBus.open(self.settings, self.clock, journal=self.journal)


@pytest.fixture(params=["sqlite", "kafka"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "kafka":
        world: World = KafkaWorld(request.getfixturevalue("kafka").bootstrap)
    else:
        world = SqliteWorld(tmp_path / "bus")
    await world.open()
    await world.bus.create_topic(world.topic, partitions=1)
    yield world
    await world.close()


@pytest.fixture
async def sqlite_world(tmp_path: Path) -> AsyncIterator[World]:
    """For what holds on the embedded log only."""
    world = SqliteWorld(tmp_path / "bus")
    await world.open()
    await world.bus.create_topic(world.topic, partitions=1)
    yield world
    await world.close()


@pytest.fixture
async def kafka_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """For what holds on Kafka only."""
    world = KafkaWorld(request.getfixturevalue("kafka").bootstrap)
    await world.open()
    await world.bus.create_topic(world.topic, partitions=1)
    yield world
    await world.close()


def header(rows: int = 1, key_id: str = "key1", received_at: int = 1_700_000_000 * NS_PER_SECOND) -> Header:
    return Header(rows, received_at, received_at, received_at, (Segment(key_id, rows),))


def claim(key: str, body: str = "body") -> Claim:
    return Claim(hashlib.sha256(key.encode()).digest()[:16], hashlib.sha256(body.encode()).digest()[:16])


async def records(bus: Bus, topic: str, partition: int = 0) -> list[Message]:
    """All of a partition: one read may give fewer than it could."""
    offsets = await bus.offsets(topic, partition)
    found: list[Message] = []
    at = offsets.beginning
    while at < offsets.end:
        found += await bus.read(topic, partition, at, max_bytes=MIB)
        at = found[-1].offset + 1
    return found


async def payloads(bus: Bus, topic: str) -> list[bytes]:
    return [bytes(decode(message.value)[1]) for message in await records(bus, topic)]


def settled(offset: int, minute: int = 0, **outcomes: Outcome) -> Settled:
    return Settled(offset, offset, {(key_id, minute): outcome for key_id, outcome in outcomes.items()})


def entry(entries: object, key_id: str = "key1") -> LedgerEntry:
    assert isinstance(entries, (list, tuple))
    return next(e for e in entries if e.key_id == key_id)


async def test_offsets_are_consecutive_under_concurrency(world: World) -> None:
    published = await asyncio.gather(*(world.bus.publish(world.topic, header(), b"%d" % i) for i in range(500)))
    assert sorted(p.offset for p in published) == list(range(500))
    by_offset = {p.offset: b"%d" % i for i, p in enumerate(published)}
    assert await payloads(world.bus, world.topic) == [by_offset[o] for o in range(500)]
    offsets = await world.bus.offsets(world.topic, 0)
    assert (offsets.beginning, offsets.end) == (0, 500)


async def test_one_publisher_keeps_its_order(world: World) -> None:
    for i in range(20):
        assert (await world.bus.publish(world.topic, header(), b"%d" % i)).offset == i


async def test_what_was_published_is_there_after_a_restart(world: World) -> None:
    await world.bus.publish(world.topic, header(3), b"payload")
    await world.restart()
    [message] = await world.bus.read(world.topic, 0, 0, max_bytes=MIB)
    assert decode(message.value) == (header(3), b"payload")
    assert (await world.bus.publish(world.topic, header(), b"next")).offset == 1


async def test_a_topic_keeps_its_incarnation_and_partitions(world: World) -> None:
    made = await world.bus.create_topic(world.topic + ".other", partitions=3)
    assert 1 <= made.incarnation < 2**32
    assert await world.bus.create_topic(world.topic + ".other", partitions=5) == made
    await world.restart()
    assert await world.bus.create_topic(world.topic + ".other") == made
    assert made.incarnation != (await world.bus.create_topic(world.topic)).incarnation


async def test_who_looks_for_a_topic_makes_none(world: World) -> None:
    name = world.topic + ".looked-for"
    for _ in range(2):
        with pytest.raises(NotFound):
            await world.bus.topic(name)
    made = await world.bus.create_topic(name, partitions=2)
    assert await world.bus.topic(name) == made
    await world.bus.delete_topic(name)
    with pytest.raises(NotFound):
        await world.bus.topic(name)


async def test_partitions_have_offsets_of_their_own(world: World) -> None:
    await world.bus.create_topic(world.topic + ".wide", partitions=4)
    published = [
        await world.bus.publish(world.topic + ".wide", header(), b"%d" % i, claim=claim(str(i))) for i in range(40)
    ]
    assert len({p.partition for p in published}) > 1
    assert len({(p.partition, p.offset) for p in published}) == 40
    for partition in range(4):
        offsets = await world.bus.offsets(world.topic + ".wide", partition)
        messages = await records(world.bus, world.topic + ".wide", partition)
        assert [m.offset for m in messages] == list(range(offsets.end))
        assert all(m.partition == partition for m in messages)


async def test_unknown_topics_are_named(world: World) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: world.bus.publish("nowhere", header(), b""),
        lambda: world.bus.read("nowhere", 0, 0, max_bytes=1),
        lambda: world.bus.offsets(world.topic, 7),
        lambda: world.bus.consumer("nowhere", "g"),
        lambda: world.bus.ledger("nowhere"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match=r"nowhere|partition 7"):
            await call()


# Reading


async def test_a_read_gives_at_least_one_record_then_no_more_than_max_bytes(world: World) -> None:
    for _ in range(5):
        await world.bus.publish(world.topic, header(), bytes(1000))
    assert len(await world.bus.read(world.topic, 0, 0, max_bytes=1)) == 1
    size = len((await world.bus.read(world.topic, 0, 0, max_bytes=1))[0].value)
    assert [m.offset for m in await world.bus.read(world.topic, 0, 1, max_bytes=3 * size)] == [1, 2, 3]
    await world.restart()
    assert [m.offset for m in await world.bus.read(world.topic, 0, 1, max_bytes=3 * size)] == [1, 2, 3]
    assert len(await world.bus.read(world.topic, 0, 4, max_bytes=1)) == 1


async def test_reading_at_the_end_is_empty_and_past_it_an_error(world: World) -> None:
    await world.bus.publish(world.topic, header(), b"")
    assert await world.bus.read(world.topic, 0, 1, max_bytes=1) == ()
    assert await world.bus.read(world.topic, 0, 1, max_bytes=1, wait=0.01) == ()
    for offset in (-1, 2):
        with pytest.raises(OffsetOutOfRange) as caught:
            await world.bus.read(world.topic, 0, offset, max_bytes=1, wait=5)
        assert (caught.value.beginning, caught.value.end) == (0, 1)


async def test_an_append_wakes_every_waiting_reader(world: World) -> None:
    async with asyncio.timeout(20):
        waiting = [asyncio.create_task(world.bus.read(world.topic, 0, 0, max_bytes=MIB, wait=60)) for _ in range(10)]
        await asyncio.sleep(0)
        await world.bus.publish(world.topic, header(), b"x")
        for messages in await asyncio.gather(*waiting):
            assert [m.offset for m in messages] == [0]


async def test_a_cancelled_reader_leaves_the_others_waiting(world: World) -> None:
    async with asyncio.timeout(20):
        gone = asyncio.create_task(world.bus.read(world.topic, 0, 0, max_bytes=MIB, wait=60))
        stays = asyncio.create_task(world.bus.read(world.topic, 0, 0, max_bytes=MIB, wait=60))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await world.bus.publish(world.topic, header(), b"x")
        assert len(await stays) == 1


# Claims, on topics of logs: by design on the embedded log only


async def test_a_repeated_claim_appends_nothing(sqlite_world: World) -> None:
    first = await sqlite_world.bus.publish(sqlite_world.topic, header(2), b"one", claim=claim("k"))
    again = await sqlite_world.bus.publish(sqlite_world.topic, header(2), b"one", claim=claim("k"))
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.partition, again.offset) == (first.partition, first.offset)
    assert await payloads(sqlite_world.bus, sqlite_world.topic) == [b"one"]


async def test_one_of_many_claims_at_once_wins(sqlite_world: World) -> None:
    published = await asyncio.gather(
        *(sqlite_world.bus.publish(sqlite_world.topic, header(), b"one", claim=claim("k")) for _ in range(50))
    )
    assert [p.duplicate for p in published].count(False) == 1
    assert {p.offset for p in published} == {0}
    assert await payloads(sqlite_world.bus, sqlite_world.topic) == [b"one"]


async def test_a_claim_lasts_ten_minutes_and_across_a_restart(sqlite_world: World) -> None:
    await sqlite_world.bus.publish(sqlite_world.topic, header(), b"one", claim=claim("k"))
    sqlite_world.clock.advance(599)
    await sqlite_world.restart()
    assert (await sqlite_world.bus.publish(sqlite_world.topic, header(), b"one", claim=claim("k"))).duplicate
    sqlite_world.clock.advance(2)
    assert not (
        await sqlite_world.bus.publish(sqlite_world.topic, header(), b"two", claim=claim("k", "other"))
    ).duplicate
    assert (await sqlite_world.bus.publish(sqlite_world.topic, header(), b"two", claim=claim("k", "other"))).duplicate


async def test_a_claim_with_another_body_is_refused(sqlite_world: World) -> None:
    await sqlite_world.bus.publish(sqlite_world.topic, header(), b"one", claim=claim("k"))
    with pytest.raises(KeyReused):
        await sqlite_world.bus.publish(sqlite_world.topic, header(), b"two", claim=claim("k", "other"))
    assert await payloads(sqlite_world.bus, sqlite_world.topic) == [b"one"]
    assert entry(await sqlite_world.bus.ledger(sqlite_world.topic)).accepted == 1


async def test_a_refused_claim_does_not_sink_its_neighbours(sqlite_world: World) -> None:
    await sqlite_world.bus.publish(sqlite_world.topic, header(), b"0", claim=claim("k"))
    results = await asyncio.gather(
        sqlite_world.bus.publish(sqlite_world.topic, header(), b"1"),
        sqlite_world.bus.publish(sqlite_world.topic, header(), b"x", claim=claim("k", "other")),
        sqlite_world.bus.publish(sqlite_world.topic, header(), b"2"),
        return_exceptions=True,
    )
    assert isinstance(results[1], KeyReused)
    assert await payloads(sqlite_world.bus, sqlite_world.topic) == [b"0", b"1", b"2"]


async def test_topics_do_not_share_claims(sqlite_world: World) -> None:
    await sqlite_world.bus.create_topic(sqlite_world.topic + ".other")
    await sqlite_world.bus.publish(sqlite_world.topic, header(), b"one", claim=claim("k"))
    assert not (
        await sqlite_world.bus.publish(sqlite_world.topic + ".other", header(), b"one", claim=claim("k"))
    ).duplicate


async def test_the_ledger_knows_repeats(sqlite_world: World) -> None:
    bus = sqlite_world.bus
    consumer = await sqlite_world.join()

    async def check(*expected: LedgerEntry) -> None:
        entries = await bus.ledger(sqlite_world.topic)
        assert sorted(entries, key=lambda e: e.key_id) == list(expected)
        for e in entries:
            assert e.accepted == e.stored + e.deduplicated + e.dead_lettered + e.in_flight

    mixed = Header(5, 1, 1, 1, (Segment("a", 2), Segment("b", 3)))
    await bus.publish(sqlite_world.topic, mixed, b"", claim=claim("k"))
    await check(LedgerEntry("a", 2, 0, 0, 0, 2), LedgerEntry("b", 3, 0, 0, 0, 3))
    await bus.publish(sqlite_world.topic, mixed, b"", claim=claim("k"))
    await check(LedgerEntry("a", 4, 0, 2, 0, 2), LedgerEntry("b", 6, 0, 3, 0, 3))
    await bus.publish(sqlite_world.topic, header(4, "a"), b"")
    await consumer.commit(0, Committed(0, "plan"))
    await check(LedgerEntry("a", 8, 0, 2, 0, 6), LedgerEntry("b", 6, 0, 3, 0, 3))
    await consumer.commit(0, Committed(1), settled(0, a=Outcome(stored=2), b=Outcome(stored=1, dead_lettered=2)))
    await check(LedgerEntry("a", 8, 2, 2, 0, 4), LedgerEntry("b", 6, 1, 3, 2, 0))
    bus = await sqlite_world.restart()
    await check(LedgerEntry("a", 8, 2, 2, 0, 4), LedgerEntry("b", 6, 1, 3, 2, 0))
    consumer = await sqlite_world.join()
    await consumer.commit(0, Committed(2), settled(1, a=Outcome(stored=4)))
    await check(LedgerEntry("a", 8, 6, 2, 0, 0), LedgerEntry("b", 6, 1, 3, 2, 0))


async def test_on_kafka_a_repeat_goes_to_the_partition_of_the_first(kafka_world: World) -> None:
    bus, topic = kafka_world.bus, kafka_world.topic + ".wide"
    await bus.create_topic(topic, partitions=4)
    first = await bus.publish(topic, header(2), b"one", claim=claim("k"))
    again = await bus.publish(topic, header(2), b"one", claim=claim("k"))
    other = await bus.publish(topic, header(2), b"two", claim=claim("k", "other"))
    assert {p.partition for p in (first, again, other)} == {first.partition}
    assert [p.offset for p in (first, again, other)] == [0, 1, 2]
    assert not any(p.duplicate for p in (first, again, other))
    headers = [decode(m.value)[0] for m in await records(bus, topic, first.partition)]
    assert [(h.idempotency_key, h.fingerprint) for h in headers] == [
        (claim("k", body).key, claim("k", body).fingerprint) for body in ("body", "body", "other")
    ]


# Groups and ledger


async def test_a_group_starts_at_zero_and_finds_its_position_again(world: World) -> None:
    consumer = await world.join(group="g")
    assert consumer.assignment() == {0}
    assert await consumer.committed(0) == Committed(0)
    for _ in range(3):
        await world.bus.publish(world.topic, header(), b"")
    await consumer.commit(0, Committed(2, '{"plan": 1}'))
    await consumer.close()
    await world.restart()
    consumer = await world.join(group="g")
    assert await consumer.committed(0) == Committed(2, '{"plan": 1}')
    assert await (await world.join(group="h")).committed(0) == Committed(0)
    assert await world.bus.committed(world.topic, "g", 0) == Committed(2, '{"plan": 1}')
    assert await world.bus.committed(world.topic, "nobody", 0) == Committed(0)
    assert [m.offset for m in await consumer.read(0, 2, max_bytes=MIB)] == [2]


async def test_a_position_beyond_the_end_is_refused(world: World) -> None:
    consumer = await world.join(group="g")
    with pytest.raises(LogStreamError):
        await consumer.commit(0, Committed(1))
    assert await consumer.committed(0) == Committed(0)


def balanced(entries: object) -> list[LedgerEntry]:
    assert isinstance(entries, (list, tuple))
    for e in entries:
        assert e.accepted == e.stored + e.deduplicated + e.dead_lettered + e.in_flight
    return sorted(entries, key=lambda e: e.key_id)


async def test_the_ledger_adds_up_at_every_step(world: World) -> None:
    bus, topic = world.bus, world.topic
    consumer = await world.join()
    mixed = Header(5, 1, 1, 1, (Segment("a", 2), Segment("b", 3)))
    for _ in range(3):
        await bus.publish(topic, mixed, b"")
    await bus.publish(topic, header(4, "a"), b"")
    waiting = [LedgerEntry("a", 10, 0, 0, 0, 10), LedgerEntry("b", 9, 0, 0, 0, 9)]
    assert balanced(await bus.ledger(topic)) == waiting
    await consumer.commit(0, Committed(0, "plan"))
    assert balanced(await bus.ledger(topic)) == waiting
    await consumer.commit(0, Committed(1), settled(0, a=Outcome(stored=2), b=Outcome(stored=1, dead_lettered=2)))
    after = [LedgerEntry("a", 10, 2, 0, 0, 8), LedgerEntry("b", 9, 1, 0, 2, 6)]
    assert balanced(await bus.ledger(topic)) == after
    await bus.publish(topic, header(1, "c"), b"")
    after.append(LedgerEntry("c", 1, 0, 0, 0, 1))
    assert balanced(await bus.ledger(topic)) == after
    await consumer.close()
    bus = await world.restart()
    assert balanced(await bus.ledger(topic)) == after
    consumer = await world.join()
    # A repeat that the processor found.
    await consumer.commit(0, Committed(2), settled(1, a=Outcome(deduplicated=2), b=Outcome(deduplicated=3)))
    assert balanced(await bus.ledger(topic)) == [
        LedgerEntry("a", 10, 2, 2, 0, 6), LedgerEntry("b", 9, 1, 3, 2, 3), LedgerEntry("c", 1, 0, 0, 0, 1),
    ]  # fmt: skip


async def test_the_ledger_counts_by_the_minute_a_record_was_received(world: World) -> None:
    bus, topic = world.bus, world.topic
    consumer = await world.join()
    minute = 28_000_000
    for number in range(4):
        await bus.publish(topic, header(1 + number, received_at=(minute + number) * NS_PER_MINUTE + 5), b"")
    await consumer.commit(0, Committed(1), settled(0, minute, key1=Outcome(stored=1)))
    await consumer.commit(0, Committed(2), settled(1, minute + 1, key1=Outcome(dead_lettered=2)))

    async def between(start: int | None, end: int | None) -> list[LedgerEntry]:
        return balanced(await bus.ledger(topic, start=start, end=end))

    assert await between(None, None) == [LedgerEntry("key1", 10, 1, 0, 2, 7)]
    at = minute * NS_PER_MINUTE
    assert await between(at, at + 1) == [LedgerEntry("key1", 1, 1, 0, 0, 0)]
    assert await between(at + NS_PER_MINUTE + 7, at + 2 * NS_PER_MINUTE + 1) == [LedgerEntry("key1", 5, 0, 0, 2, 3)]
    assert await between(at + 3 * NS_PER_MINUTE, None) == [LedgerEntry("key1", 4, 0, 0, 0, 4)]
    assert await between(None, at + NS_PER_MINUTE) == [LedgerEntry("key1", 1, 1, 0, 0, 0)]
    assert await between(None, at) == []


class Told:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()
        self.calls: list[str] = []

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.calls.append("assigned")
        self.partitions |= partitions

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.calls.append("revoked")
        self.partitions -= partitions


async def test_a_listener_is_told_what_is_assigned(world: World) -> None:
    await world.bus.create_topic(world.topic + ".wide", partitions=3)
    told = Told()
    consumer = await world.bus.consumer(world.topic + ".wide", "g", listener=told)
    async with asyncio.timeout(60):
        while told.partitions != {0, 1, 2}:
            await asyncio.sleep(0.01)
    assert consumer.assignment() == {0, 1, 2}
    assert "revoked" not in told.calls
    await consumer.close()


async def test_a_record_goes_to_the_partition_that_is_asked_for(world: World) -> None:
    await world.bus.create_topic(world.topic + ".wide", partitions=3)
    for partition in (2, 0, 2):
        placed = await world.bus.publish(world.topic + ".wide", header(), b"", partition=partition)
        assert placed.partition == partition
    with pytest.raises(NotFound, match="partition 3"):
        await world.bus.publish(world.topic + ".wide", header(), b"", partition=3)


async def test_dead_letters_are_a_topic_of_their_own(world: World) -> None:
    await world.bus.create_topic(world.letters, partitions=1)
    letter = Header(1, 1, 0, 0, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)
    await world.bus.publish(world.letters, letter, b"{}", claim=claim("identity"))
    assert (await world.bus.publish(world.letters, letter, b"{}", claim=claim("identity"))).duplicate
    assert await payloads(world.bus, world.letters) == [b"{}"]
    await world.restart()
    assert (await world.bus.publish(world.letters, letter, b"{}", claim=claim("identity"), partition=0)).duplicate
    assert not (await world.bus.publish(world.letters, letter, b"{}", claim=claim("another"))).duplicate
    assert len(await payloads(world.bus, world.letters)) == 2
    assert await world.bus.ledger(world.topic) == []


# Topics go


async def gone(world: World, topic: str) -> None:
    """On Kafka a broker may go on answering for a moment."""
    async with asyncio.timeout(30):
        while True:
            try:
                await world.bus.offsets(topic, 0)
            except NotFound:
                return
            except LogStreamError:
                pass
            await asyncio.sleep(0.05)


async def test_a_deleted_topic_is_gone_with_all_it_had_and_no_other(world: World) -> None:
    other = world.topic + ".other"
    letters = other + ".deadletters"
    for name in (other, letters):
        await world.bus.create_topic(name, partitions=2)
    for name in (world.topic, other, letters):
        await world.bus.publish(name, header(), b"kept", partition=0)
    consumer = await world.join(other)
    await consumer.commit(0, Committed(1, "plan"), Settled(0, 0, {("key1", 1): Outcome(stored=1)}))
    await consumer.close()
    assert await world.bus.ledger(other) != []
    before = await world.bus.create_topic(other)
    await world.bus.delete_topic(other)
    await world.bus.delete_topic(other)
    await gone(world, other)
    with pytest.raises(NotFound):
        await world.bus.publish(other, header(), b"late")
    await world.restart()
    with pytest.raises(NotFound):
        await world.bus.offsets(other, 0)
    for name in (world.topic, letters):
        assert await payloads(world.bus, name) == [b"kept"]
    made_anew = await world.bus.create_topic(other, partitions=1)
    assert made_anew.incarnation != before.incarnation
    assert made_anew.partitions == 1
    assert await payloads(world.bus, other) == []
    assert await world.bus.ledger(other) == []
    assert await world.bus.committed(other, world.group, 0) == Committed(0)
    await world.bus.publish(other, header(), b"anew")
    assert await payloads(world.bus, other) == [b"anew"]


async def test_deleting_a_topic_that_never_was_is_no_error(world: World) -> None:
    await world.bus.delete_topic(world.topic + ".never")
    await world.bus.check()


async def test_readers_and_members_of_a_deleted_topic_are_told(world: World) -> None:
    consumer = await world.join()
    waiting = asyncio.create_task(world.bus.read(world.topic, 0, 0, max_bytes=1, wait=1))
    await asyncio.sleep(0)
    await world.bus.delete_topic(world.topic)
    async with asyncio.timeout(60):
        # On Kafka it may come back empty-handed; then the next one is told.
        await asyncio.gather(waiting, return_exceptions=True)
        await gone(world, world.topic)
        with pytest.raises(LogStreamError):
            await world.bus.read(world.topic, 0, 0, max_bytes=1, wait=0.1)
        with pytest.raises(LogStreamError):
            await consumer.commit(0, Committed(0))
        await consumer.close()
    await world.bus.check()


async def test_only_dead_letters_are_kept_for_days(world: World) -> None:
    await world.bus.create_topic(world.letters, partitions=1, retention_days=3)
    await world.bus.set_retention(world.letters, 5)
    await world.bus.set_retention(world.letters + ".deadletters", 5)
    with pytest.raises(InvalidValue, match="dead letters"):
        await world.bus.set_retention(world.topic, 5)


async def test_kafka_keeps_dead_letters_as_long_as_their_topic_says(kafka_world: World) -> None:
    bus = kafka_world.bus
    assert isinstance(bus, KafkaBus)

    async def kept() -> float:
        properties = await bus._admin.properties(kafka_world.letters)
        return int(properties["retention.ms"]) / 86_400_000

    async def becomes(days: float) -> None:
        # Brokers tell each other.
        async with asyncio.timeout(20):
            while await kept() != days:
                await asyncio.sleep(0.05)

    await bus.create_topic(kafka_world.letters, partitions=1, retention_days=3)
    await becomes(3)
    await bus.set_retention(kafka_world.letters, 5)
    await becomes(5)
    # Of a topic that is there, too, and left alone when nothing is said.
    await bus.create_topic(kafka_world.letters, retention_days=7)
    await becomes(7)
    await kafka_world.restart()
    await kafka_world.bus.create_topic(kafka_world.letters)
    bus = kafka_world.bus  # type: ignore[assignment]
    await becomes(7)


async def test_the_embedded_log_forgets_dead_letters_of_other_days(sqlite_world: World) -> None:
    bus = sqlite_world.bus
    await bus.create_topic(sqlite_world.letters, retention_days=3)
    letter = Header(1, 1, 0, 0, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)

    async def beginning_is(offset: int) -> None:
        async with asyncio.timeout(30):
            while (await bus.offsets(sqlite_world.letters, 0)).beginning != offset:
                await asyncio.sleep(0.05)

    for _ in range(2):
        await bus.publish(sqlite_world.letters, letter, b"old")
    sqlite_world.clock.advance(2 * 86_400)
    await bus.publish(sqlite_world.letters, letter, b"newer")
    await asyncio.sleep(1.5)
    await beginning_is(0)
    sqlite_world.clock.advance(1.5 * 86_400)
    await beginning_is(2)
    await bus.publish(sqlite_world.letters, letter, b"last")
    await bus.set_retention(sqlite_world.letters, 1)
    await beginning_is(3)


# Life


async def test_a_cancelled_publish_does_not_disturb_the_next(world: World) -> None:
    gone = asyncio.create_task(world.bus.publish(world.topic, header(), b"perhaps"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    published = await world.bus.publish(world.topic, header(), b"surely")
    assert (await payloads(world.bus, world.topic))[published.offset] == b"surely"


async def test_close_finishes_what_was_begun_and_is_idempotent(world: World) -> None:
    begun = [asyncio.create_task(world.bus.publish(world.topic, header(), b"%d" % i)) for i in range(100)]
    await asyncio.sleep(0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.bus.close)
        await world.bus.close()
    assert len(await asyncio.gather(*begun)) == 100
    with pytest.raises(LogStreamError):
        await world.bus.publish(world.topic, header(), b"late")
    await world.restart()
    assert len(await payloads(world.bus, world.topic)) == 100


async def test_close_wakes_waiting_readers(world: World) -> None:
    async with asyncio.timeout(20):
        waiting = asyncio.create_task(world.bus.read(world.topic, 0, 0, max_bytes=1, wait=60))
        await asyncio.sleep(0)
        await world.bus.close()
        with pytest.raises(LogStreamError):
            await waiting


async def test_check_passes_on_a_healthy_bus(world: World) -> None:
    await world.bus.check()
