"""Exactly once on a real broker and the real engine, with processors that die, freeze, come and go."""

import asyncio
import random
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.processor import records
from tests.support.processor_kafka import Child, Load, kafka_settings, publish, serve

from logstream.bus.kafka import KafkaBus
from logstream.clock import SystemClock
from logstream.errors import StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.journal import make_journal
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    store = await Store.connect(StoreSettings(url=engine.url))
    yield store
    await store.close()


@pytest.fixture
async def stream(store: Store) -> Stream:
    stream = make_stream("k" + uuid.uuid4().hex[:12])
    await store.migrate(stream, retention_days=3650)
    return stream


@pytest.fixture
async def load(kafka: Kafka, store: Store, stream: Stream) -> AsyncIterator[Load]:
    bus = await KafkaBus.open(kafka_settings(kafka.bootstrap), SystemClock(), journal=make_journal(store))
    await bus.create_topic(stream.topic)
    yield Load(bus, stream, random.Random(7))
    await bus.close()


@pytest.fixture
def children(kafka: Kafka, engine: EngineProcess, stream: Stream, load: Load, tmp_path: Path) -> Iterator[list[Child]]:
    """Two processors."""
    running = [Child(kafka.bootstrap, engine.url, stream, tmp_path / f"{i}.log") for i in range(2)]
    yield running
    for child in running:
        child.close()


async def forget_tokens(store: Store, stream: Stream) -> None:
    """The table remembers one token only: remembered plans must suffice."""
    await store.command(f"ALTER TABLE {stream.database}.logs MODIFY SETTING non_replicated_deduplication_window = 1")


@asynccontextmanager
async def sending(load: Load) -> AsyncIterator[None]:
    """Requests all the while."""
    stop = asyncio.Event()

    async def send() -> None:
        while not stop.is_set():
            await load.send(3)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        stop.set()
        await task


async def test_members_are_killed_and_leave_under_load(
    store: Store, stream: Stream, load: Load, children: list[Child]
) -> None:
    await forget_tokens(store, stream)
    rng = random.Random(1)
    async with sending(load):
        await asyncio.sleep(3)
        for turn in range(4):
            child = children[turn % 2]
            await asyncio.to_thread(child.kill if rng.random() < 0.6 else child.leave)
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            child.start()
            await asyncio.sleep(rng.uniform(2.0, 4.0))
    await load.check(store)


async def test_a_member_frozen_past_its_session_changes_nothing_when_it_wakes(
    store: Store, load: Load, children: list[Child]
) -> None:
    rng = random.Random(2)
    async with sending(load):
        await asyncio.sleep(4)
        for turn in range(2):
            child = children[turn % 2]
            child.send(signal.SIGSTOP)
            # The session ends after six seconds; meanwhile the other one takes over and goes on.
            await asyncio.sleep(rng.uniform(8.0, 9.0))
            child.send(signal.SIGCONT)
            await asyncio.sleep(2)
    await load.check(store)


class DeafStore(Store):
    """Every other INSERT is stored, and its answer never arrives."""

    inserts = 0

    async def insert(self, stream: Stream, parts: Sequence[bytes | memoryview], **how: Any) -> None:
        await super().insert(stream, parts, **how)
        self.inserts += 1
        if self.inserts % 2:
            raise StoreUnavailable("the answer was lost")


async def test_answers_that_are_lost_double_nothing(
    kafka: Kafka, engine: EngineProcess, store: Store, stream: Stream, load: Load
) -> None:
    await forget_tokens(store, stream)
    deaf, stop = DeafStore(StoreSettings(url=engine.url)), asyncio.Event()
    serving = asyncio.create_task(serve(kafka.bootstrap, deaf, stream, stop))
    try:
        await load.send(60)
        await load.check(store)
        assert deaf.inserts > 2
    finally:
        stop.set()
        await serving
        await deaf.close()


async def test_a_topic_made_anew_is_followed_while_running(
    kafka: Kafka, engine: EngineProcess, store: Store, stream: Stream, load: Load
) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(kafka.bootstrap, store, stream, stop))
    try:
        await load.send(20)
        await load.settled()
        first = set(load.numbers)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for future in admin.delete_topics([stream.topic]).values():
            await asyncio.to_thread(future.result, 30)
        bus = await KafkaBus.open(kafka_settings(kafka.bootstrap), SystemClock(), journal=make_journal(store))
        try:
            await made(bus, stream)
            for i in range(20):
                await publish(bus, stream, records(7, seed=1000 + i))
            async with asyncio.timeout(60):
                while True:
                    answer = await store.query(
                        "SELECT count(), uniqExact(metadata['id']), uniqExact(incarnation), min(offset)"
                        f" FROM {stream.database}.logs"
                    )
                    if answer.rows[0] == (len(first) + 140, len(first) + 140, 2, 0):
                        break
                    await asyncio.sleep(0.1)
            [entry] = await bus.ledger(stream.topic)
            assert entry.stored <= 140
        finally:
            await bus.close()
    finally:
        stop.set()
        await serving


async def made(bus: KafkaBus, stream: Stream) -> None:
    """Deleting takes a moment."""
    async with asyncio.timeout(30):
        while True:
            topic = await bus.create_topic(stream.topic)
            await asyncio.sleep(1)
            if (await bus._admin.describe(stream.topic)).topic == topic:
                return
