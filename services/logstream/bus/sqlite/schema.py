"""The log's file: where it lies, who may open it, its tables and how a connection is set up."""

import fcntl
import os
import sqlite3
from collections import Counter
from pathlib import Path

from logstream.bus.header import FIXED_BYTES, decode_segments, received_at
from logstream.bus.protocol import minute_of
from logstream.errors import BusUnavailable, StartupError

FILE = "log.db"
_LOCK = "lock"
_VERSION = 2

# Measured, µs of CPU: a 190 kB record costs 526 with pages of 4 kB, 377 with 16 kB, 333 with 64 kB; a small
# commit 87, 101 and 159, because every touched page goes to the write-ahead log whole. 16 kB loses little of
# either, and keeps the scattered pages of `claims` small.
_PAGE_BYTES = 16_384

OFFSET_BITS = 40
"""A record's row id is `lane << OFFSET_BITS | offset`: one table, and each partition's records lie together."""

# `entries` repeats what retention and the ledger must know of a record, so that they need not read values.
# `partition` of a topic is a lane of its own; no row of `lanes` is ever deleted. Where its `topic` is negative, the
# topic was deleted, and what it had goes bit by bit.
_TABLES = """
CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, incarnation INTEGER NOT NULL);
CREATE TABLE lanes (id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, partition INTEGER NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, appended_at INTEGER NOT NULL, bytes INTEGER NOT NULL, segments BLOB NOT NULL,
    minute INTEGER NOT NULL
);
CREATE TABLE claims (
    topic INTEGER NOT NULL, key BLOB NOT NULL, fingerprint BLOB NOT NULL, record INTEGER NOT NULL,
    claimed_at INTEGER NOT NULL, PRIMARY KEY (topic, key)
) WITHOUT ROWID;
CREATE INDEX claims_by_time ON claims (claimed_at);
CREATE TABLE positions (
    lane INTEGER NOT NULL, grp TEXT NOT NULL, offset INTEGER NOT NULL, metadata TEXT NOT NULL,
    accounts INTEGER NOT NULL, PRIMARY KEY (lane, grp)
) WITHOUT ROWID;
CREATE TABLE ledger (
    topic INTEGER NOT NULL, key_id TEXT NOT NULL, accepted INTEGER NOT NULL, deduplicated INTEGER NOT NULL,
    stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL, PRIMARY KEY (topic, key_id)
) WITHOUT ROWID;
"""

# `ledger` counts since the topic was made; here are the same counts by minute of received_at, as long as
# retention leaves them.
_MINUTES = """
CREATE TABLE ledger_minutes (
    topic INTEGER NOT NULL, minute INTEGER NOT NULL, key_id TEXT NOT NULL, accepted INTEGER NOT NULL,
    deduplicated INTEGER NOT NULL, stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL,
    PRIMARY KEY (topic, minute, key_id)
) WITHOUT ROWID;
"""


class DirectoryLock:
    """One process per data directory: held from `open` to `release`, or until the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises StartupError when the folder cannot be used, or another process uses it."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(f"cannot write to the log's folder {directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StartupError(
                f"the log in {directory} is in use by another LogStream process"
                f"{f' (process id {holder})' if holder else ''}; stop it or choose another data folder"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def connect_writer(directory: Path) -> sqlite3.Connection:
    """The one connection that writes; the tables are made when the file is new.

    Raises StartupError when the file is not a log of this version.
    """
    path = directory / FILE
    try:
        # Nobody else writes: the timeout is how long a checkpoint waits for readers, and appends wait with it.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # The writer checkpoints by itself, after it has answered those who wait.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA journal_size_limit=67108864")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN;{_TABLES}{_MINUTES}PRAGMA user_version={_VERSION};COMMIT;")
        elif version == 1:
            _count_by_minute(connection)
        elif version != _VERSION:
            raise StartupError(f"the log in {directory} has format {version}; this LogStream reads format {_VERSION}")
    except sqlite3.Error as error:
        raise StartupError(f"cannot open the log {path}: {error}") from error
    return connection


def _count_by_minute(connection: sqlite3.Connection) -> None:
    """From format 1 to 2. Only what still waits is known by time; the rest stays in the totals."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_MINUTES)
    connection.execute("ALTER TABLE entries ADD COLUMN minute INTEGER NOT NULL DEFAULT 0")
    counts: Counter[tuple[int, int, str]] = Counter()
    waiting = connection.execute(
        "SELECT r.id, l.topic, substr(r.value, 1, ?) FROM lanes l JOIN records r"
        " ON r.id >= (l.id << ?)"
        " | coalesce((SELECT max(offset) FROM positions p WHERE p.lane = l.id AND p.accounts), 0)"
        " AND r.id < (l.id + 1) << ?",
        (FIXED_BYTES, OFFSET_BITS, OFFSET_BITS),
    )
    for row, topic, value in waiting:
        minute = minute_of(received_at(value))
        connection.execute("UPDATE entries SET minute = ? WHERE id = ?", (minute, row))
        (segments,) = connection.execute("SELECT segments FROM entries WHERE id = ?", (row,)).fetchone()
        for segment in decode_segments(segments):
            counts[topic, minute, segment.key_id] += segment.rows
    connection.executemany(
        "INSERT INTO ledger_minutes VALUES (?, ?, ?, ?, 0, 0, 0)", [(*place, rows) for place, rows in counts.items()]
    )
    connection.execute(f"PRAGMA user_version={_VERSION}")
    connection.execute("COMMIT")


def connect_reader(directory: Path) -> sqlite3.Connection:
    """A connection that only reads. Raises BusUnavailable."""
    try:
        connection = sqlite3.connect(
            f"{(directory / FILE).absolute().as_uri()}?mode=ro",
            uri=True, isolation_level=None, check_same_thread=False, timeout=10.0,
        )  # fmt: skip
        connection.execute("PRAGMA query_only=1")
    except sqlite3.Error as error:
        raise unavailable(error) from error
    return connection


def unavailable(error: sqlite3.Error) -> BusUnavailable:
    """What a caller is told when SQLite fails."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if name.startswith("SQLITE_FULL"):
        return BusUnavailable("the log cannot grow: the disk is full", retry_after=5.0)
    return BusUnavailable(f"the log cannot be used now: {error} ({name})", retry_after=5.0)
