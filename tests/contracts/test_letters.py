"""Replaying dead letters exactly once, on every bus: through crashes between any two steps, much later, at once."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.support.letters import Crash, Mortal, letter, open_kafka, put, records_of, rows_of
from tests.support.slow_bus import SlowBus

from logstream.bus.protocol import Bus, Committed
from logstream.bus.sqlite import SqliteBus
from logstream.clock import ManualClock
from logstream.letters import replay as replaying
from logstream.letters import search
from logstream.letters.box import LetterBox
from logstream.letters.edit import Changes
from logstream.letters.format import LetterId
from logstream.letters.index import State
from logstream.letters.replay import Operation, Replayer, Result
from logstream.letters.search import LetterFilter
from logstream.settings import BusSettings, IngestLimits
from logstream.stream import Stream, make_stream

ADMIN = Operation("admin")


class World:
    """A bus and its clock, and processes that work on the same letters."""

    def __init__(self, bus: Bus, stream: Stream, clock: ManualClock) -> None:
        self.bus = bus
        self.stream = stream
        self.clock = clock

    def process(self) -> Replayer:
        """Another process: it knows only what it reads."""
        return Replayer(LetterBox(self.bus, self.stream, self.clock, max_letters=10_000), IngestLimits())

    async def letters(self, count: int) -> list[LetterId]:
        return await put(self.bus, self.stream, *(letter(self.stream, self.clock, n) for n in range(count)))

    async def sent(self) -> Counter[str]:
        """Rows that were sent again."""
        found = [await records_of(self.bus, self.stream.topic, partition) for partition in range(PARTITIONS)]
        return sum(map(rows_of, found), Counter[str]())

    async def states(self) -> Counter[State]:
        box = self.process()._box
        await box.fresh()
        return Counter(part.state(at) for part in box.parts for at in range(len(part)))

    async def crash(self, ids: list[LetterId], step: str, operation: Operation = ADMIN) -> None:
        """A replay that ends right before `step`."""
        with pytest.raises(Crash):
            await Mortal(self.process(), step).replay(ids, operation)


STEPS = ("send", "some", "arrived")


PARTITIONS = 2


@pytest.fixture(params=["sqlite", "kafka"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    bus: Bus
    if request.param == "sqlite":
        settings = BusSettings(path=tmp_path / "bus", min_free_disk_bytes=0, retain_bytes=0, retain_seconds=0)
        bus = await SqliteBus.open(settings, clock)
    else:
        bus = await open_kafka(request.getfixturevalue("kafka").bootstrap, clock)
    stream = make_stream("letters", generation=uuid.uuid4().hex)
    await bus.create_topic(stream.topic, partitions=PARTITIONS)
    await bus.create_topic(stream.dead_letter_topic, partitions=PARTITIONS)
    yield World(bus, stream, clock)
    await bus.close()


def outcomes(results: list[Result]) -> Counter[str]:
    return Counter(result.outcome for result in results)


ONCE = Counter({f"poison {n}": 1 for n in range(5)})


async def test_a_replay_sends_each_letter_once(world: World) -> None:
    ids = await world.letters(5)
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"replayed": 5}
    assert await world.sent() == ONCE
    assert await world.states() == {State.REPLAYED: 5}
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"already_replayed": 5}
    assert await world.sent() == ONCE


async def test_a_slow_log_hides_no_letter(world: World) -> None:
    ids = await world.letters(5)
    bus = SlowBus(world.bus)
    box = LetterBox(cast(Bus, bus), world.stream, world.clock, max_letters=10_000)
    page = await search.page(box, LetterFilter(), limit=10)
    assert {found.id for found in page.letters} == set(ids)
    assert bus.empty >= 2
    assert outcomes(await Replayer(box, IngestLimits()).replay(ids, ADMIN)) == {"replayed": 5}
    assert await world.sent() == ONCE


async def test_letters_of_all_partitions_are_replayed_on_their_own(world: World) -> None:
    ids = await put(
        world.bus, world.stream,
        *(letter(world.stream, world.clock, n, partition=n % PARTITIONS) for n in range(6)),
    )  # fmt: skip
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"replayed": 6}
    for partition in range(PARTITIONS):
        sent = rows_of(await records_of(world.bus, world.stream.topic, partition))
        assert sent == {f"poison {n}": 1 for n in range(partition, 6, PARTITIONS)}
    page = await search.page(world.process()._box, LetterFilter(), limit=10)
    assert Counter(found.id for found in page.letters) == Counter(ids)
    assert [found.label for found in page.letters] == ["replayed"] * 6


async def test_of_many_at_once_one_wins_each_letter(world: World) -> None:
    ids = await world.letters(5)
    many = [world.process() for _ in range(8)]
    for process in many:
        await process._box.fresh()
    results = await asyncio.gather(*(process.replay(ids, ADMIN) for process in many))
    counts = sum((outcomes(each) for each in results), Counter[str]())
    assert counts["replayed"] == 5
    assert set(counts) <= {"replayed", "busy", "already_replayed"}
    assert len(await records_of(world.bus, world.stream.topic)) == 5
    assert await world.sent() == ONCE


async def test_replay_and_discard_at_once_do_one_of_both(world: World) -> None:
    ids = await world.letters(5)
    one, other = world.process(), world.process()
    for process in (one, other):
        await process._box.fresh()
    replayed, discarded = await asyncio.gather(one.replay(ids, ADMIN), other.discard(ids, ADMIN))
    done = outcomes(replayed)["replayed"] + outcomes(discarded)["discarded"]
    assert done == 5
    assert (await world.sent()).total() == outcomes(replayed)["replayed"]


@pytest.mark.parametrize("step", STEPS)
async def test_what_a_crash_left_is_finished_once(world: World, step: str) -> None:
    ids = await world.letters(5)
    await world.crash(ids, step)
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"busy": 5}
    assert outcomes(await world.process().discard(ids, ADMIN)) == {"unknown": 5}
    world.clock.advance(replaying.LEASE_SECONDS + 1)
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"replayed": 5}
    assert await world.sent() == ONCE
    assert await world.states() == {State.REPLAYED: 5}


@pytest.mark.parametrize("step", STEPS)
async def test_recovery_finishes_it_with_its_own_changes(world: World, step: str) -> None:
    ids = await world.letters(5)
    await world.crash(ids, step, replace(ADMIN, changes=Changes(message="cured")))
    assert await world.process().recover() == 5
    world.clock.advance(replaying.LEASE_SECONDS + 1)
    assert await world.process().recover() == 0
    assert await world.sent() == {"cured": 5}
    assert await world.states() == {State.REPLAYED: 5}


@pytest.mark.parametrize("step", STEPS)
async def test_long_after_a_crash_the_topic_is_asked(world: World, step: str) -> None:
    ids = await world.letters(5)
    await world.crash(ids, step)
    world.clock.advance(replaying.CLAIM_SECONDS + 1)
    # Somebody may have begun to finish it a moment ago.
    assert outcomes(await world.process().replay(ids, ADMIN)) == {"busy": 5}
    world.clock.advance(86_400)
    there = {"send": 0, "some": 2, "arrived": 5}[step]
    expected = Counter({"already_replayed": there, "replayed": 5 - there})
    assert outcomes(await world.process().replay(ids, ADMIN)) == +expected
    assert await world.sent() == ONCE
    assert await world.states() == {State.REPLAYED: 5}


async def test_where_the_topic_kept_nothing_it_is_said_and_can_be_forced(world: World) -> None:
    ids = await world.letters(5)
    await world.crash(ids, "arrived")
    await world.letters(0)
    await forget(world)
    world.clock.advance(86_400)
    results = await world.process().replay(ids, ADMIN)
    assert outcomes(results) == {"unknown": 5}
    assert "force" in results[0].detail
    assert outcomes(await world.process().discard(ids[:1], replace(ADMIN, force=True))) == {"discarded": 1}
    forced = await world.process().replay(ids, replace(ADMIN, force=True))
    assert outcomes(forced) == {"replayed": 4, "already_discarded": 1}
    assert await world.states() == {State.REPLAYED: 4, State.DISCARDED: 1}


async def forget(world: World) -> None:
    """All records of the stream's topic but the last are consumed, and gone."""
    if not isinstance(world.bus, SqliteBus):
        pytest.skip("this bus forgets by itself only")
    consumer = await world.bus.consumer(world.stream.topic, "test")
    end = (await world.bus.offsets(world.stream.topic, 0)).end
    await consumer.commit(0, Committed(end))
    async with asyncio.timeout(30):
        while (await world.bus.offsets(world.stream.topic, 0)).beginning < end - 1:
            world.clock.advance(2)
            await asyncio.sleep(0.05)


