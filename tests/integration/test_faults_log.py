"""Surprises within the log and on the way out of it: nobody's records suffer for them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.ingest import ingest
from tests.support.processor import bus_settings, publish, records, running

from logstream.bus.header import decode
from logstream.bus.protocol import LedgerEntry, Message
from logstream.bus.sqlite import SqliteBus, retention
from logstream.bus.sqlite.recent import RecentRecords
from logstream.clock import SystemClock
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    """A stream with a table of its own."""
    stream = make_stream("t" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=30)
    yield stream
    await store.close()


@pytest.mark.engine
async def test_a_damaged_block_of_many_senders_is_one_letter(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """More key ids than a letter's header has room for."""
    keys = [(f"key-{number:04d}", 1) for number in range(100)]
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await publish(run.bus, stream, records(100), keys=keys, payload=b"no columns at all")
        await publish(run.bus, stream, records(5, seed=1))
        await run.settled()
        assert await run.scalar("count()") == 5
        [letter] = await run.bus.read(stream.dead_letter_topic, 0, 0, max_bytes=1 << 20)
        assert decode(letter.value)[0].segments[0].key_id.startswith("key-0000,key-0001,")
        ledger = await run.ledger()
        assert all(ledger[key] == LedgerEntry(key, 1, 0, 0, 1, 0) for key, _ in keys)


async def test_the_writer_outlives_a_failure_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def broken(*_: object) -> tuple[bool, int]:
        nonlocal calls
        calls += 1
        raise RuntimeError("surprise")

    monkeypatch.setattr(retention, "step", broken)
    monkeypatch.setattr("logstream.bus.sqlite.writer._RETENTION_SECONDS", 0.01)
    stream = make_stream("default")
    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
    await bus.create_topic(stream.topic)
    async with asyncio.timeout(30):
        while calls < 3:
            await publish(bus, stream, records(1))
    await bus.check()
    found = await bus.read(stream.topic, 0, 0, max_bytes=1 << 20)
    assert len(found) == (await bus.offsets(stream.topic, 0)).end
    await bus.close()


def test_records_in_memory_never_stand_for_others() -> None:
    """A commit that failed for its caller and yet took place leaves a hole in what is kept in memory."""
    recent = RecentRecords(1_000)
    recent.add(1, [Message(0, offset, b"x") for offset in range(3)])
    recent.add(1, [Message(0, offset, b"y") for offset in range(5, 8)])
    assert recent.read(1, 1, 100) is None
    assert recent.read(1, 4, 100) is None
    assert [m.offset for m in recent.read(1, 6, 100) or ()] == [6, 7]
    recent.add(1, [Message(0, 8, b"z" * 998)])
    assert [m.offset for m in recent.read(1, 8, 100) or ()] == [8]


async def test_one_request_sent_many_times_at_once_is_stored_once(tmp_path: Path) -> None:
    body = "\n".join(f'{{"message":"row {number}"}}' for number in range(20))
    async with ingest(tmp_path) as world:
        answers = await asyncio.gather(*(world.post(body, idempotency_key="k") for _ in range(30)))
        assert {a.status_code for a in answers} == {202}
        assert {a.text for a in answers} == {answers[0].text}
        assert sum("idempotent-replay" in a.headers for a in answers) == 29
        assert len(await world.records()) == 20
        [entry] = await world.bus.ledger(world.stream.topic)
        assert (entry.accepted, entry.deduplicated, entry.in_flight) == (600, 580, 20)
        other = await asyncio.gather(*(world.post(body + "\n" * n, idempotency_key="l") for n in range(5)))
        assert sorted(a.status_code for a in other) == [202, 422, 422, 422, 422]
        assert len(await world.records()) == 40
