"""Which partition a record without an Idempotency-Key goes to. Pure.

Partitions take turns of a certain time, not of a record each. A processor stores what came in one partition by one
INSERT, which has a price whatever it holds: six partitions at once are six times as many, each a sixth as large. Over
some turns all partitions get the same. Each process begins elsewhere, so several use several at a time.
"""

import secrets


class Turns:
    """seconds: length of a turn. first: the partition to begin with, counted around; None: any."""

    def __init__(self, seconds: float, *, first: int | None = None) -> None:
        self._seconds = seconds
        self._number = secrets.randbelow(1 << 16) if first is None else first
        self._ends: float | None = None

    def choose(self, now: float, partitions: int) -> int:
        """The partition whose turn it is at `now` (s, of a clock that never goes back)."""
        if self._ends is None or now >= self._ends:
            self._number += self._ends is not None
            self._ends = now + self._seconds
        return self._number % partitions
