"""What every bus must do. Today the embedded log; Kafka joins the fixture's parameters."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from logstream.bus.header import Header, Kind, Segment, decode
from logstream.bus.protocol import Bus, Claim, Committed, LedgerEntry, Outcome, Settled
from logstream.bus.sqlite import SqliteBus
from logstream.clock import NS_PER_SECOND, ManualClock
from logstream.errors import KeyReused, LogStreamError, NotFound, OffsetOutOfRange
from logstream.settings import BusSettings

TOPIC = "logstream.test"
LETTERS = TOPIC + ".deadletters"
MIB = 1 << 20


class World:
    """One bus that can be closed and opened again on the same data, and its clock."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self._path = path
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus:
        assert self._bus is not None
        return self._bus

    async def open(self) -> Bus:
        settings = BusSettings(path=self._path, idempotency_window_seconds=600, min_free_disk_bytes=0)
        self._bus = await SqliteBus.open(settings, self.clock)
        return self._bus

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()
            self._bus = None

    async def restart(self) -> Bus:
        await self.close()
        return await self.open()


@pytest.fixture(params=["sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "bus")
    await world.open()
    await world.bus.create_topic(TOPIC)
    yield world
    await world.close()


def header(rows: int = 1, key_id: str = "key1", received_at: int = 1_700_000_000 * NS_PER_SECOND) -> Header:
    return Header(rows, received_at, received_at, received_at, (Segment(key_id, rows),))


def claim(key: str, body: str = "body") -> Claim:
    return Claim(hashlib.sha256(key.encode()).digest()[:16], hashlib.sha256(body.encode()).digest()[:16])


async def payloads(bus: Bus, offset: int = 0, max_bytes: int = MIB, topic: str = TOPIC) -> list[bytes]:
    return [bytes(decode(m.value)[1]) for m in await bus.read(topic, 0, offset, max_bytes=max_bytes)]


def settled(offset: int, **outcomes: Outcome) -> Settled:
    return Settled(offset, offset, {(key_id, 0): outcome for key_id, outcome in outcomes.items()})


def entry(entries: object, key_id: str = "key1") -> LedgerEntry:
    assert isinstance(entries, (list, tuple))
    return next(e for e in entries if e.key_id == key_id)


async def test_offsets_are_consecutive_under_concurrency(world: World) -> None:
    published = await asyncio.gather(*(world.bus.publish(TOPIC, header(), b"%d" % i) for i in range(500)))
    assert sorted(p.offset for p in published) == list(range(500))
    by_offset = {p.offset: b"%d" % i for i, p in enumerate(published)}
    assert await payloads(world.bus) == [by_offset[o] for o in range(500)]
    offsets = await world.bus.offsets(TOPIC, 0)
    assert (offsets.beginning, offsets.end) == (0, 500)


async def test_one_publisher_keeps_its_order(world: World) -> None:
    for i in range(20):
        assert (await world.bus.publish(TOPIC, header(), b"%d" % i)).offset == i


async def test_what_was_published_is_there_after_a_restart(world: World) -> None:
    await world.bus.publish(TOPIC, header(3), b"payload")
    await world.restart()
    [message] = await world.bus.read(TOPIC, 0, 0, max_bytes=MIB)
    assert decode(message.value) == (header(3), b"payload")
    assert (await world.bus.publish(TOPIC, header(), b"next")).offset == 1


async def test_a_topic_keeps_its_incarnation_and_partitions(world: World) -> None:
    made = await world.bus.create_topic("other", partitions=3)
    assert 1 <= made.incarnation < 2**32
    assert await world.bus.create_topic("other", partitions=5) == made
    await world.restart()
    assert await world.bus.create_topic("other") == made
    assert made.incarnation != (await world.bus.create_topic(TOPIC)).incarnation


async def test_partitions_have_offsets_of_their_own(world: World) -> None:
    await world.bus.create_topic("wide", partitions=4)
    published = [await world.bus.publish("wide", header(), b"%d" % i, claim=claim(str(i))) for i in range(40)]
    assert len({p.partition for p in published}) > 1
    assert len({(p.partition, p.offset) for p in published}) == 40
    for partition in range(4):
        offsets = await world.bus.offsets("wide", partition)
        messages = await world.bus.read("wide", partition, 0, max_bytes=MIB) if offsets.end else []
        assert [m.offset for m in messages] == list(range(offsets.end))
        assert all(m.partition == partition for m in messages)


async def test_unknown_topics_are_named(world: World) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: world.bus.publish("nowhere", header(), b""),
        lambda: world.bus.read("nowhere", 0, 0, max_bytes=1),
        lambda: world.bus.offsets(TOPIC, 7),
        lambda: world.bus.consumer("nowhere", "g"),
        lambda: world.bus.ledger("nowhere"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match=r"nowhere|partition 7"):
            await call()


# Reading


async def test_a_read_gives_at_least_one_record_then_no_more_than_max_bytes(world: World) -> None:
    for _ in range(5):
        await world.bus.publish(TOPIC, header(), bytes(1000))
    assert len(await world.bus.read(TOPIC, 0, 0, max_bytes=1)) == 1
    size = len((await world.bus.read(TOPIC, 0, 0, max_bytes=1))[0].value)
    assert [m.offset for m in await world.bus.read(TOPIC, 0, 1, max_bytes=3 * size)] == [1, 2, 3]
    await world.restart()
    assert [m.offset for m in await world.bus.read(TOPIC, 0, 1, max_bytes=3 * size)] == [1, 2, 3]
    assert len(await world.bus.read(TOPIC, 0, 4, max_bytes=1)) == 1


async def test_reading_at_the_end_is_empty_and_past_it_an_error(world: World) -> None:
    await world.bus.publish(TOPIC, header(), b"")
    assert await world.bus.read(TOPIC, 0, 1, max_bytes=1) == ()
    assert await world.bus.read(TOPIC, 0, 1, max_bytes=1, wait=0.01) == ()
    for offset in (-1, 2):
        with pytest.raises(OffsetOutOfRange) as caught:
            await world.bus.read(TOPIC, 0, offset, max_bytes=1, wait=5)
        assert (caught.value.beginning, caught.value.end) == (0, 1)


async def test_an_append_wakes_every_waiting_reader(world: World) -> None:
    async with asyncio.timeout(20):
        waiting = [asyncio.create_task(world.bus.read(TOPIC, 0, 0, max_bytes=MIB, wait=60)) for _ in range(10)]
        await asyncio.sleep(0)
        await world.bus.publish(TOPIC, header(), b"x")
        for messages in await asyncio.gather(*waiting):
            assert [m.offset for m in messages] == [0]


async def test_a_cancelled_reader_leaves_the_others_waiting(world: World) -> None:
    async with asyncio.timeout(20):
        gone = asyncio.create_task(world.bus.read(TOPIC, 0, 0, max_bytes=MIB, wait=60))
        stays = asyncio.create_task(world.bus.read(TOPIC, 0, 0, max_bytes=MIB, wait=60))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await world.bus.publish(TOPIC, header(), b"x")
        assert len(await stays) == 1


# Claims


async def test_a_repeated_claim_appends_nothing(world: World) -> None:
    first = await world.bus.publish(TOPIC, header(2), b"one", claim=claim("k"))
    again = await world.bus.publish(TOPIC, header(2), b"one", claim=claim("k"))
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.partition, again.offset) == (first.partition, first.offset)
    assert await payloads(world.bus) == [b"one"]


async def test_one_of_many_claims_at_once_wins(world: World) -> None:
    published = await asyncio.gather(*(world.bus.publish(TOPIC, header(), b"one", claim=claim("k")) for _ in range(50)))
    assert [p.duplicate for p in published].count(False) == 1
    assert {p.offset for p in published} == {0}
    assert await payloads(world.bus) == [b"one"]


async def test_a_claim_lasts_ten_minutes_and_across_a_restart(world: World) -> None:
    await world.bus.publish(TOPIC, header(), b"one", claim=claim("k"))
    world.clock.advance(599)
    await world.restart()
    assert (await world.bus.publish(TOPIC, header(), b"one", claim=claim("k"))).duplicate
    world.clock.advance(2)
    assert not (await world.bus.publish(TOPIC, header(), b"two", claim=claim("k", "other"))).duplicate
    assert (await world.bus.publish(TOPIC, header(), b"two", claim=claim("k", "other"))).duplicate


async def test_a_claim_with_another_body_is_refused(world: World) -> None:
    await world.bus.publish(TOPIC, header(), b"one", claim=claim("k"))
    with pytest.raises(KeyReused):
        await world.bus.publish(TOPIC, header(), b"two", claim=claim("k", "other"))
    assert await payloads(world.bus) == [b"one"]
    assert entry(await world.bus.ledger(TOPIC)).accepted == 1


async def test_a_refused_claim_does_not_sink_its_neighbours(world: World) -> None:
    await world.bus.publish(TOPIC, header(), b"0", claim=claim("k"))
    results = await asyncio.gather(
        world.bus.publish(TOPIC, header(), b"1"),
        world.bus.publish(TOPIC, header(), b"x", claim=claim("k", "other")),
        world.bus.publish(TOPIC, header(), b"2"),
        return_exceptions=True,
    )
    assert isinstance(results[1], KeyReused)
    assert await payloads(world.bus) == [b"0", b"1", b"2"]


async def test_topics_do_not_share_claims(world: World) -> None:
    await world.bus.create_topic("other")
    await world.bus.publish(TOPIC, header(), b"one", claim=claim("k"))
    assert not (await world.bus.publish("other", header(), b"one", claim=claim("k"))).duplicate


# Groups and ledger


async def test_a_group_starts_at_zero_and_finds_its_position_again(world: World) -> None:
    consumer = await world.bus.consumer(TOPIC, "g")
    assert consumer.assignment() == {0}
    assert await consumer.committed(0) == Committed(0)
    for _ in range(3):
        await world.bus.publish(TOPIC, header(), b"")
    await consumer.commit(0, Committed(2, '{"plan": 1}'))
    await consumer.close()
    await world.restart()
    consumer = await world.bus.consumer(TOPIC, "g")
    assert await consumer.committed(0) == Committed(2, '{"plan": 1}')
    assert await (await world.bus.consumer(TOPIC, "h")).committed(0) == Committed(0)
    assert await world.bus.committed(TOPIC, "g", 0) == Committed(2, '{"plan": 1}')
    assert await world.bus.committed(TOPIC, "nobody", 0) == Committed(0)
    assert [m.offset for m in await consumer.read(0, 2, max_bytes=MIB)] == [2]


async def test_a_position_beyond_the_end_is_refused(world: World) -> None:
    consumer = await world.bus.consumer(TOPIC, "g")
    with pytest.raises(LogStreamError):
        await consumer.commit(0, Committed(1))
    assert await consumer.committed(0) == Committed(0)


async def test_the_ledger_adds_up_at_every_step(world: World) -> None:
    bus = world.bus
    consumer = await bus.consumer(TOPIC, "g")

    async def check(*expected: LedgerEntry) -> None:
        entries = await bus.ledger(TOPIC)
        assert sorted(entries, key=lambda e: e.key_id) == list(expected)
        for e in entries:
            assert e.accepted == e.stored + e.deduplicated + e.dead_lettered + e.in_flight

    mixed = Header(5, 1, 1, 1, (Segment("a", 2), Segment("b", 3)))
    await bus.publish(TOPIC, mixed, b"", claim=claim("k"))
    await check(LedgerEntry("a", 2, 0, 0, 0, 2), LedgerEntry("b", 3, 0, 0, 0, 3))
    await bus.publish(TOPIC, mixed, b"", claim=claim("k"))
    await check(LedgerEntry("a", 4, 0, 2, 0, 2), LedgerEntry("b", 6, 0, 3, 0, 3))
    await bus.publish(TOPIC, header(4, "a"), b"")
    await consumer.commit(0, Committed(0, "plan"))
    await check(LedgerEntry("a", 8, 0, 2, 0, 6), LedgerEntry("b", 6, 0, 3, 0, 3))
    await consumer.commit(0, Committed(1), settled(0, a=Outcome(stored=2), b=Outcome(stored=1, dead_lettered=2)))
    await check(LedgerEntry("a", 8, 2, 2, 0, 4), LedgerEntry("b", 6, 1, 3, 2, 0))
    bus = await world.restart()
    await check(LedgerEntry("a", 8, 2, 2, 0, 4), LedgerEntry("b", 6, 1, 3, 2, 0))
    consumer = await bus.consumer(TOPIC, "g")
    await consumer.commit(0, Committed(2), settled(1, a=Outcome(stored=4)))
    await check(LedgerEntry("a", 8, 6, 2, 0, 0), LedgerEntry("b", 6, 1, 3, 2, 0))


async def test_dead_letters_are_a_topic_of_their_own(world: World) -> None:
    await world.bus.create_topic(LETTERS)
    letter = Header(1, 1, 0, 0, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)
    await world.bus.publish(LETTERS, letter, b"{}", claim=claim("identity"))
    assert (await world.bus.publish(LETTERS, letter, b"{}", claim=claim("identity"))).duplicate
    assert await payloads(world.bus, topic=LETTERS) == [b"{}"]
    assert await world.bus.ledger(TOPIC) == []


# Life


async def test_a_cancelled_publish_does_not_disturb_the_next(world: World) -> None:
    gone = asyncio.create_task(world.bus.publish(TOPIC, header(), b"perhaps"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    published = await world.bus.publish(TOPIC, header(), b"surely")
    assert (await payloads(world.bus))[published.offset] == b"surely"


async def test_close_finishes_what_was_begun_and_is_idempotent(world: World) -> None:
    begun = [asyncio.create_task(world.bus.publish(TOPIC, header(), b"%d" % i)) for i in range(100)]
    await asyncio.sleep(0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.bus.close)
        await world.bus.close()
    assert len(await asyncio.gather(*begun)) == 100
    with pytest.raises(LogStreamError):
        await world.bus.publish(TOPIC, header(), b"late")
    await world.restart()
    assert len(await payloads(world.bus)) == 100


async def test_close_wakes_waiting_readers(world: World) -> None:
    async with asyncio.timeout(20):
        waiting = asyncio.create_task(world.bus.read(TOPIC, 0, 0, max_bytes=1, wait=60))
        await asyncio.sleep(0)
        await world.bus.close()
        with pytest.raises(LogStreamError):
            await waiting


async def test_check_passes_on_a_healthy_bus(world: World) -> None:
    await world.bus.check()
