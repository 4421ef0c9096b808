"""Repeats under an Idempotency-Key where the log takes them all, as Kafka does."""

import asyncio
import hashlib
import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, JournalledBus, Running, processor_settings, publish, records, running

from logstream.bus.protocol import Claim, Outcome
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    stream = make_stream("w" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=3650)
    yield stream
    await store.close()


def claim(key: str, body: str = "") -> Claim:
    return Claim(hashlib.sha256(key.encode()).digest()[:16], hashlib.sha256(body.encode()).digest()[:16])


async def send(run: Running, key: str, *, rows: int = 3, body: str = "", message: str = "m") -> None:
    await publish(run.bus, run.stream, records(rows, message=message), carried=claim(key, body))


async def done(run: Running, offset: int) -> None:
    """Wait until everything before `offset` came to its end."""
    async with asyncio.timeout(60):
        while (await run.bus.committed(run.stream.topic, "processor", 0)).offset < offset:
            await asyncio.sleep(0.01)


async def totals(run: Running) -> Outcome:
    assert isinstance(run.bus, JournalledBus)
    topic = await run.bus.create_topic(run.stream.topic)
    return (await run.bus.journal.totals(topic, None, None))["key1"]


async def test_repeats_are_dropped_and_counted(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        await asyncio.gather(*(send(run, key) for key in "aabbab"))
        await send(run, "a", body="another")
        await publish(run.bus, stream, records(3))
        await publish(run.bus, stream, records(3))
        await done(run, 9)
        assert await run.scalar("count()") == 15
        assert await run.scalar(f"uniqExact({IDENTITY})") == 15
        assert await totals(run) == Outcome(stored=15, deduplicated=12)


async def test_the_window_survives_in_the_journal(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    for life in range(3):
        async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
            await send(run, "a")
            await send(run, f"b{life}")
            await done(run, 2 * life + 2)
            assert await run.scalar("count()") == 3 * (life + 2)
    assert await totals_after(tmp_path, engine, stream) == Outcome(stored=12, deduplicated=6)


async def totals_after(tmp_path: Path, engine: EngineProcess, stream: Stream) -> Outcome:
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        return await totals(run)


async def test_a_range_recorded_but_not_committed_is_not_its_own_repeat(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """The process dies between journal and commit; its successor finds the range stored and recorded."""
    slow = processor_settings(flush_seconds=0.3)
    async with running(tmp_path / "bus", engine.url, stream, journalled=True, settings=slow) as run:
        assert isinstance(run.bus, JournalledBus)
        run.bus.lost = True
        for key in "abab":
            await send(run, key)
        async with asyncio.timeout(60):
            while await run.scalar("count()") != 6 or await totals_or_none(run) is None:
                await asyncio.sleep(0.02)
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        await send(run, "a")
        await done(run, 5)
        assert await run.scalar("count()") == 6
        assert await totals(run) == Outcome(stored=6, deduplicated=9)


async def totals_or_none(run: Running) -> Outcome | None:
    try:
        return await totals(run)
    except KeyError:
        return None


async def test_bad_rows_of_a_keyed_record_are_letters_once(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        await run.store.command(
            f"ALTER TABLE {stream.database}.logs ADD CONSTRAINT poison CHECK message NOT LIKE '%poison%'"
        )
        await send(run, "a", message="poison")
        await send(run, "b")
        await send(run, "a", message="poison")
        await done(run, 3)
        assert await run.scalar("count()") == 3
        assert (await run.bus.offsets(stream.dead_letter_topic, 0)).end == 3
        assert await totals(run) == Outcome(stored=3, dead_lettered=3, deduplicated=3)


@pytest.mark.parametrize("metadata", ["", '{"v":1,"incarnation":1,"first":3,"last":5}'], ids=["none", "earlier topic"])
async def test_a_position_that_was_lost_is_found_in_the_data(
    tmp_path: Path, engine: EngineProcess, stream: Stream, metadata: str
) -> None:
    """As after Kafka forgot the group, somebody reset its offsets, or a member that had not heard of the new topic was
    late; the last INSERT was not even recorded."""
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        for i in range(6):
            await publish(run.bus, stream, records(4, seed=i))
        await done(run, 6)
    with sqlite3.connect(tmp_path / "bus" / "log.db") as sql:
        sql.execute("UPDATE positions SET offset = 0, metadata = ?", (metadata,))
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        await run.store.command(f"ALTER TABLE {stream.database}.journal DELETE WHERE last >= 4")
        await publish(run.bus, stream, records(4, seed=6))
        await done(run, 7)
        assert await run.scalar("count()") == 28
        assert await run.scalar(f"uniqExact({IDENTITY})") == 28
