"""The engine, or the process with log and processor, is killed at seeded moments: nothing is lost or doubled."""

import asyncio
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, processor_settings, publish, records, running
from tests.support.processor_child import POINTS, ROWS

from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that may be killed."""
    process = EngineProcess(tmp_path / "engine")
    process.start()
    yield process
    process.close()


async def make_table(url: str, *, window: int | None = None) -> Stream:
    stream = make_stream("c" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=url))
    await store.migrate(stream, retention_days=3650)
    if window is not None:
        await store.command(
            f"ALTER TABLE {stream.database}.logs MODIFY SETTING non_replicated_deduplication_window = {window}"
        )
    await store.close()
    return stream


@pytest.fixture
async def forgetful(engine: EngineProcess) -> Stream:
    """A stream whose table remembers one token only: the remembered plan must suffice."""
    return await make_table(engine.url, window=1)


def run_child(bus: Path, engine: EngineProcess, stream: Stream, batches: list[int], point: str, nth: int) -> list[str]:
    """What the child printed."""
    command = [
        sys.executable, "-m", "tests.support.processor_child", str(bus), engine.url, stream.name,
        ",".join(map(str, batches)), point, str(nth),
    ]  # fmt: skip
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    assert child.returncode == (0 if point == "none" else -9), child.stderr[-3000:]
    return child.stdout.split()


@pytest.mark.parametrize("seed", [1])
async def test_the_application_process_is_killed(
    tmp_path: Path, engine: EngineProcess, forgetful: Stream, seed: int
) -> None:
    rng = random.Random(seed)
    acknowledged: set[int] = set()
    pending = list(range(60))
    each = len(pending) // len(POINTS)
    bus = tmp_path / "bus"
    for number, point in enumerate(rng.sample(POINTS, k=len(POINTS)), 1):
        # Whoever got no answer sends again; the next child also sends one that was acknowledged. Each has some of its
        # own: however late the ones before it died, it comes to its point.
        again = sorted(acknowledged)[-1:] + [b for b in pending[: number * each] if b not in acknowledged]
        printed = await asyncio.to_thread(run_child, bus, engine, forgetful, again, point, rng.randint(1, 3))
        acknowledged |= {int(line) for line in printed if line.isdigit()}
    printed = await asyncio.to_thread(run_child, bus, engine, forgetful, pending, "none", 0)
    assert printed[-1] == "settled"
    async with running(bus, engine.url, forgetful) as run:
        assert await run.scalar("count()") == 60 * ROWS
        assert await run.scalar(f"uniqExact({IDENTITY})") == 60 * ROWS
        assert await run.scalar("uniqExact(metadata['id'])") == 60 * ROWS
        entry = (await run.ledger())["key1"]
        assert (entry.stored, entry.dead_lettered, entry.in_flight) == (60 * ROWS, 0, 0)


@pytest.mark.parametrize("seed", [3])
async def test_the_engine_is_killed(tmp_path: Path, own_engine: EngineProcess, seed: int) -> None:
    rng = random.Random(seed)
    stream = await make_table(own_engine.url)
    sent = 0
    stop = asyncio.Event()
    async with running(tmp_path / "bus", own_engine.url, stream, settings=processor_settings(flush_seconds=0)) as run:

        async def send() -> None:
            nonlocal sent
            while not stop.is_set():
                await publish(run.bus, stream, records(200, seed=sent))
                sent += 200
                await asyncio.sleep(0.002)

        sending = asyncio.create_task(send())
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0.2, 0.5))
            await asyncio.to_thread(own_engine.kill)
            await asyncio.to_thread(own_engine.restart)
        stop.set()
        await sending
        await run.settled()
        assert sent > 0
        assert await run.scalar("count()") == sent
        assert await run.scalar(f"uniqExact({IDENTITY})") == sent
        assert (await run.ledger())["key1"].stored == sent


async def test_ingestion_goes_on_while_the_engine_is_away(tmp_path: Path, own_engine: EngineProcess) -> None:
    stream = await make_table(own_engine.url)
    async with running(tmp_path / "bus", own_engine.url, stream) as run:
        await publish(run.bus, stream, records(5, seed=-1))
        await run.settled()
        await asyncio.to_thread(own_engine.kill)
        for i in range(30):
            await publish(run.bus, stream, records(5, seed=i))
            await asyncio.sleep(0.01)
        entry = (await run.ledger())["key1"]
        assert (entry.accepted, entry.stored, entry.in_flight) == (155, 5, 150)
        await asyncio.to_thread(own_engine.restart)
        await run.settled()
        assert await run.scalar("count()") == 155
        assert (await run.ledger())["key1"].stored == 155


async def test_a_stop_does_not_wait_for_an_engine_that_is_away(tmp_path: Path, own_engine: EngineProcess) -> None:
    stream = await make_table(own_engine.url)
    await asyncio.to_thread(own_engine.kill)
    async with asyncio.timeout(30):
        async with running(tmp_path / "bus", own_engine.url, stream) as run:
            await publish(run.bus, stream, records(5))
            await asyncio.sleep(0.2)
    await asyncio.to_thread(own_engine.restart)
    async with running(tmp_path / "bus", own_engine.url, stream) as run:
        await run.settled()
        assert await run.scalar("count()") == 5
