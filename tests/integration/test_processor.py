"""The processor with the real log and the real engine."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import (
    IDENTITY,
    Running,
    bus_settings,
    processor_settings,
    publish,
    records,
    running,
)

from logstream.bus.header import Header, Kind, Segment, decode
from logstream.bus.protocol import Committed, LedgerEntry
from logstream.bus.sqlite import SqliteBus
from logstream.clock import NS_PER_SECOND, SystemClock
from logstream.processor.plan import Plan
from logstream.processor.service import GROUP
from logstream.record import Batch
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine
DAY_NS = 86_400 * NS_PER_SECOND


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    """A stream with a table of its own."""
    stream = make_stream("t" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=3650)
    yield stream
    await store.close()


async def letters(bus: SqliteBus, stream: Stream) -> list[dict[str, object]]:
    end = (await bus.offsets(stream.dead_letter_topic, 0)).end
    found: list[dict[str, object]] = []
    while len(found) < end:
        for message in await bus.read(stream.dead_letter_topic, 0, len(found), max_bytes=1 << 20):
            header, payload = decode(message.value)
            assert header.kind is Kind.DEAD_LETTER
            assert header.rows == 1
            found.append(json.loads(bytes(payload)))
    return found


async def counts(run: Running) -> tuple[object, object]:
    """(rows, distinct identities) in the table."""
    return await run.scalar("count()"), await run.scalar(f"uniqExact({IDENTITY})")


async def test_rows_arrive_with_their_identity(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await publish(run.bus, stream, records(3), keys=[("a", 2), ("b", 1)], received_at=5 * NS_PER_SECOND)
        await publish(run.bus, stream, records(2, seed=1))
        await run.settled()
        topic = await run.bus.create_topic(stream.topic)
        answer = await run.store.query(
            "SELECT offset, row, key_id, message, incarnation, partition, toUnixTimestamp64Nano(received_at)"
            f" FROM {stream.database}.logs ORDER BY offset, row"
        )
        assert [tuple(r)[:4] for r in answer.rows] == [
            (0, 0, "a", "request done 0-0"), (0, 1, "a", "request done 0-1"), (0, 2, "b", "request done 0-2"),
            (1, 0, "key1", "request done 1-0"), (1, 1, "key1", "request done 1-1"),
        ]  # fmt: skip
        assert {r[4:6] for r in answer.rows} == {(topic.incarnation, 0)}
        assert {r[6] for r in answer.rows if r[0] == 0} == {5 * NS_PER_SECOND}
        assert await run.ledger() == {
            "a": LedgerEntry("a", 2, 2, 0, 0, 0),
            "b": LedgerEntry("b", 1, 1, 0, 0, 0),
            "key1": LedgerEntry("key1", 2, 2, 0, 0, 0),
        }


async def test_many_small_records_become_few_inserts(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream, settings=processor_settings(max_rows=100)) as run:
        await asyncio.gather(*(publish(run.bus, stream, records(10, seed=i)) for i in range(50)))
        await run.settled()
        assert await counts(run) == (500, 500)
        largest = await run.store.query(
            "SELECT max(n) FROM (SELECT count() AS n FROM {d:Identifier}.logs GROUP BY _part)", {"d": stream.database}
        )
        assert largest.rows[0][0] >= 10


async def test_a_range_ends_at_midnight(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    midnight = 20_000 * DAY_NS
    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
    await bus.create_topic(stream.topic)
    for i, at in enumerate((midnight - 2, midnight - 1, midnight, midnight + 1, midnight - 1)):
        await publish(bus, stream, records(2, seed=i), received_at=at)
    await bus.close()
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await run.settled()
        assert await counts(run) == (10, 10)
        assert await run.scalar("groupUniqArray(toDate(received_at))", "offset IN (0, 1, 4)") != []
        assert await run.scalar("uniqExact(toDate(received_at))") == 2


# Poison


async def constrain(store: Store, stream: Stream, check: str) -> None:
    await store.command(f"ALTER TABLE {stream.database}.logs ADD CONSTRAINT poison CHECK {check}")


async def test_bad_rows_become_letters_and_their_neighbours_are_stored(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    bad = {(1, 0), (1, 7), (1, 8), (3, 49), (4, 0)}
    async with running(tmp_path / "bus", engine.url, stream, settings=processor_settings(flush_seconds=0.3)) as run:
        await constrain(run.store, stream, "message NOT LIKE '%poison%'")
        sent = []
        for offset, size in enumerate((20, 50, 20, 50, 1, 20)):
            rows = records(size, seed=offset)
            for o, r in bad:
                if o == offset:
                    rows[r] = records(1, seed=1000 + r, message="poison")[0]
            sent.append(rows)
        await asyncio.gather(*(publish(run.bus, stream, rows, keys=split(len(rows))) for rows in sent))
        await run.settled()
        assert await counts(run) == (161 - len(bad), 161 - len(bad))
        found = await letters(run.bus, stream)
        assert {(x["offset"], x["row"]) for x in found} == bad
        assert len(found) == len(bad)
        for x in found:
            o, r = x["offset"], x["row"]
            assert isinstance(o, int)
            assert isinstance(r, int)
            assert x["clickhouse_code"] == 469
            assert "poison" in str(x["reason"])
            assert x["key_id"] == ("a" if r < (len(sent[o]) + 1) // 2 else "b")
            raw = base64.b64decode(str(x["raw"]))
            assert next(iter(block.decode(raw, 1))) == sent[o][r]
            assert isinstance(x["record"], dict)
            assert x["record"]["message"] == sent[o][r].message
        ledger = await run.ledger()
        assert sum(e.dead_lettered for e in ledger.values()) == len(bad)
        assert sum(e.stored for e in ledger.values()) == 161 - len(bad)
        # Rows keep the numbers they had in their record.
        assert await run.scalar("groupArray(row)", "offset = 1 AND row BETWEEN 6 AND 9") in ([6, 9], [9, 6])
        # And the stream goes on.
        await publish(run.bus, stream, records(5, seed=77))
        await run.settled()
        assert await counts(run) == (166 - len(bad), 166 - len(bad))


def split(rows: int) -> list[tuple[str, int]]:
    half = (rows + 1) // 2
    return [("a", half), ("b", rows - half)] if rows > half else [("a", half)]


async def test_a_range_of_nothing_but_bad_rows_is_passed(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await constrain(run.store, stream, "message NOT LIKE '%poison%'")
        for i in range(3):
            await publish(run.bus, stream, records(4, seed=i, message="poison"))
        await run.settled()
        assert await counts(run) == (0, 0)
        assert len(await letters(run.bus, stream)) == 12
        assert (await run.ledger())["key1"] == LedgerEntry("key1", 12, 0, 0, 12, 0)


@pytest.mark.parametrize("how", ["magic", "kind", "body"])
async def test_bytes_that_are_no_record_become_a_letter(
    tmp_path: Path, engine: EngineProcess, stream: Stream, how: str
) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await publish(run.bus, stream, records(2))
        if how == "body":
            await publish(run.bus, stream, records(3, seed=1), payload=b"no columns at all")
        else:
            header = Header(1, 1, 1, 1, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)
            if how == "magic":
                run.bus._writer._log.append = mangling(run.bus._writer._log.append)  # type: ignore[method-assign]
            await run.bus.publish(stream.topic, header, b"?")
        await publish(run.bus, stream, records(2, seed=2))
        async with asyncio.timeout(30):
            while await run.scalar("count()") != 4:
                await asyncio.sleep(0.01)
        [letter] = await letters(run.bus, stream)
        assert (letter["offset"], letter["row"]) == (1, None)
        assert letter["reason"]
        if how == "body":
            await run.settled()
            assert (await run.ledger())["key1"] == LedgerEntry("key1", 7, 4, 0, 3, 0)


def mangling(append):  # type: ignore[no-untyped-def]
    """Wrap `Log.append` so that the next record is damaged on its way to the file."""
    left = 1

    def damaged(lane, header, value, claim):  # type: ignore[no-untyped-def]
        nonlocal left
        left -= 1
        return append(lane, header, value if left < 0 else b"XX" + value[2:], claim)

    return damaged


# Restarts


async def plan_by_hand(path: Path, stream: Stream, *, rows: int = 10) -> Plan:
    """A log with two records of `rows` rows and a remembered plan over both, as after a crash."""
    bus = await SqliteBus.open(bus_settings(path), SystemClock())
    topic = await bus.create_topic(stream.topic)
    consumer = await bus.consumer(stream.topic, GROUP)
    for seed in range(2):
        await publish(bus, stream, records(rows, seed=seed))
    plan = Plan(topic.incarnation, 0, 0, 1)
    await consumer.commit(0, Committed(0, plan.dump()))
    # Arrived after the crash: must not be drawn into the remembered range.
    await publish(bus, stream, records(rows, seed=2))
    await bus.close()
    return plan


@pytest.mark.parametrize("stored", [False, True])
async def test_a_remembered_plan_is_finished_first(
    tmp_path: Path, engine: EngineProcess, stream: Stream, stored: bool
) -> None:
    plan = await plan_by_hand(tmp_path / "bus", stream)
    store = await Store.connect(StoreSettings(url=engine.url))
    # The table forgets every token but the last, so only the question "is it stored?" can help.
    await store.command(f"ALTER TABLE {stream.database}.logs MODIFY SETTING non_replicated_deduplication_window = 1")
    if stored:
        await store.insert(stream, by_hand(plan), rows=20, token=plan.token)
        await store.insert(stream, by_hand(Plan(1, 9, 50, 51)), rows=20, token="another")
    await store.close()
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await run.settled()
        assert await run.scalar("count()", "partition = 0") == 30
        assert await run.scalar(f"uniqExact({IDENTITY})", "partition = 0") == 30
        assert (await run.ledger())["key1"].stored == 30


async def test_a_token_that_stands_for_nothing_hides_no_rows(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """ClickHouse was killed between writing the token down and making the part visible."""
    plan = await plan_by_hand(tmp_path / "bus", stream)
    store = await Store.connect(StoreSettings(url=engine.url))
    for token in (plan.token, f"{plan.token}/2"):
        await store.insert(stream, by_hand(plan), rows=20, token=token)
        await store.command(
            f"ALTER TABLE {stream.database}.logs DELETE WHERE partition = 0 SETTINGS mutations_sync = 1"
        )
    assert not await store.contains(stream, incarnation=plan.incarnation, partition=0, first=plan.first, last=plan.last)
    await store.insert(stream, by_hand(plan), rows=20, token=plan.token)
    assert not await store.contains(stream, incarnation=plan.incarnation, partition=0, first=plan.first, last=plan.last)
    await store.close()
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await run.settled()
        assert await counts(run) == (30, 30)
        # What comes late under any of the tokens is still kept out.
        for token in (plan.token, f"{plan.token}/2", f"{plan.token}/3"):
            await run.store.insert(stream, by_hand(plan), rows=20, token=token)
        assert await counts(run) == (30, 30)


def by_hand(plan: Plan) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for offset in range(plan.first, plan.last + 1):
        body = block.encode(Batch.of(records(10, seed=offset)))
        source = block.Provenance(SystemClock().now_ns(), [("key1", 10)], plan.incarnation, plan.partition, offset)
        parts += block.seal(body, 10, source)
    return parts


async def test_a_late_insert_under_the_same_token_changes_nothing(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """A writer that was paused between plan and INSERT, and wakes up after its successor stored the range."""
    plan = await plan_by_hand(tmp_path / "bus", stream)
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await run.settled()
        await run.store.insert(stream, by_hand(plan), rows=20, token=plan.token)
        assert await counts(run) == (30, 30)


async def test_a_topic_made_anew_begins_at_zero_again(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    for life in range(2):
        async with running(tmp_path / f"bus{life}", engine.url, stream) as run:
            for i in range(3):
                await publish(run.bus, stream, records(4, seed=i))
            await run.settled()
            assert await counts(run) == (12 * (life + 1), 12 * (life + 1))
    assert await_distinct(tmp_path)


def await_distinct(tmp_path: Path) -> bool:
    return (tmp_path / "bus0").exists() and (tmp_path / "bus1").exists()


async def test_a_position_of_an_earlier_topic_is_not_believed(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """As on a bus where positions outlive the topic."""
    bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
    topic = await bus.create_topic(stream.topic)
    consumer = await bus.consumer(stream.topic, GROUP)
    for i in range(3):
        await publish(bus, stream, records(4, seed=i))
    await consumer.commit(0, Committed(2, Plan(topic.incarnation % 2**32 + 1, 0, 2, 7).dump()))
    await bus.close()
    async with running(tmp_path / "bus", engine.url, stream) as run:
        async with asyncio.timeout(30):
            while await run.scalar("count()") != 12:
                await asyncio.sleep(0.01)


async def test_a_stop_finishes_what_is_in_flight(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    published = 0
    for round_ in range(4):
        async with running(tmp_path / "bus", engine.url, stream) as run:
            for i in range(10):
                await publish(run.bus, stream, records(5, seed=round_ * 10 + i))
                published += 5
            await asyncio.sleep(0.005 * round_)
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await run.settled()
        assert await counts(run) == (published, published)
        assert (await run.ledger())["key1"].stored == published
