"""The one thread that writes: everything that waits is committed as a group, with one fsync for all."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from logstream import metrics
from logstream.bus.header import Header
from logstream.bus.protocol import Claim, Published
from logstream.bus.sqlite import retention
from logstream.bus.sqlite.log import Log
from logstream.bus.sqlite.schema import unavailable
from logstream.clock import Clock
from logstream.errors import BusUnavailable, LogStreamError
from logstream.logs import get_logger
from logstream.settings import MIB, BusSettings

_GROUP_BYTES = 32 * MIB
_GROUP_JOBS = 4_096
_CHECKPOINT_BYTES = 16 * MIB
_COMMIT_BYTES = 64 * 1024
"""Roughly what one commit adds to the write-ahead log besides values: the pages of small tables."""
_HELD_BACK = 4
_RETENTION_SECONDS = 1.0


class Job(Protocol):
    """One thing to do in a group; `future` gets what `run` returns or raises."""

    future: "asyncio.Future[object]"
    size: int

    def run(self, log: Log) -> object: ...


@dataclass(slots=True, eq=False)
class Call:
    """Any call on the log. last: nothing else is in its group behind it."""

    future: "asyncio.Future[object]"
    call: Callable[[Log], object]
    size: int = 0
    last: bool = False

    def run(self, log: Log) -> object:
        return self.call(log)


@dataclass(slots=True, eq=False)
class Append:
    """Append one record. `published` is set once it was done."""

    future: "asyncio.Future[object]"
    topic: str
    partition: int
    header: Header
    value: bytes
    claim: Claim | None
    size: int
    published: Published | None = None

    def run(self, log: Log) -> object:
        lane = log.lane(self.topic, self.partition)
        self.published = log.append(lane, self.header, self.value, self.claim)
        return self.published


@dataclass(slots=True, frozen=True)
class Deleted:
    """A topic is gone; the lanes it had."""

    topic: str
    lanes: Sequence[int]


@dataclass(slots=True, frozen=True)
class Extent:
    """What readers must know of a lane that changed."""

    lane_id: int
    topic: str
    partition: int
    beginning: int
    end: int
    bytes: int


@dataclass(slots=True, eq=False)
class Done:
    """What became of a group: each job's result, or the LogStreamError it gets."""

    jobs: Sequence[Job]
    results: Sequence[object]
    changed: Sequence[Extent]


class Writer:
    """Runs jobs in order. `settle` is called in the event loop's thread, once a group."""

    def __init__(self, log: Log, settings: BusSettings, clock: Clock, settle: Callable[[Done], None]) -> None:
        self._log = log
        self._settings = settings
        self._clock = clock
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._written = 0
        self._held_back = 0
        self._logger = get_logger("bus")
        self._thread = threading.Thread(target=self._run, name="bus-writer", daemon=True)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def stop(self) -> None:
        """What was put before is still done; then `closed` is set."""
        self._jobs.put(None)

    # In the writer's thread

    def _run(self) -> None:
        retained_at = time.monotonic()
        more = False
        try:
            while True:
                group, stop = self._next_group(0.0 if more else _RETENTION_SECONDS)
                if group:
                    self._commit(group)
                if self._written >= _CHECKPOINT_BYTES:
                    self._checkpoint()
                if stop:
                    break
                if more or time.monotonic() - retained_at >= _RETENTION_SECONDS:
                    more = self._retain()
                    retained_at = time.monotonic()
        finally:
            self._log.sql.close()
            self._tell(self._set_closed)

    def _set_closed(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def _next_group(self, wait: float) -> tuple[list[Job], bool]:
        """Everything that waits, up to a group's limits; and whether to stop after it."""
        group: list[Job] = []
        size = 0
        try:
            job = self._jobs.get(timeout=wait) if wait else self._jobs.get_nowait()
            while job is not None:
                group.append(job)
                size += job.size
                if size >= _GROUP_BYTES or len(group) >= _GROUP_JOBS or (isinstance(job, Call) and job.last):
                    return group, False
                job = self._jobs.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _commit(self, group: list[Job]) -> None:
        started = time.perf_counter()
        results: list[object] = []
        try:
            self._log.begin()
            for job in group:
                try:
                    results.append(job.run(self._log))
                except LogStreamError as error:
                    results.append(error)
            self._log.finish()
        except Exception as error:
            failure: BusUnavailable
            if isinstance(error, sqlite3.Error):
                failure = unavailable(error)
                self._logger.warning("commit_failed", error=failure.message)
            else:
                failure = BusUnavailable(f"the log failed: {error!r}")
                self._logger.exception("commit_failed")
            self._recover()
            results = [failure] * len(group)
        else:
            self._written += _COMMIT_BYTES + sum(job.size for job in group)
            metrics.BUS_APPEND_SECONDS.observe(time.perf_counter() - started)
        self._report(group, results)

    def _report(self, group: Sequence[Job], results: Sequence[object]) -> None:
        changed = [
            Extent(s.lane_id, s.topic, s.partition, s.beginning, s.end, s.bytes) for s in self._log.changed.values()
        ]
        self._log.changed.clear()
        done = Done(group, results, changed)
        self._tell(lambda: self._settle(done))

    def _recover(self) -> None:
        try:
            self._log.recover()
        except Exception as error:
            self._logger.warning("log_not_readable", error=repr(error))

    def _retain(self) -> bool:
        try:
            self._log.begin()
            more, discarded = retention.step(self._log, self._settings, self._clock)
            self._log.finish()
        except Exception as error:
            # Whatever it is: without this thread no publish would ever be answered.
            self._logger.warning("retention_failed", error=repr(error), exc_info=not isinstance(error, sqlite3.Error))
            self._recover()
            return False
        if discarded:
            self._logger.warning("dead_letters_discarded", records=discarded)
        if self._log.changed:
            self._written += _COMMIT_BYTES
            self._report((), ())
        return more

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the file, so that it is used again from its start.

        Those who wait for the last group have their answer already. A reader may hold some of it back; when
        that happened often, the next checkpoint waits for readers, so that the file stays bounded.
        """
        try:
            mode = "RESTART" if self._held_back >= _HELD_BACK else "PASSIVE"
            busy, frames, moved = self._log.sql.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            self._logger.warning("checkpoint_failed", error=str(error))
            busy, frames, moved = 1, 0, -1
        done = frames == moved and not busy
        self._held_back = 0 if done else self._held_back + 1
        self._written = 0 if done else _CHECKPOINT_BYTES // 2

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return