async def test_a_letter_that_was_written_twice_is_one(world: World) -> None:
    first, again, other = await put(
        world.bus, world.stream, *(letter(world.stream, world.clock, number) for number in (3, 3, 4))
    )
    process = world.process()
    assert outcomes(await process.replay([first, again, other], ADMIN)) == {"replayed": 2, "missing": 1}
    assert await world.sent() == {"poison 3": 1, "poison 4": 1}


async def test_one_refused_again_is_linked(world: World) -> None:
    [first] = await world.letters(1)
    process = world.process()
    [done] = await process.replay([first], ADMIN)
    assert done.offset is not None
    topic = await world.bus.create_topic(world.stream.topic)
    refused = letter(world.stream, world.clock, done.offset, incarnation=topic.incarnation)
    [second] = await put(world.bus, world.stream, refused)
    await process._box.fresh()
    found = await process._box.whole(second)
    assert (found.previous, found.first, found.attempt, found.label) == (first, first, 2, "waiting")


async def test_a_header_keeps_key_and_time_and_carries_the_claim(world: World) -> None:
    from logstream.bus.header import decode

    [first] = await world.letters(1)
    await world.process().replay([first], ADMIN)
    [message] = await records_of(world.bus, world.stream.topic)
    head, _ = decode(message.value)
    assert [(s.key_id, s.rows) for s in head.segments] == [("key1", 1)]
    assert (head.min_timestamp, head.max_timestamp, head.received_at) == (1_000, 1_000, world.clock.now_ns())
    assert any(head.idempotency_key)
    assert any(head.fingerprint)


