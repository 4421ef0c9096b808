"""Days built anew from the log and swapped in, on the real engine."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import IDENTITY, Running, processor_settings, publish, records, running

from logstream.bus.protocol import Claim
from logstream.bus.sqlite.recent import RecentRecords
from logstream.clock import ManualClock, SystemClock
from logstream.errors import Conflict
from logstream.processor.replay import DAY_NS, Day, Replay, day_of, parse_days
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

TODAY = SystemClock().now_ns() // DAY_NS * DAY_NS
NOON = DAY_NS // 2


@pytest.fixture
async def stream(engine: EngineProcess) -> AsyncIterator[Stream]:
    stream = make_stream("r" + uuid.uuid4().hex[:12])
    store = await Store.connect(StoreSettings(url=engine.url))
    await store.migrate(stream, retention_days=30)
    yield stream
    await store.close()


def replay_of(run: Running, *, now: int = TODAY + NOON, **settings: object) -> Replay:
    return Replay(
        processor_settings(**settings), bus=run.bus, store=run.store, stream=run.stream, clock=ManualClock(now),
        deduplication=run.deduplication,
    )  # fmt: skip


async def fill(run: Running) -> None:
    """Three records on each of three days, the last of which is today; every one comes twice under its key."""
    await run.store.command(
        f"ALTER TABLE {run.stream.database}.logs ADD CONSTRAINT poison CHECK message NOT LIKE '%poison%'"
    )
    topic = await run.bus.create_topic(run.stream.topic)
    for days_ago in (2, 1, 0):
        for i in range(3):
            rows = records(50, seed=days_ago * 10 + i)
            if i == 1:
                rows[0] = rows[17] = rows[49] = records(1, seed=99, message="poison")[0]
            digest = hashlib.sha256(f"{days_ago}/{i}".encode()).digest()
            for _ in range(2):
                await publish(
                    run.bus, run.stream, rows, keys=[("a", 20), ("b", 30)],
                    received_at=TODAY - days_ago * DAY_NS + NOON + i, carried=Claim(digest[:16], digest[16:]),
                    partition=i % topic.partitions,
                )  # fmt: skip
    await run.drained(18)


def at(days_ago: int) -> date:
    return day_of(TODAY) - timedelta(days=days_ago)


def by_day(days: list[Day]) -> dict[int, Day]:
    return {(day_of(TODAY) - day.day).days: day for day in days}


async def content(run: Running) -> list[tuple[object, ...]]:
    answer = await run.store.query(
        f"SELECT partition, offset, row, key_id, message, toString(received_at) FROM {run.stream.database}.logs"
        " ORDER BY partition, offset, row"
    )
    return [tuple(row) for row in answer.rows]


@pytest.mark.parametrize("max_rows", [60, 200_000])
async def test_days_are_built_anew_as_they_were(
    tmp_path: Path, engine: EngineProcess, stream: Stream, max_rows: int
) -> None:
    async with running(tmp_path / "bus", engine.url, stream, journalled=True, partitions=2) as run:
        await fill(run)
        before = await content(run)
        assert len(before) == 3 * 147
        replay = replay_of(run, max_rows=max_rows)
        surveyed = by_day(await replay.survey())
        assert [surveyed[i].reason for i in (2, 1)] == ["", ""]
        assert "not over" in surveyed[0].reason
        assert (surveyed[2].live, surveyed[2].stored) == (147, 147)
        # Nothing was touched so far; now the table is damaged.
        await run.store.command(
            f"ALTER TABLE {stream.database}.logs DELETE WHERE toDate(received_at) = '{at(2)}' AND row % 3 = 0",
            settings={"mutations_sync": 1},
        )
        assert len(await content(run)) < len(before)
        told: list[tuple[int, int]] = []
        done = by_day(await replay.run([at(2), at(0)], progress=lambda read, total: told.append((read, total))))
        assert (done[2].swapped, done[2].rebuilt, done[2].reason) == (True, 147, "")
        assert (done[0].swapped, done[0].rebuilt) == (False, None)
        assert await content(run) == before
        assert await run.scalar("count()") == await run.scalar(f"uniqExact({IDENTITY})")
        assert told == sorted(told)
        assert told[-1][1] == 18
        left = await run.store.query("SELECT count() FROM system.databases WHERE name LIKE '%replay'")
        assert left.rows[0][0] == 0
        # The live table goes on as before.
        await publish(run.bus, stream, records(5, seed=500))
        await run.drained(19)
        assert len(await content(run)) == len(before) + 5


async def test_a_day_whose_counts_differ_is_not_swapped_in(
    tmp_path: Path, engine: EngineProcess, stream: Stream
) -> None:
    """As when the dead letters, which say what was left out, are no longer there."""
    async with running(tmp_path / "bus", engine.url, stream, journalled=True) as run:
        await fill(run)
        before = await content(run)
        await run.store.command(f"ALTER TABLE {stream.database}.logs DROP CONSTRAINT poison")

        def forget(log) -> None:  # type: ignore[no-untyped-def]
            lane = log.lanes[stream.dead_letter_topic][0]
            log.sql.execute("DELETE FROM records WHERE id >= ? AND id < ?", (lane.row(0), lane.row(3)))
            log.sql.execute("DELETE FROM entries WHERE id >= ? AND id < ?", (lane.row(0), lane.row(3)))

        await run.bus._call(forget)
        run.bus._views[stream.dead_letter_topic][0].beginning = 3
        run.bus._recent = RecentRecords(0)
        done = by_day(await replay_of(run).run([at(2), at(1)]))
        assert (done[2].swapped, done[2].rebuilt) == (False, 150)
        assert "the ledger counted 147" in done[2].reason
        assert done[1].swapped
        assert await content(run) == before


async def test_what_the_log_no_longer_has_is_refused(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        for days_ago in (3, 2, 1):
            for i in range(4):
                await publish(
                    run.bus, stream, records(2, seed=i), received_at=TODAY - days_ago * DAY_NS + i * DAY_NS // 4
                )
        await run.drained(12)

        def forget(log) -> None:  # type: ignore[no-untyped-def]
            lane = log.lanes[stream.topic][0]
            for table in ("records", "entries"):
                log.sql.execute(f"DELETE FROM {table} WHERE id < ?", (lane.row(2),))

        await run.bus._call(forget)
        run.bus._views[stream.topic][0].beginning = 2
        surveyed = by_day(await replay_of(run).survey())
        assert surveyed[3].reason == "the log no longer has all of it"
        assert surveyed[2].reason == ""
        assert surveyed[1].reason == ""
        # Just after midnight, records of yesterday may still be on their way.
        early = by_day(await replay_of(run, now=TODAY + 10**9).survey())
        assert "not all of it was stored" in early[1].reason
        # An earlier topic's rows would be lost.
        await run.store.command(
            f"INSERT INTO {stream.database}.logs (received_at, incarnation) VALUES ('{at(2)} 10:00:00', 1)"
        )
        assert "earlier topic" in by_day(await replay_of(run).survey())[2].reason


async def test_what_was_not_stored_yet_is_refused(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    missing = make_stream(stream.name + "x")
    async with running(tmp_path / "bus", engine.url, missing, partitions=2) as run:
        for i in range(2):
            await publish(run.bus, missing, records(2, seed=i), received_at=TODAY - DAY_NS + i)
        await run.store.command(f"CREATE DATABASE IF NOT EXISTS {missing.database}")
        await run.store.command(
            f"CREATE TABLE {missing.database}.logs (received_at DateTime64(9, 'UTC'), incarnation UInt32)"
            " ENGINE = MergeTree ORDER BY received_at"
        )
        assert "catch up" in by_day(await replay_of(run).survey())[1].reason


async def test_two_at_a_time_are_refused(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        await publish(run.bus, stream, records(2), received_at=TODAY - DAY_NS)
        await run.drained(1)
        replay = replay_of(run)
        await run.store.command(f"CREATE DATABASE {stream.database}_replay")
        with pytest.raises(Conflict, match="another replay"):
            await replay.run()
        await replay.discard()
        assert by_day(await replay.run())[1].swapped


def test_days_are_read_as_people_write_them() -> None:
    assert parse_days("2026-11-20") == [date(2026, 11, 20)]
    assert parse_days("2026-11-20..2026-11-22, 2026-12-01") == [date(2026, 11, d) for d in (20, 21, 22)] + [
        date(2026, 12, 1)
    ]
    for wrong in ("", "yesterday", "2026-11-20..2026-11-19", "2026-13-01"):
        with pytest.raises(ValueError, match=r".+"):
            parse_days(wrong)


def command(tmp_path: Path, engine: EngineProcess, stream: Stream, *arguments: str) -> tuple[int, str, str]:
    """`logstream processor replay` on the embedded log; its exit status and what it wrote."""
    environment = {
        **os.environ, "LOGSTREAM_RUN_BUS": "sqlite", "LOGSTREAM_BUS_PATH": str(tmp_path / "bus"),
        "LOGSTREAM_STORE_URL": engine.url, "LOGSTREAM_RUN_STREAMS": json.dumps([{"name": stream.name}]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "logstream.cli", "processor", "replay", "--stream", stream.name, *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


async def test_the_command_says_first_and_then_does(tmp_path: Path, engine: EngineProcess, stream: Stream) -> None:
    async with running(tmp_path / "bus", engine.url, stream) as run:
        for i in range(3):
            await publish(run.bus, stream, records(10, seed=i), received_at=TODAY - DAY_NS + i)
        await run.drained(3)
        await run.store.command(
            f"ALTER TABLE {stream.database}.logs DELETE WHERE offset = 1", settings={"mutations_sync": 1}
        )
    yesterday = at(1).isoformat()
    status, out, err = command(tmp_path, engine, stream)
    assert status == 0, err
    assert "can be built anew" in out
    assert "--yes" in err
    status, out, err = command(tmp_path, engine, stream, "--days", yesterday, "--yes", "-o", "json")
    assert status == 0, err
    assert json.loads(out) == [
        {"day": yesterday, "in_table": 20, "in_ledger": 30, "rebuilt": 30, "swapped": True, "reason": ""}
    ]
    status, out, err = command(tmp_path, engine, stream, "--days", at(0).isoformat(), "--yes")
    assert (status, "not over" in out) == (1, True)
    assert command(tmp_path, engine, stream, "--days", "soon")[0] == 2
    store = await Store.connect(StoreSettings(url=engine.url))
    assert (await store.query(f"SELECT count() FROM {stream.database}.logs")).rows[0][0] == 30
    await store.close()
