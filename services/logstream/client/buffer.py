"""The bounded buffer between the threads of a program and the one that sends.

Lines have numbers in the order in which they came; what has been sent or dropped leaves from the front, but for the
lines of the batch under way, which count against the limit until they are settled.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, get_args

WhenFull = Literal["drop_oldest", "drop_newest", "block"]
POLICIES: tuple[WhenFull, ...] = get_args(WhenFull)

LINE_OVERHEAD = 48
"""Bytes that a line takes in memory besides its text."""
_MAX_NESTED = 1000


class Buffer:
    """Holds at most `limit` bytes. Safe for threads, signal handlers and, with `lock` and `reset`, for fork."""

    def __init__(
        self, limit: int, when_full: WhenFull, block_seconds: float, *, batch_records: int, batch_bytes: int
    ) -> None:
        self._limit = limit
        self._when_full = when_full
        self._block_seconds = block_seconds
        self._batch_records = batch_records
        # Two batches must fit: while one is on its way the next is gathered, and a full buffer is not lingered over.
        self._batch_bytes = min(batch_bytes, limit // 2)
        self.reset()

    def reset(self) -> None:
        """Empty and with new locks: for the child of a fork, whose parent sends what was here."""
        self.lock = threading.RLock()
        self._filled = threading.Condition(self.lock)
        self._emptied = threading.Condition(self.lock)
        self._lines: deque[bytes] = deque()
        # A signal handler or a finalizer may log while its own thread is within `put`.
        self._nested: deque[bytes] = deque(maxlen=_MAX_NESTED)
        self._busy = False
        self._waiting_bytes = 0
        self._under_way: list[bytes] = []
        self._under_way_bytes = 0
        self._oldest = 0.0
        self._flush_to = 0
        self._flushes = 0
        self._flushing = 0
        self._closing = False
        self._patient = True
        self.entered = 0
        self.dropped = 0
        self.unreported = 0
        """Dropped since the last record that said so."""

    # For the program

    def put(self, line: bytes) -> None:
        """Take a line in, or drop one by the policy. Waits only with the policy `block`, and only once per jam."""
        with self.lock:
            if self._busy:
                self._nested.append(line)
                return
            self._busy = True
            try:
                self._put(line)
                while self._nested:
                    self._put(self._nested.popleft())
            finally:
                self._busy = False

    def _put(self, line: bytes) -> None:
        cost = len(line) + LINE_OVERHEAD
        self.entered += 1
        if not self._fits(cost) and not self._make_room(cost):
            self._drop(1)
            return
        if not self._lines:
            self._oldest = time.monotonic()
            self._filled.notify()
        before = self._waiting_bytes
        self._lines.append(line)
        self._waiting_bytes += cost
        if len(self._lines) == self._batch_records or before < self._batch_bytes <= self._waiting_bytes:
            self._filled.notify()

    def _fits(self, cost: int) -> bool:
        return self._waiting_bytes + self._under_way_bytes + cost <= self._limit

    def _make_room(self, cost: int) -> bool:
        if self._under_way_bytes + cost > self._limit:
            return False
        if self._when_full == "drop_oldest":
            while self._lines and not self._fits(cost):
                self._waiting_bytes -= len(self._lines.popleft()) + LINE_OVERHEAD
                self._drop(1)
            return True
        if self._when_full == "block" and self._patient:
            self._busy = False  # others may put, and wait, meanwhile
            self._patient = self._emptied.wait_for(lambda: self._fits(cost), self._block_seconds)
            self._busy = True
            return self._patient
        return False

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self.unreported += lines

    def drop(self, lines: int) -> None:
        """Count lines that were given and never came here."""
        with self.lock:
            self.entered += lines
            self._drop(lines)

    @property
    def pending(self) -> int:
        """Lines that wait or are under way."""
        return len(self._lines) + len(self._under_way)

    def settled(self, timeout: float) -> bool:
        """Ask for everything here to be sent now; whether it was settled within `timeout` seconds."""
        with self.lock:
            target = self._flush_to = self.entered
            self._flushes += 1
            self._flushing += 1
            self._filled.notify_all()
            try:
                return self._emptied.wait_for(lambda: self._first() >= target, timeout)
            finally:
                self._flushing -= 1

    def _first(self) -> int:
        """How many lines came before the first that is still here."""
        return self.entered - len(self._lines) - len(self._under_way)

    def close(self) -> None:
        """Send without waiting for more from now on."""
        with self.lock:
            self._closing = True
            self._filled.notify_all()

    # For the thread that sends

    def take(self, linger: float, report: Callable[[int], bytes]) -> list[bytes]:
        """The next batch: when it is full, or `linger` seconds after its first line, or when a flush is asked for.

        Empty when the buffer is closed and empty. To be settled with `done`. When lines were dropped, the batch has
        one line more: `report` of their number.
        """
        with self.lock:
            while True:
                now = time.monotonic()
                if self._lines:
                    due = self._oldest + linger
                    if self._ready() or now >= due:
                        return self._take(report)
                    self._filled.wait(due - now)
                elif self._closing:
                    return []
                else:
                    self._filled.wait()

    def _ready(self) -> bool:
        return (
            self._closing
            or len(self._lines) >= self._batch_records
            or self._waiting_bytes >= self._batch_bytes
            or self._first() < self._flush_to
        )

    def _take(self, report: Callable[[int], bytes]) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._lines and len(batch) < self._batch_records:
            cost = len(self._lines[0]) + LINE_OVERHEAD
            if batch and size + cost > self._batch_bytes:
                break
            batch.append(self._lines.popleft())
            size += cost
        self._waiting_bytes -= size
        if self.unreported:
            batch.append(report(self.unreported))
            self.unreported = 0
            self.entered += 1
        self._under_way, self._under_way_bytes = batch, size
        self._oldest = time.monotonic()
        return batch

    def done(self, *, dropped: int = 0) -> None:
        """The batch that was taken is settled; `dropped` of its lines were given up."""
        with self.lock:
            self._under_way, self._under_way_bytes = [], 0
            self._drop(dropped)
            self._patient = True
            self._emptied.notify_all()

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for what is here."""
        return self._closing or self._flushing > 0

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a flush is asked for or the buffer is closed."""
        with self.lock:
            flushes, closing = self._flushes, self._closing
            self._filled.wait_for(lambda: self._flushes > flushes or self._closing != closing, seconds)