async def test_counts_outlive_the_letters(world: World) -> None:
    ids = await world.letters(5)
    process = world.process()
    await process.replay(ids[:3], ADMIN)
    await process.discard(ids[3:4], ADMIN)
    later = world.process()._box
    await later._look_up()
    # As if all but the last tally were gone.
    end = (await world.bus.offsets(world.stream.dead_letter_topic, 0)).end
    later.parts[0].forget(end - 1)
    await later.fresh()
    assert (later.parts[0].replayed, later.parts[0].discarded) == ({"key1": 3}, {"key1": 1})


@pytest.mark.parametrize("limit", [20, 64, 1_000])
async def test_pages_hold_every_letter_once(world: World, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_SCANNED", 90)
    await world.letters(200)
    box = world.process()._box
    for wanted, expected in (
        (LetterFilter(), [f"poison {n}" for n in reversed(range(200))]),
        (LetterFilter(text="POISON 19"), [f"poison {n}" for n in (*range(199, 189, -1), 19)]),
        (LetterFilter(text="nothing"), []),
    ):
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(400):
            page = await search.page(box, wanted, limit=limit, cursor=cursor)
            assert len(page.letters) <= limit
            assert page.scanned <= 90 + 64
            seen += [found.fields.record["message"] for found in page.letters if found.fields.record]
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == expected


async def test_expired_letters_are_left_alone(world: World) -> None:
    ids = await world.letters(2)
    world.clock.advance(10)
    now = world.clock.now_ns() // 10**9
    old = replace(ADMIN, retained_from=now - 5)
    assert outcomes(await world.process().replay(ids, old)) == {"expired": 2}
    assert outcomes(await world.process().discard(ids, old)) == {"expired": 2}
    assert await world.sent() == {}
