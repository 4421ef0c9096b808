"""Rates from counts that change now and then: pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

COUNTS = ("accepted", "stored", "deadLettered")
WINDOW = 4
"""Changes that a rate is made of."""
STILL = 3.0
"""A count that did not change for this many of its own periods stands still."""
SHORTEST_SECONDS = 30.0

Counts = tuple[int, ...]


@dataclass(slots=True)
class Rates:
    """Of one stream. The operator writes counts in periods of its own: what counts is when they changed."""

    _changes: deque[tuple[float, Counts]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _first: bool = True

    def observe(self, at: float, status: Mapping[str, object]) -> None:
        """at: seconds of a steady clock. What was counted anew from nothing begins anew here, too."""
        found = tuple(value if isinstance(value := status.get(name), int) else 0 for name in COUNTS)
        if not self._changes:
            self._changes.append((at, found))
            return
        before = self._changes[-1][1]
        if any(new < old for new, old in zip(found, before, strict=True)):
            self._changes.clear()
            self._first = True
        elif found == before:
            return
        elif self._first:
            # When the first one was written nobody saw: what came since is not a rate.
            self._changes.clear()
            self._first = False
        self._changes.append((at, found))

    def at(self, now: float) -> tuple[float, ...] | None:
        """A second, as COUNTS has them; None while nothing is known."""
        if len(self._changes) < 2:
            if self._changes and now - self._changes[-1][0] > SHORTEST_SECONDS:
                return tuple(0.0 for _ in COUNTS)
            return None
        (start, first), (end, last) = self._changes[0], self._changes[-1]
        period = (end - start) / (len(self._changes) - 1)
        if now - end > max(STILL * period, SHORTEST_SECONDS):
            return tuple(0.0 for _ in COUNTS)
        return tuple((new - old) / (end - start) for new, old in zip(last, first, strict=True))
