"""A process that replays dead letters is killed between any two steps: each record is stored once."""

import asyncio
import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.letters import letter, put, records_of, rows_of
from tests.support.letters_child import POINTS, replay_all
from tests.support.processor import IDENTITY, bus_settings, publish, records, running

from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.letters.box import LetterBox
from logstream.letters.ledger import LetterTerms, letter_ledger
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

LETTERS = 12


def run_child(place: str, stream: Stream, point: str, nth: int) -> dict[str, int]:
    """What the child printed, nothing when it was killed."""
    command = [sys.executable, "-m", "tests.support.letters_child", place, stream.name, point, str(nth)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    assert child.returncode in (0, -9), child.stderr[-3000:]
    # Late points may not come any more: then everything was done by others.
    printed: dict[str, int] = json.loads(child.stdout) if child.returncode == 0 else {}
    return printed


async def make_table(url: str) -> tuple[Stream, Store]:
    stream = make_stream("l" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=url))
    await store.migrate(stream, retention_days=3650)
    return stream, store


@pytest.mark.engine
@pytest.mark.parametrize("seed", [1])
async def test_replays_are_killed_between_any_two_steps(tmp_path: Path, engine: EngineProcess, seed: int) -> None:
    rng = random.Random(seed)
    stream, store = await make_table(engine.url)
    await store.command(f"ALTER TABLE {stream.database}.logs ADD CONSTRAINT p CHECK message NOT LIKE 'poison%'")
    bus = tmp_path / "bus"
    async with running(bus, engine.url, stream) as run:
        await publish(run.bus, stream, records(LETTERS, message="poison"))
        await run.settled()
        assert (await run.ledger())["key1"].dead_lettered == LETTERS
    await store.command(f"ALTER TABLE {stream.database}.logs DROP CONSTRAINT p")
    await store.close()
    killed = 0
    for point in (*rng.sample(POINTS[:5], k=5), *POINTS[5:]):
        nth = rng.randint(1, LETTERS) if "row" in point else 1
        killed += not await asyncio.to_thread(run_child, str(bus), stream, point, nth)
    assert killed >= 3
    async with running(bus, engine.url, stream) as run:
        await replay_all(run.bus, stream)
        await run.settled()
        assert await run.scalar("count()") == LETTERS
        assert await run.scalar(f"uniqExact({IDENTITY})") == LETTERS
        assert await run.scalar("uniqExact(metadata['id'])") == LETTERS
        entry = (await run.ledger())["key1"]
        assert (entry.stored, entry.dead_lettered) == (LETTERS, LETTERS)
        assert entry.accepted == 2 * LETTERS + entry.deduplicated
        box = LetterBox(run.bus, stream, SystemClock(), max_letters=1_000)
        terms = await letter_ledger(box, retained_from=0)
        assert terms.of("key1") == LetterTerms(replayed=LETTERS)
        assert terms.complete


@pytest.mark.parametrize("point", POINTS)
async def test_one_kill_at_each_point(tmp_path: Path, point: str) -> None:
    """Without others before it, so that every point is reached."""
    clock = SystemClock()
    stream = make_stream("l" + uuid.uuid4().hex[:12])

    async def bus() -> SqliteBus:
        opened = await SqliteBus.open(bus_settings(tmp_path / "bus"), clock)
        await opened.create_topic(stream.topic)
        await opened.create_topic(stream.dead_letter_topic)
        return opened

    before = await bus()
    await put(before, stream, *(letter(stream, clock, number) for number in range(LETTERS)))
    await before.close()
    assert not await asyncio.to_thread(run_child, str(tmp_path / "bus"), stream, point, 5 if "row" in point else 1)
    after = await bus()
    await replay_all(after, stream)
    assert rows_of(await records_of(after, stream.topic)) == {f"poison {number}": 1 for number in range(LETTERS)}
    assert len(await records_of(after, stream.topic)) == LETTERS
    box = LetterBox(after, stream, clock, max_letters=1_000)
    assert (await letter_ledger(box, retained_from=0)).of("key1") == LetterTerms(replayed=LETTERS)
    await after.close()
