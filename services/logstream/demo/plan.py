"""What is asked for, and when the incident is."""

from dataclasses import dataclass

from logstream.clock import NS_PER_SECOND
from logstream.demo.season import DAY, HOUR, volume
from logstream.demo.shop import EUROPE

MINUTE = 60 * NS_PER_SECOND
LINES_PER_DAY = 100_000
LIVE_RATE = 20.0
_SHORTEST = HOUR
"""A back-fill shorter than this has no incident."""


@dataclass(frozen=True, slots=True)
class Plan:
    """seed: of all chance. end_ns: where the back-fill ends, in ns since the epoch. days: how far back it goes.

    lines_per_day: of the back-fill, on average. live_rate: lines a second behind `end_ns`.
    The same plan is the same lines, to the byte.
    """

    seed: int
    end_ns: int
    days: float = 7.0
    lines_per_day: float = LINES_PER_DAY
    live_rate: float = LIVE_RATE

    @property
    def start_ns(self) -> int:
        """The first minute of the back-fill."""
        return (self.end_ns - int(self.days * DAY)) // MINUTE * MINUTE


@dataclass(frozen=True, slots=True)
class Incident:
    """Between `start` and `end` (ns) `payment` in `region` runs a version whose connection pool is too small.

    start: when the version was deployed. end: when it was rolled back.
    """

    start: int
    end: int
    region: str = EUROPE.name
    version: str = "v2.14.0"
    previous: str = "v2.13.4"

    @property
    def innocent(self) -> int:
        """When another service was deployed, which has nothing to do with it, in ns."""
        return self.start - 14 * MINUTE

    def severity(self, ns: int) -> float:
        """From 0, nothing is wrong, to 1: it gets worse as the connections are used up, over a sixth of the time."""
        if not self.start <= ns < self.end:
            return 0.0
        return min(1.0, 6 * (ns - self.start) / (self.end - self.start))


def incident(plan: Plan) -> Incident | None:
    """With three days or more: for 96 minutes in Europe's lunch peak, 18 to 42 hours before the end, so that people
    saw it whatever the time is now. With less, when Europe is busiest; None for less than an hour."""
    length = plan.end_ns - plan.start_ns
    if length < _SHORTEST:
        return None
    if plan.days >= 3:
        day = (plan.end_ns - 29 * HOUR) // DAY
        start = day * DAY + 11 * HOUR + 5 * MINUTE
        return Incident(start, start + 96 * MINUTE)
    duration = min(96 * MINUTE, length // 8)
    first, last = plan.start_ns + length // 4, plan.end_ns - length // 5
    starts = range(first // MINUTE * MINUTE, last, max(MINUTE, length // 60 // MINUTE * MINUTE))
    start = max(starts, key=lambda ns: volume(ns + duration // 2, EUROPE))
    return Incident(start, start + duration // MINUTE * MINUTE)
