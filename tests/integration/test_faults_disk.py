"""Disks that are really full: below the log, and below the engine."""

import asyncio
import contextlib
import subprocess
import uuid
from pathlib import Path

import pytest
from tests.support.disk import Disk, small_disk
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, Running, bus_settings, publish, records, running

from logstream.bus.protocol import Claim
from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.errors import BusUnavailable
from logstream.metrics import PROCESSOR_RETRIES
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import make_stream

STREAM = make_stream("default")


def claim(seed: int) -> Claim:
    return Claim(seed.to_bytes(16, "little"), bytes(16))


async def check_log(bus: SqliteBus, accepted: list[int], rows: int) -> None:
    """Exactly the accepted records are there, and the ledger says so."""
    end = (await bus.offsets(STREAM.topic, 0)).end
    found = list(await bus.read(STREAM.topic, 0, 0, max_bytes=1 << 30))
    assert [m.offset for m in found] == [*range(end)]
    assert end == len(accepted)
    [entry] = await bus.ledger(STREAM.topic)
    assert entry.accepted == entry.in_flight + entry.deduplicated
    assert entry.in_flight == rows * end


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_disk_that_fills_up_within_a_group_commit(tmp_path: Path, keyed: bool) -> None:
    """What was acknowledged is there, nothing else is, and there is no half of a group; then all goes on."""
    rows = 20
    with small_disk(tmp_path / "disk", 8) as disk:
        settings = bus_settings(disk.path / "bus")
        bus = await SqliteBus.open(settings, SystemClock())
        await bus.create_topic(STREAM.topic)
        accepted: list[int] = []
        refusals: set[str] = set()

        async def send(seed: int) -> bool:
            try:
                await publish(
                    bus, STREAM, records(rows, seed), claim=claim(seed) if keyed else None,
                    payload=bytes(50_000), keys=[("a", rows)],
                )  # fmt: skip
            except BusUnavailable as error:
                refusals.add(error.message)
                return False
            accepted.append(seed)
            return True

        async def wave(first: int) -> list[bool]:
            return await asyncio.gather(*(send(seed) for seed in range(first, first + 20)))

        for first in range(0, 4000, 20):
            if not all(await wave(first)):
                break
        assert accepted
        # A group of twenty did not fit; now fill up with single ones.
        single = 5000
        while await send(single):
            single += 1
        assert refusals == {"the log cannot grow: the disk is full"}
        await check_log(bus, accepted, rows)
        await bus.close()

        # A start on the full disk finds everything, too.
        bus = await SqliteBus.open(settings, SystemClock())
        await check_log(bus, accepted, rows)
        while await send(single := single + 1):
            pass
        _grow(disk, 64)
        assert all(await wave(6000))
        if keyed:
            before = len(accepted)
            assert await send(accepted[0])
            accepted.pop()
            assert len(accepted) == before
        await check_log(bus, accepted, rows)
        await bus.close()


def _grow(disk: Disk, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(disk.path)], check=True)


@pytest.mark.engine
async def test_a_full_disk_below_the_engine_only_delays(tmp_path: Path) -> None:
    """INSERTs fail while there is no space, are tried again, and nothing is lost, doubled or dead-lettered."""
    stream = make_stream("t" + uuid.uuid4().hex[:12])
    with small_disk(tmp_path / "disk", 64) as disk:
        engine = EngineProcess(disk.path / "data")
        engine.start()
        try:
            store = await Store.connect(StoreSettings(url=engine.url, insert_timeout_seconds=20))
            await store.migrate(stream, retention_days=30)
            async with running(tmp_path / "bus", engine.url, stream, store=store) as run:
                await publish(run.bus, stream, records(100, 1))
                await run.settled()
                for round_ in range(2):
                    await _fill_while_sending(run, disk, first=100 * round_)
                await run.settled()
                sent = 100 * (1 + 2 * 40)
                assert await run.scalar("count()") == sent
                assert await run.scalar(f"uniqExact({IDENTITY})") == sent
                entry = (await run.ledger())["key1"]
                assert (entry.stored, entry.dead_lettered) == (sent, 0)
                assert (await run.bus.offsets(stream.dead_letter_topic, 0)).end == 0
        finally:
            engine.close()


async def _fill_while_sending(run: Running, disk: Disk, first: int) -> None:
    retries = PROCESSOR_RETRIES.labels(run.stream.name)
    before = retries._value.get()
    disk.fill()
    for seed in range(first + 10, first + 50):
        await publish(run.bus, run.stream, records(100, seed))
        disk.fill()
    async with asyncio.timeout(60):
        while retries._value.get() < before + 3:
            await run.ledger()
            await asyncio.sleep(0.02)
    waiting = sum(entry.in_flight for entry in (await run.ledger()).values())
    assert waiting > 0
    with contextlib.suppress(FileNotFoundError):
        disk.empty()
