"""The journal in ClickHouse: repeats, late writers and merges change nothing."""

import random
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from tests.support.engine import EngineProcess

from logstream.bus.protocol import Claimed, Outcome, Settled, Topic
from logstream.settings import StoreSettings
from logstream.storage.journal import Snapshot, StoreJournal, make_journal
from logstream.storage.store import Store
from logstream.stream import make_stream

pytestmark = pytest.mark.engine

MINUTE = int(time.time()) // 60
MINUTE_NS = 60 * 10**9


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    store = await Store.connect(StoreSettings(url=engine.url))
    yield store
    await store.close()


@pytest.fixture
async def topic(store: Store) -> Topic:
    stream = make_stream("j" + uuid.uuid4().hex[:12])
    await store.migrate(stream, retention_days=30)
    return Topic(stream.topic, 7, 2)


def settled(first: int, last: int, **stored: int) -> Settled:
    return Settled(first, last, {(key, MINUTE): Outcome(stored=rows) for key, rows in stored.items()})


async def test_ranges_add_up_by_key_and_minute(store: Store, topic: Topic) -> None:
    journal = make_journal(store)
    await journal.record(topic, 0, settled(0, 4, a=10, b=1))
    await journal.record(topic, 0, settled(5, 9, a=5))
    await journal.record(topic, 1, Settled(0, 0, {("a", MINUTE + 1): Outcome(1, 2, 3)}))
    assert await journal.totals(topic, None, None) == {"a": Outcome(16, 2, 3), "b": Outcome(1)}
    assert await journal.totals(topic, None, MINUTE + 1) == {"a": Outcome(15), "b": Outcome(1)}
    assert await journal.totals(topic, MINUTE + 1, None) == {"a": Outcome(1, 2, 3)}
    assert await journal.totals(topic, MINUTE + 2, None) == {}
    assert (await journal.snapshot(topic)).last == {0: 9, 1: 0}
    assert await journal.totals(Topic(topic.name, 8, 2), None, None) == {}


@pytest.mark.parametrize("merged", [False, True])
async def test_a_range_recorded_again_or_late_counts_once(store: Store, topic: Topic, merged: bool) -> None:
    """zombie: a member that lost the partition, and records its range after others went on."""
    zombie, owner = make_journal(store), make_journal(store)
    await zombie.record(topic, 0, settled(0, 9, a=1))
    await owner.record(topic, 0, settled(10, 19, a=2))
    await owner.record(topic, 0, settled(20, 29, a=4))
    if merged:
        await store.command(f"OPTIMIZE TABLE {database(topic)}.journal FINAL")
    for journal in (zombie, make_journal(store)):
        await journal.record(topic, 0, settled(10, 19, a=2))
    await owner.record(topic, 0, settled(20, 29, a=4))
    await make_journal(store).record(topic, 0, settled(30, 30, a=8))
    # It owned the partition before and owns it again: what it has in memory is out of date.
    await zombie.record(topic, 0, settled(31, 31, a=16))
    assert await make_journal(store).snapshot(topic) == Snapshot({"a": Outcome(31)}, {0: 31})


def database(topic: Topic) -> str:
    return "logstream_" + topic.name.removeprefix("logstream.").replace("-", "_")


async def test_any_order_of_repeats_comes_to_the_same(store: Store, topic: Topic) -> None:
    """Members come and go, each repeats what it did last; ranges have gaps and minutes interleave."""
    rng = random.Random(5)
    expected: dict[str, int] = {}
    members = [make_journal(store) for _ in range(3)]
    past: list[Settled] = []
    offset = 0
    for _ in range(60):
        offset += rng.choice((0, 0, 0, 3))
        outcomes = {
            (rng.choice("ab"), MINUTE + rng.randrange(3)): Outcome(stored=rng.randrange(1, 9))
            for _ in range(rng.randrange(3))
        }
        now = Settled(offset, offset + rng.randrange(4), outcomes)
        offset = now.last + 1
        for (key, _), outcome in outcomes.items():
            expected[key] = expected.get(key, 0) + outcome.stored
        past.append(now)
        for member in rng.sample(members, rng.choice((1, 1, 2))):
            await member.record(topic, 0, now)
        if rng.random() < 0.3:
            await rng.choice(members).record(topic, 0, rng.choice(past[-3:]))
    found = await make_journal(store).totals(topic, None, None)
    assert {key: outcome.stored for key, outcome in found.items()} == expected


async def test_claims_come_back_in_order_without_those_of_the_range_in_doubt(store: Store, topic: Topic) -> None:
    journal = make_journal(store)
    claims = [Claimed(bytes([i]) * 16, bytes([i, 0] * 8), MINUTE * MINUTE_NS + i) for i in range(9)]
    for first in range(0, 9, 3):
        for _ in range(2):
            await journal.record(topic, 1, Settled(first, first + 2, {}, claims[first : first + 3]))
    at = MINUTE * MINUTE_NS
    assert await journal.claims(topic, 1, 0) == claims
    assert await journal.claims(topic, 1, at + 4) == claims[4:]
    assert await journal.claims(topic, 1, at + 4, before=6) == claims[4:6]
    assert await journal.claims(topic, 1, at + 1, before=6, limit=2) == claims[4:6]
    assert await journal.claims(topic, 0, 0) == []
    assert await journal.claims(Topic(topic.name, 8, 2), 1, 0) == []


async def test_memory_of_totals_is_bounded(store: Store, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstream.storage.journal._CELLS", 5)
    journal = StoreJournal(store)
    for i in range(20):
        await journal.record(topic, i % 2, settled(i * 10, i * 10 + 9, **{f"key{i}": 1, "a": 1}))
        assert sum(len(known.cells) for known in journal._known.values()) <= 5 + 2
    assert (await journal.totals(topic, None, None))["a"] == Outcome(20)
