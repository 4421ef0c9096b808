"""What one read may cost: bounds checked before it runs, and settings that the engine holds it to while it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from logstream.clock import NS_PER_SECOND
from logstream.errors import InvalidValue
from logstream.query.filter import LogFilter

_MAX_MEMORY = 256 * 1024 * 1024
_MAX_GROUPS = 2_000_000


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of one read. None: no limit, or the store's own for `seconds` and `result_bytes`.

    span_ns: longest time range, in nanoseconds. seconds: execution time of one statement. rows_read, bytes_read: what
    one statement may read in the engine (bytes uncompressed). result_bytes: size of its answer.
    """

    span_ns: int | None = None
    seconds: float | None = None
    rows_read: int | None = None
    bytes_read: int | None = None
    result_bytes: int | None = None
    settings: Mapping[str, object] = field(init=False, compare=False)
    """For `Store.query(settings=…)`. The same object for every read: the embedded engine pays for each setting that
    changes from one statement to the next."""

    def __post_init__(self) -> None:
        given = {
            "max_execution_time": self.seconds,
            "max_rows_to_read": self.rows_read,
            "max_bytes_to_read": self.bytes_read,
            "max_result_bytes": self.result_bytes,
        }
        settings: dict[str, object] = {"max_rows_to_group_by": _MAX_GROUPS, "max_memory_usage": _MAX_MEMORY}
        settings |= {name: value for name, value in given.items() if value is not None}
        object.__setattr__(self, "settings", MappingProxyType(settings))

    def check(self, logs: LogFilter, now_ns: int) -> None:
        """Raises InvalidValue for a range that is reversed or longer than `span_ns`.

        An end that is not given is `now_ns`, a beginning that is not given reaches back to the first line.
        """
        if logs.start is not None and logs.end is not None and logs.start > logs.end:
            raise InvalidValue("start_time must not lie after end_time", field="start_time")
        if self.span_ns is None:
            return
        days = self.span_ns / (86_400 * NS_PER_SECOND)
        if logs.start is None:
            raise InvalidValue(f"a read needs a start_time: it may span {days:g} days", field="start_time", limit=days)
        if (now_ns if logs.end is None else logs.end) - logs.start > self.span_ns:
            raise InvalidValue(
                f"from start_time to end_time may be {days:g} days: narrow the range", field="start_time", limit=days
            )
