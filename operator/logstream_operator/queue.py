"""What is to be reconciled: one entry a resource, however often it is asked for.

The core (`Queue`) is pure: it is told the time and never waits. `run` is the rim: workers that take keys from it.

A key is never with two workers at a time. What is asked for while a worker has it comes again afterwards, at once
when it was a change and later when it failed (its own exponential backoff, with jitter). A change does not wait for
a backoff to end: what failed may be mended by it; but it does not clear the backoff either.
"""

import asyncio
import contextlib
import heapq
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from logstream.clock import Clock

K = TypeVar("K", bound=Hashable)

Work = Callable[[K], Awaitable["float | None"]]
"""Reconcile a key. Returns seconds until it is to be looked at again, None for the resync; raises when it failed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """All in seconds."""

    first_backoff: float = 0.5
    longest_backoff: float = 300.0
    resync: float = 600.0
    """Every key is looked at so often though nothing happened; each time 10 % more or less."""
    settle: float = 0.02
    """How long a change waits for the next one: an apply of several objects is one reconcile."""
    hasty_seconds: float = 1.0
    """A change of a key that failed a moment ago waits so long: a fight must not become a storm."""


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    """None: not waiting (it is with a worker, or forgotten)."""
    waiting_since: float | None = None
    """Since when a change waits; None: it is only looked at again."""
    running: bool = False
    again: float | None = None
    """Asked for while it was running: when it is to come."""
    failures: int = 0


@dataclass(slots=True)
class Queue(Generic[K]):
    """Times are `Clock.monotonic`, in seconds. jitter: a number in [0, 1) each time; for tests."""

    clock: Clock
    pace: Pace = field(default_factory=Pace)
    jitter: Callable[[], float] = random.random
    _entries: dict[K, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    _count: int = 0

    def add(self, key: K, delay: float | None = None) -> None:
        """Ask for `key`: because of a change, or in `delay` seconds. The earlier of two wins."""
        entry = self._entries.setdefault(key, _Entry())
        now = self.clock.monotonic()
        if delay is None:
            delay = self.pace.hasty_seconds if entry.failures else self.pace.settle
            if entry.waiting_since is None:
                entry.waiting_since = now
        due = now + delay
        if entry.running:
            entry.again = due if entry.again is None else min(entry.again, due)
        elif entry.due is None or due < entry.due:
            self._schedule(key, entry, due)

    def take(self) -> tuple[K, float] | None:
        """A key that is due, and how long its change waited (seconds); None when there is none. Then it is running."""
        while self._heap and self._heap[0][0] <= self.clock.monotonic():
            due, _, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            # Moved, taken or forgotten meanwhile.
            if entry is None or entry.running or entry.due != due:
                continue
            waited = 0.0 if entry.waiting_since is None else self.clock.monotonic() - entry.waiting_since
            entry.due, entry.waiting_since, entry.running = None, None, True
            return key, waited
        return None

    def done(self, key: K, next_look: float | None = None) -> None:
        """It is as it should be. next_look: seconds; None: the resync."""
        entry = self._entries[key]
        entry.failures = 0
        delay = self.pace.resync * (0.9 + 0.2 * self.jitter()) if next_look is None else next_look
        self._ended(key, entry, delay)

    def failed(self, key: K) -> float:
        """Try again later. Returns seconds until then."""
        entry = self._entries[key]
        entry.failures += 1
        # Bounded before the power: a resource may fail for months.
        pause: float = min(self.pace.longest_backoff, self.pace.first_backoff * 2 ** min(entry.failures - 1, 20))
        pause *= 0.75 + 0.25 * self.jitter()
        if entry.again is not None:
            entry.again = max(entry.again, self.clock.monotonic() + min(pause, self.pace.hasty_seconds))
        self._ended(key, entry, pause)
        return pause

    def forget(self, key: K) -> None:
        """The resource is gone; unless it was asked for again meanwhile, nothing is kept of it."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.running and entry.again is not None:
            entry.failures = 0
            self._ended(key, entry, self.pace.resync)
        else:
            del self._entries[key]

    def next_due(self) -> float | None:
        """Seconds until `take` may have a key; None: nothing waits."""
        if not self._heap:
            return None
        return max(0.0, self._heap[0][0] - self.clock.monotonic())

    @property
    def depth(self) -> int:
        """Keys that are due now."""
        now = self.clock.monotonic()
        return sum(1 for entry in self._entries.values() if entry.due is not None and entry.due <= now)

    @property
    def oldest_wait(self) -> float:
        """Seconds for which the change that waits longest has waited."""
        now = self.clock.monotonic()
        return max((now - e.waiting_since for e in self._entries.values() if e.waiting_since is not None), default=0.0)

    @property
    def failing(self) -> int:
        """Keys whose latest try failed."""
        return sum(1 for entry in self._entries.values() if entry.failures)

    def __len__(self) -> int:
        return len(self._entries)

    def _ended(self, key: K, entry: _Entry, delay: float) -> None:
        due = self.clock.monotonic() + delay
        if entry.again is not None:
            due = min(due, entry.again)
        entry.running, entry.again = False, None
        self._schedule(key, entry, due)

    def _schedule(self, key: K, entry: _Entry, due: float) -> None:
        entry.due = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        # Entries that were moved leave their old places behind.
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._entries):
            self._heap = [(e.due, n, k) for n, (k, e) in enumerate(self._entries.items()) if e.due is not None]
            heapq.heapify(self._heap)
            self._count = len(self._heap)


class Workers(Generic[K]):
    """`count` tasks that take keys from `queue` and do `work`. All calls from one event loop."""

    def __init__(
        self, queue: Queue[K], work: Work[K], *, count: int, waited: Callable[[float], None] = lambda _: None
    ) -> None:
        """waited: told of each key that is taken how long its change had waited, seconds."""
        self.queue = queue
        self._waited = waited
        self._work = work
        self._count = count
        self._added = asyncio.Event()

    def add(self, key: K, delay: float | None = None) -> None:
        """As `Queue.add`."""
        self.queue.add(key, delay)
        self._added.set()

    async def run(self) -> None:
        """Until it is cancelled; then waits for nothing: what was begun is done again by whoever starts next."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            taken = self.queue.take()
            if taken is None:
                await self._wait()
                continue
            key, waited = taken
            self._waited(waited)
            # Its own failures are the work's to tell; here they only mean "later".
            try:
                next_look = await self._work(key)
            except Forgotten:
                self.queue.forget(key)
            except Exception:
                self.queue.failed(key)
            else:
                self.queue.done(key, next_look)

    async def _wait(self) -> None:
        self._added.clear()
        # A key may have come between the look and the clearing.
        due = self.queue.next_due()
        if due == 0.0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due):
                await self._added.wait()


class Forgotten(Exception):
    """Raised by work: there is no such resource any more."""
