"""`logstream verify` on a log that forgets and goes on while it counts: no false alarm."""

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import Running, publish, records, running

from logstream.audit import Auditor, Report
from logstream.bus.protocol import Bus, Claim, Committed, Message, Offsets
from logstream.clock import SystemClock
from logstream.errors import OffsetOutOfRange
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

OLD = 600 * 10**9
"""ns: in minutes that are over."""


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    stream = make_stream("retained")
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=30)
    yield stream
    await store.command(f"DROP DATABASE {stream.database} SYNC")
    await store.close()


class Forgetful:
    """The log as Kafka has it when retention took the records before `beginning`, from the `after`th question on.

    position: what the group's was a moment ago.
    """

    def __init__(self, run: Running, *, beginning: int, after: int = 0, position: int | None = None) -> None:
        self._run = run
        self._beginning = beginning
        self._after = after
        self._position = position
        self._asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run.bus, name)

    @property
    def _begins(self) -> int:
        return self._beginning if self._asked > self._after else 0

    async def offsets(self, topic: str, partition: int) -> Offsets:
        found = await self._run.bus.offsets(topic, partition)
        if topic != self._run.stream.topic:
            return found
        self._asked += 1
        return Offsets(self._begins, found.end)

    async def read(self, topic: str, partition: int, offset: int, **options: Any) -> Sequence[Message]:
        if topic == self._run.stream.topic:
            self._asked += 1
        if topic == self._run.stream.topic and offset < self._begins:
            raise OffsetOutOfRange("gone", beginning=self._begins, end=self._beginning)
        return await self._run.bus.read(topic, partition, offset, **options | {"max_bytes": 1})

    async def committed(self, topic: str, group: str, partition: int) -> Committed:
        found = await self._run.bus.committed(topic, group, partition)
        return found if self._position is None else Committed(self._position)


async def audit(run: Running, bus: Forgetful) -> Report:
    return await Auditor(cast(Bus, bus), run.store, SystemClock()).audit(run.stream, retention_days=30)


async def fill(run: Running, count: int, *, apart: int = 0) -> None:
    """apart: ns between two records."""
    began = time.time_ns() - OLD - count * apart
    for seed in range(count):
        await publish(run.bus, run.stream, records(50, seed), received_at=began + seed * apart)
    await run.drained(count)


async def test_a_log_that_forgot_everything(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run, 6)
        report = await audit(run, Forgetful(run, beginning=6))
        assert report.balanced, report
        assert not report.complete
        assert (report.records, report.accepted) == (0, 0)


async def test_a_log_that_forgets_under_way(engine: EngineProcess, stream: Stream, tmp_path: Path) -> None:
    """After the first record was read those up to the fourth are gone; the others are still held against the ledger."""
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await fill(run, 8, apart=120 * 10**9)
        report = await audit(run, Forgetful(run, beginning=4, after=2))
        assert report.balanced, report
        assert not report.complete
        assert report.start is not None
        assert report.start < report.end
        assert report.records == 5
        await run.store.command(f"ALTER TABLE {stream.database}.logs DELETE WHERE offset = 6 AND row = 1 "
                                "SETTINGS mutations_sync = 1")  # fmt: skip
        assert (await audit(run, Forgetful(run, beginning=4, after=2))).lost == 1


async def test_a_repeat_that_is_dropped_while_it_is_counted(
    engine: EngineProcess, stream: Stream, tmp_path: Path
) -> None:
    claim = Claim(b"k" * 16, b"f" * 16)
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        for _ in range(2):
            await publish(run.bus, stream, records(20), carried=claim, received_at=time.time_ns() - OLD)
        await run.drained(2)
        report = await audit(run, Forgetful(run, beginning=0, position=1))
        assert report.balanced, report
        assert (report.stored, report.in_flight) == (20, 20)
