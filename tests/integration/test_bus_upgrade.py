"""The embedded log's file, made by an earlier LogStream."""

import sqlite3
from pathlib import Path

import pytest

from logstream.bus.header import Header, Segment
from logstream.bus.protocol import NS_PER_MINUTE, Committed, LedgerEntry, Outcome, Settled
from logstream.bus.sqlite import SqliteBus
from logstream.bus.sqlite.schema import FILE
from logstream.clock import ManualClock
from logstream.errors import StartupError
from logstream.settings import BusSettings

TOPIC = "logstream.test"
MINUTE = 28_000_000


def header(rows: int, minute: int) -> Header:
    at = minute * NS_PER_MINUTE + 1
    return Header(rows, at, at, at, (Segment("key1", rows),))


def to_format_1(path: Path) -> None:
    """The file as the first format had it."""
    with sqlite3.connect(path / FILE, isolation_level=None) as sql:
        sql.executescript(
            "BEGIN; DROP TABLE ledger_minutes; ALTER TABLE entries DROP COLUMN minute; PRAGMA user_version=1; COMMIT;"
        )
    sql.close()


async def test_a_file_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    settings = BusSettings(path=tmp_path, min_free_disk_bytes=0)
    bus = await SqliteBus.open(settings, ManualClock())
    await bus.create_topic(TOPIC)
    consumer = await bus.consumer(TOPIC, "processor")
    for number in range(3):
        await bus.publish(TOPIC, header(1 + number, MINUTE + number), b"payload")
    await consumer.commit(0, Committed(1), Settled(0, 0, {("key1", MINUTE): Outcome(stored=1)}))
    await bus.close()
    to_format_1(tmp_path)

    bus = await SqliteBus.open(settings, ManualClock())
    try:
        assert await bus.ledger(TOPIC) == [LedgerEntry("key1", 6, 1, 0, 0, 5)]
        # What was settled before stays in the totals only; what waits is known by its minute.
        at = MINUTE * NS_PER_MINUTE
        assert await bus.ledger(TOPIC, start=at, end=at + NS_PER_MINUTE) == []
        later = await bus.ledger(TOPIC, start=at + NS_PER_MINUTE, end=None)
        assert later == [LedgerEntry("key1", 5, 0, 0, 0, 5)]
        consumer = await bus.consumer(TOPIC, "processor")
        assert await consumer.committed(0) == Committed(1)
        await consumer.commit(0, Committed(2), Settled(1, 1, {("key1", MINUTE + 1): Outcome(stored=2)}))
        assert (await bus.publish(TOPIC, header(4, MINUTE + 3), b"payload")).offset == 3
        assert await bus.ledger(TOPIC) == [LedgerEntry("key1", 10, 3, 0, 0, 7)]
        second = await bus.ledger(TOPIC, start=at + NS_PER_MINUTE, end=at + 2 * NS_PER_MINUTE)
        assert second == [LedgerEntry("key1", 2, 2, 0, 0, 0)]
    finally:
        await bus.close()


async def test_a_file_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    bus = await SqliteBus.open(BusSettings(path=tmp_path, min_free_disk_bytes=0), ManualClock())
    await bus.close()
    with sqlite3.connect(tmp_path / FILE) as sql:
        sql.execute("PRAGMA user_version=3")
    sql.close()
    with pytest.raises(StartupError, match="format 3"):
        await SqliteBus.open(BusSettings(path=tmp_path, min_free_disk_bytes=0), ManualClock())
