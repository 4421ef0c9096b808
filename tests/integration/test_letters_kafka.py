"""Dead letters on the real broker, through the real processor: replays that were broken off are stored once."""

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.integration.test_letters_crash import run_child
from tests.support.engine import EngineProcess
from tests.support.letters import Crash, Mortal, letter, open_kafka, put, records_of, rows_of
from tests.support.letters_child import LEASE_SECONDS, replay_all
from tests.support.processor import Running, processor_settings, publish, records

from logstream import processor
from logstream.clock import SystemClock
from logstream.letters.box import LetterBox
from logstream.letters.format import LetterId
from logstream.letters.ledger import LetterTerms, letter_ledger
from logstream.letters.replay import Operation, Replayer
from logstream.processor.window import Deduplication
from logstream.settings import IngestLimits, StoreSettings
from logstream.storage.journal import StoreJournal
from logstream.storage.store import Store
from logstream.stream import make_stream

ROWS = 10


@pytest.mark.engine
@pytest.mark.parametrize("step", ["some", "arrived"])
async def test_a_replay_that_broke_off_is_stored_once(engine: EngineProcess, kafka: Any, step: str) -> None:
    clock = SystemClock()
    stream = make_stream("l" + uuid.uuid4().hex[:12])
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        store = await Store.connect(StoreSettings(url=engine.url))
        stack.push_async_callback(store.close)
        await store.migrate(stream, retention_days=3650)
        journal = StoreJournal(store)
        bus = await open_kafka(kafka.bootstrap, clock, journal=journal)
        stack.push_async_callback(bus.close)
        await bus.create_topic(stream.topic)
        running = asyncio.create_task(
            processor.serve(
                processor_settings(), bus=bus, store=store, streams=[stream], clock=clock, stop=stop,
                deduplication=Deduplication(journal, 3600.0),
            )
        )  # fmt: skip
        run = Running(bus, store, stream)  # type: ignore[arg-type]
        await store.command(f"ALTER TABLE {stream.database}.logs ADD CONSTRAINT p CHECK message NOT LIKE 'poison%'")
        await publish(bus, stream, records(ROWS, message="poison"))
        await run.settled()
        await store.command(f"ALTER TABLE {stream.database}.logs DROP CONSTRAINT p")
        box = LetterBox(bus, stream, clock, max_letters=1_000)
        await box.fresh()
        ids = [LetterId(p, offset) for p, part in enumerate(box.parts) for offset in part.offsets]
        assert len(ids) == ROWS
        mortal = Mortal(Replayer(box, IngestLimits(), lease_seconds=LEASE_SECONDS), step)
        with pytest.raises(Crash):
            await mortal.replay(ids, Operation("crashing"))
        await replay_all(bus, stream)
        await run.settled()
        assert await run.scalar("count()") == ROWS
        assert await run.scalar("uniqExact(metadata['id'])") == ROWS
        entry = (await run.ledger())["key1"]
        repeats = {"some": 2, "arrived": ROWS}[step]
        assert (entry.stored, entry.dead_lettered, entry.deduplicated) == (ROWS, ROWS, repeats)
        assert (await letter_ledger(box, retained_from=0)).of("key1") == LetterTerms(replayed=ROWS)
        stop.set()
        await running


@pytest.mark.parametrize("point", ["after replaying", "after row", "before replayed"])
async def test_kills_on_kafka(kafka: Any, point: str) -> None:
    clock = SystemClock()
    stream = make_stream("l" + uuid.uuid4().hex[:12])
    bus = await open_kafka(kafka.bootstrap, clock)
    try:
        await bus.create_topic(stream.topic)
        await bus.create_topic(stream.dead_letter_topic)
        await put(bus, stream, *(letter(stream, clock, number) for number in range(ROWS)))
        place = f"kafka://{kafka.bootstrap}"
        assert not await asyncio.to_thread(run_child, place, stream, point, 3 if "row" in point else 1)
        await replay_all(bus, stream)
        assert rows_of(await records_of(bus, stream.topic)) == {f"poison {number}": 1 for number in range(ROWS)}
    finally:
        await bus.close()
