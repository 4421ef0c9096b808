"""Reading the log's file, in threads of its own: SQLite does not hold the interpreter while it works."""

import asyncio
import queue
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from logstream.bus.header import decode_segments
from logstream.bus.protocol import Committed, LedgerEntry, Message
from logstream.bus.sqlite.schema import OFFSET_BITS, connect_reader, unavailable

_T = TypeVar("_T")
_THREADS = 2
MIN_MINUTE, MAX_MINUTE = -(1 << 40), 1 << 40
"""Beyond every minute that 64 bits of nanoseconds can say."""


class Reader:
    """A pool of connections, one for each thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bus-reader")

    async def run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """`query` with a connection of its own, in a thread. Raises BusUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)

    def _run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = connect_reader(self._directory)
        try:
            result = query(connection)
        except sqlite3.Error as error:
            connection.close()
            raise unavailable(error) from error
        self._idle.put(connection)
        return result

    async def close(self) -> None:
        """Queries under way finish first."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def messages(sql: sqlite3.Connection, lane_id: int, partition: int, offset: int, max_bytes: int) -> list[Message]:
    """Records of a lane from `offset` on: at least one when there is one, then no more than `max_bytes`."""
    low = lane_id << OFFSET_BITS
    rows = sql.execute(
        "SELECT id, value FROM records WHERE id >= ? AND id < ? ORDER BY id", (low | offset, low + (1 << OFFSET_BITS))
    )
    found: list[Message] = []
    size = 0
    try:
        for row, value in rows:
            size += len(value)
            if found and size > max_bytes:
                break
            found.append(Message(partition, row - low, value))
    finally:
        rows.close()
    return found


def committed(sql: sqlite3.Connection, lane_id: int, group: str) -> Committed:
    row = sql.execute("SELECT offset, metadata FROM positions WHERE lane = ? AND grp = ?", (lane_id, group)).fetchone()
    return Committed(*row) if row else Committed(0)


def ledger(sql: sqlite3.Connection, topic: str) -> Sequence[LedgerEntry]:
    """Everything in one snapshot, so that the terms add up at every moment."""
    sql.execute("BEGIN")
    try:
        in_flight = _in_flight(sql, topic, MIN_MINUTE, MAX_MINUTE)
        counted = sql.execute(
            "SELECT key_id, accepted, stored, deduplicated, dead_lettered FROM ledger g JOIN topics t ON t.id = g.topic"
            " WHERE t.name = ? ORDER BY key_id",
            (topic,),
        ).fetchall()
    finally:
        sql.execute("ROLLBACK")
    return _entries(counted, in_flight)


def ledger_between(sql: sqlite3.Connection, topic: str, first: int, end: int) -> Sequence[LedgerEntry]:
    """As `ledger`, of records received in the minutes from `first` to `end` (excluded) since the epoch."""
    sql.execute("BEGIN")
    try:
        in_flight = _in_flight(sql, topic, first, end)
        counted = sql.execute(
            "SELECT key_id, sum(accepted), sum(stored), sum(deduplicated), sum(dead_lettered)"
            " FROM ledger_minutes g JOIN topics t ON t.id = g.topic"
            " WHERE t.name = ? AND minute >= ? AND minute < ? GROUP BY key_id ORDER BY key_id",
            (topic, first, end),
        ).fetchall()
    finally:
        sql.execute("ROLLBACK")
    return _entries(counted, in_flight)


def _in_flight(sql: sqlite3.Connection, topic: str, first: int, end: int) -> defaultdict[str, int]:
    """Rows that wait, by key, of records received in the minutes from `first` to `end` (excluded)."""
    rows: defaultdict[str, int] = defaultdict(int)
    lanes = sql.execute(
        "SELECT l.id, coalesce((SELECT max(offset) FROM positions p WHERE p.lane = l.id AND p.accounts), 0)"
        " FROM lanes l JOIN topics t ON t.id = l.topic WHERE t.name = ?",
        (topic,),
    ).fetchall()
    for lane_id, position in lanes:
        low = lane_id << OFFSET_BITS
        waiting = sql.execute(
            "SELECT segments, count(*) FROM entries WHERE id >= ? AND id < ? AND minute >= ? AND minute < ?"
            " GROUP BY segments",
            (low | position, low + (1 << OFFSET_BITS), first, end),
        )
        for segments, records in waiting:
            for segment in decode_segments(segments):
                rows[segment.key_id] += segment.rows * records
    return rows


def _entries(counted: Sequence[tuple[str, int, int, int, int]], in_flight: Mapping[str, int]) -> list[LedgerEntry]:
    return [
        LedgerEntry(key_id, accepted, stored, deduplicated, dead_lettered, in_flight.get(key_id, 0))
        for key_id, accepted, stored, deduplicated, dead_lettered in counted
    ]
