"""`logstream verify`'s count notices what it is for: a loss, a double, a stray row, a wrong counter."""

import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import Running, bus_settings, publish, records, running
from tests.support.slow_bus import SlowBus

from logstream.audit import Auditor, Report
from logstream.bus.known import read_known
from logstream.bus.protocol import Bus, Claim
from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.errors import BusUnavailable
from logstream.record import Batch
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

OLD = 300 * 10**9
"""ns: in minutes that are over."""


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    stream = make_stream("audit")
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=30)
    yield stream
    await store.command(f"DROP DATABASE {stream.database} SYNC")
    await store.close()


async def audit(run: Running, **settings: float) -> Report:
    return await Auditor(run.bus, run.store, SystemClock(), **settings).audit(run.stream, retention_days=30)


async def fill(run: Running, count: int = 6, rows: int = 50) -> None:
    for seed in range(count):
        await publish(
            run.bus, run.stream, records(rows, seed), keys=[("key1", rows - 10), ("key2", 10)],
            received_at=time.time_ns() - OLD,
        )  # fmt: skip
    await run.drained(count)


async def test_books_that_balance(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run)
        report = await audit(run)
        assert report.balanced, report
        assert report.complete
        assert (report.records, report.accepted, report.stored, report.in_flight) == (6, 300, 300, 0)


async def test_a_slow_log_is_no_loss(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run)
        bus = SlowBus(run.bus)
        report = await Auditor(cast(Bus, bus), run.store, SystemClock()).audit(stream, retention_days=30)
        assert bus.empty >= 1
        assert report.balanced, report
        assert (report.records, report.accepted, report.stored) == (6, 300, 300)


async def test_a_log_that_does_not_answer_is_no_proof(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run)
        end = (await run.bus.offsets(stream.topic, 0)).end
        # As of records that are said to be there and never come.
        with pytest.raises(BusUnavailable, match=f"from {end} on"):
            await read_known(run.bus, stream.topic, 0, end, max_bytes=1, seconds=0.1)


async def test_a_lost_row_a_doubled_one_and_a_stray_one_are_found(
    engine: EngineProcess, stream: Stream, tmp_path: Path
) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run)
        topic = await run.bus.create_topic(stream.topic)

        async def forge(offset: int, seed: int, rows: int = 50) -> None:
            batch = Batch.of(records(rows, seed))
            source = block.Provenance(time.time_ns(), [("key1", rows)], topic.incarnation, 0, offset)
            sealed = block.seal(block.encode(batch), rows, source)
            await run.store.insert(stream, sealed, rows=rows, token=f"forged-{offset}-{time.time_ns()}")

        await run.store.command(f"ALTER TABLE {stream.database}.logs DELETE WHERE offset = 2 AND row IN (3, 4) "
                                "SETTINGS mutations_sync = 1")  # fmt: skip
        report = await audit(run)
        assert (report.lost, report.doubled, report.stray, report.ledger) == (2, 0, 0, 0)
        assert [(p.kind, p.rows, p.offset) for p in report.problems] == [("lost", 2, 2)]
        await forge(4, 4)
        report = await audit(run)
        assert (report.lost, report.doubled, report.stray) == (2, 50, 0)
        await forge(999, 9, rows=7)
        report = await audit(run)
        assert (report.lost, report.doubled, report.stray) == (2, 50, 7)
        assert not report.balanced


async def test_a_repeat_is_no_loss_and_a_stored_repeat_is_a_double(
    engine: EngineProcess, stream: Stream, tmp_path: Path
) -> None:
    claim = Claim(b"k" * 16, b"f" * 16)
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        for _ in range(2):
            await publish(run.bus, stream, records(20), carried=claim, received_at=time.time_ns() - OLD)
        await run.drained(2)
        report = await audit(run)
        assert report.lost == report.doubled == 0, report
        assert (report.stored, report.deduplicated) == (20, 20)
        # One whose window is shorter than the processor's takes the missing repeat for a loss …
        await publish(run.bus, stream, records(20), carried=claim, received_at=time.time_ns() - OLD + 10**9)
        await run.drained(3)
        assert (await audit(run, idempotency_seconds=0.5)).lost == 20
    # … and one whose window is longer finds the double.
    async with running(tmp_path / "bus", engine.url, stream, journalled=True, window_seconds=0.5) as run:
        await publish(run.bus, stream, records(20), carried=claim, received_at=time.time_ns() - OLD + 5 * 10**9)
        await run.drained(4)
        assert (await audit(run)).doubled == 20


@pytest.mark.parametrize("table", ["ledger", "ledger_minutes"])
async def test_a_counter_that_is_wrong_is_found(
    engine: EngineProcess, stream: Stream, tmp_path: Path, table: str
) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run)
    (path,) = (tmp_path / "bus").glob("*.db")
    with sqlite3.connect(path) as sql:
        sql.execute(f"UPDATE {table} SET stored = stored - 1 WHERE key_id = 'key2'")
    sql.close()
    async with running(tmp_path / "bus", engine.url, stream) as run:
        report = await audit(run)
        assert report.ledger >= 1
        assert all(p.kind == "ledger" and "key2" in p.detail for p in report.problems)


async def test_what_waits_is_in_flight(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run, 2)

    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
    store = await Store.connect(StoreSettings(url=engine.url))
    try:
        await publish(bus, stream, records(30, 7), received_at=time.time_ns() - OLD)
        report = await Auditor(bus, store, SystemClock()).audit(stream, retention_days=30)
        assert report.balanced, report
        assert (report.accepted, report.stored, report.in_flight) == (130, 100, 30)
    finally:
        await bus.close()
        await store.close()
