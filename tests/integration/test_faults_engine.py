"""An engine that hangs, wakes up late, or is killed, while records arrive: stored once, and the ledger holds."""

import asyncio
import os
import random
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, Running, processor_settings, publish, records, running

from logstream.bus.header import decode
from logstream.bus.protocol import Claim
from logstream.errors import LogStreamError
from logstream.metrics import PROCESSOR_RETRIES
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """One that may be stopped and killed."""
    engine = EngineProcess(tmp_path / "clickhouse")
    engine.start()
    yield engine
    engine.close()


@asynccontextmanager
async def impatient(path: Path, engine: EngineProcess, **settings: float) -> AsyncIterator[Running]:
    """A processor that gives an INSERT half a second."""
    stream = make_stream("t" + uuid.uuid4().hex[:12])
    first = await Store.connect(StoreSettings(url=engine.url))
    await first.migrate(stream, retention_days=30)
    await first.close()
    store = await Store.connect(StoreSettings(url=engine.url, insert_timeout_seconds=0.5, query_timeout_seconds=1))
    async with running(path / "bus", engine.url, stream, store=store, settings=processor_settings(**settings)) as run:
        yield run


class Auditor:
    """Asks for the ledger at random moments, and counts what waits by reading the log itself."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self.looks = 0
        self.counted = 0

    async def watch(self) -> None:
        chance = random.Random(7)
        while True:
            await asyncio.sleep(chance.random() * 0.05)
            before = await self._waiting()
            entries = await self._run.ledger()  # asserts the equation for each key
            counted = {key: e.in_flight for key, e in entries.items() if e.in_flight}
            after = await self._waiting()
            for _ in range(50):
                if counted == before[2] or after != before:
                    break
                # What the ledger knows already may not be readable yet, on a busy machine.
                await asyncio.sleep(0.02)
                after = await self._waiting()
            if after == before:
                # Nothing moved meanwhile, so both speak of the same moment.
                assert counted == before[2]
                self.counted += 1
            self.looks += 1

    async def _waiting(self) -> tuple[int, int, Counter[str]]:
        """The processor's position, the end of the log, and the rows between them by key, from the records' headers."""
        bus, topic = self._run.bus, self._run.stream.topic
        position = offset = (await bus.committed(topic, "processor", 0)).offset
        waiting: Counter[str] = Counter()
        while messages := await bus.read(topic, 0, offset, max_bytes=1 << 24):
            for message in messages:
                for segment in decode(message.value)[0].segments:
                    waiting[segment.key_id] += segment.rows
            offset = messages[-1].offset + 1
        return position, offset, waiting


async def expect(run: Running, rows: int) -> None:
    await run.settled()
    assert await run.scalar("count()") == rows
    assert await run.scalar(f"uniqExact({IDENTITY})") == rows
    assert await run.scalar("uniqExact(metadata['id'])") == rows
    ledger = await run.ledger()
    assert sum(e.stored for e in ledger.values()) == rows
    for key, entry in ledger.items():
        assert await run.scalar(f"countIf(key_id = '{key}')") == entry.stored
        assert entry.dead_lettered == 0


async def retried(run: Running, times: int) -> None:
    counter = PROCESSOR_RETRIES.labels(run.stream.name)
    wanted = counter._value.get() + times
    async with asyncio.timeout(30):
        while counter._value.get() < wanted:
            await asyncio.sleep(0.01)


async def test_inserts_that_wake_up_late_are_not_doubled(tmp_path: Path, own_engine: EngineProcess) -> None:
    """The engine hangs for longer than an INSERT may take, several times; each abandoned INSERT may still run."""
    async with impatient(tmp_path, own_engine) as run:
        auditor = Auditor(run)
        watching = asyncio.create_task(auditor.watch())
        seed = 0
        for _ in range(4):
            for _ in range(5):
                await publish(run.bus, run.stream, records(200, seed), keys=[("a", 150), ("b", 50)])
                seed += 1
                await asyncio.sleep(0.01)
            os.kill(own_engine.pid, signal.SIGSTOP)
            try:
                await publish(run.bus, run.stream, records(200, seed))
                seed += 1
                await retried(run, 2)
            finally:
                os.kill(own_engine.pid, signal.SIGCONT)
        await expect(run, 200 * seed)
        await asyncio.sleep(0.5)  # the last abandoned INSERT has come to its end
        await expect(run, 200 * seed)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert auditor.looks > 10
        assert auditor.counted > 3


async def test_the_ledger_holds_while_the_engine_is_killed_again_and_again(
    tmp_path: Path, own_engine: EngineProcess
) -> None:
    async with impatient(tmp_path, own_engine, max_rows=500) as run:
        auditor = Auditor(run)
        watching = asyncio.create_task(auditor.watch())
        sent = repeated = 0
        for round_ in range(3):
            for seed in range(100 * round_, 100 * round_ + 30):
                claim = Claim(seed.to_bytes(16, "big"), bytes(16))
                await publish(run.bus, run.stream, records(50, seed), keys=[(f"k{seed % 3}", 50)], claim=claim)
                sent += 50
                if seed % 5 == 0:
                    again = await publish(
                        run.bus, run.stream, records(50, seed), keys=[(f"k{seed % 3}", 50)], claim=claim
                    )
                    assert again.duplicate
                    repeated += 50
                await asyncio.sleep(0.002)
            await asyncio.to_thread(own_engine.kill)
            await retried(run, 1)
            await asyncio.to_thread(own_engine.restart)
        await expect(run, sent)
        assert sum(e.deduplicated for e in (await run.ledger()).values()) == repeated
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert auditor.counted > 3


async def test_a_read_of_a_hung_engine_ends(tmp_path: Path, own_engine: EngineProcess) -> None:
    store = await Store.connect(StoreSettings(url=own_engine.url, query_timeout_seconds=0.2))
    fresh = await Store.connect(StoreSettings(url=own_engine.url, query_timeout_seconds=0.2))
    await store.query("SELECT 1")
    os.kill(own_engine.pid, signal.SIGSTOP)
    try:
        for each in (store, fresh):
            with pytest.raises(LogStreamError) as caught:
                await each.query("SELECT 2")
            assert caught.value.code == "store_unavailable"
    finally:
        os.kill(own_engine.pid, signal.SIGCONT)
    assert (await store.query("SELECT 3")).rows[0] == (3,)
    await store.close()
    await fresh.close()


async def test_readiness_waits_for_the_tables(own_engine: EngineProcess) -> None:
    stream: Stream = make_stream("t" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=own_engine.url))
    await store.check()
    with pytest.raises(LogStreamError, match="is not there yet"):
        await store.check([stream])
    await store.migrate(stream, retention_days=30)
    await store.check([stream])
    await store.close()
