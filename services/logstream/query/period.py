"""The range of time that an analysis is about: closed on both sides, so that its answer can say what it counted."""

from dataclasses import dataclass, replace

from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.query.time import MIN_NS, format_time

DEFAULT_SPAN_NS = 3_600 * 10**9


@dataclass(frozen=True, slots=True)
class Period:
    """start, end: nanoseconds since the epoch, both inclusive."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Nanoseconds."""
        return self.end - self.start + 1

    def before(self) -> "Period":
        """The period of the same length that ends where this one begins, cut where the store's time begins.

        Its end lies before its start when nothing is left.
        """
        return Period(max(self.start - self.length, MIN_NS), self.start - 1)

    def json(self) -> dict[str, str]:
        """As answers state it."""
        return {"start_time": format_time(self.start), "end_time": format_time(self.end)}


def period_of(logs: LogFilter, limits: QueryLimits, now_ns: int) -> Period:
    """The range of `logs`: it ends now and begins an hour before its end, unless it says otherwise.

    Raises InvalidValue for a range that is reversed or longer than `limits` allow.
    """
    start, end = start_of(logs, now_ns), now_ns if logs.end is None else logs.end
    limits.check(replace(logs, start=start, end=end), now_ns)
    return Period(start, end)


def begun(logs: LogFilter, limits: QueryLimits, now_ns: int) -> LogFilter:
    """`logs` with a beginning; without an end it stays so, and may begin in the future, where nothing is yet.

    Raises as `period_of`.
    """
    logs = replace(logs, start=start_of(logs, now_ns))
    limits.check(logs, now_ns)
    return logs


def start_of(logs: LogFilter, now_ns: int) -> int:
    """Where `logs` begins: an hour before its end, which is now, unless it says otherwise."""
    if logs.start is not None:
        return logs.start
    return max((now_ns if logs.end is None else logs.end) - DEFAULT_SPAN_NS, MIN_NS)


def within(logs: LogFilter, period: Period) -> LogFilter:
    """`logs` of exactly this period."""
    return replace(logs, start=period.start, end=period.end)
