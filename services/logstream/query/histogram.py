"""Lines over time: counts in buckets of equal width, by the values of a field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from logstream.errors import InvalidValue
from logstream.query import rollup
from logstream.query.filter import LogFilter
from logstream.query.language import nodes, quantity
from logstream.query.language.fields import grouping_sql
from logstream.query.language.sql import Parameters
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.period import Period, within
from logstream.query.values import ValueCounter, value_sql
from logstream.record import LEVEL_LABELS
from logstream.storage.schema import MINUTE_NS, TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

MAX_BUCKETS = 2_000
MAX_SERIES = 20
_BUCKETS = 60
_MS, _SECOND, _MINUTE, _HOUR, _DAY = 10**6, 10**9, 60 * 10**9, 3_600 * 10**9, 86_400 * 10**9
_WIDTHS = (
    *(n * _MS for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 30, 90, 365, 730, 1_825, 3_650)),
)
"""Round widths, in nanoseconds. Sixty of the last are longer than the time that the store knows."""

_ALL, _MISSING, _OTHER, _FIRST = range(4)
"""What the series of a line is called in the statement; a value of `by` is _FIRST + its place."""


@dataclass(slots=True)
class Bucket:
    """start: nanoseconds since the epoch. values: counts by value, those of 0 left out. other: lines with a value that
    has no series. missing: lines without the field."""

    start: int
    count: int = 0
    values: dict[str, int] = field(default_factory=dict)
    other: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Histogram:
    """step: nanoseconds. series: the values of `by` that have counts of their own, the most frequent first.

    buckets: all of the period, in ascending order; the first may begin before it. approximate: a value that is not in
    `series` may be more frequent than those.
    """

    step: int
    series: tuple[str, ...]
    buckets: Sequence[Bucket]
    approximate: bool = False


def parse_step(text: str) -> int:
    """`text` ("30s", "1h30m") as nanoseconds. Raises InvalidValue naming step."""
    width = quantity.duration(text) if len(text) <= 32 else None
    if width is None:
        raise InvalidValue(f"step must be a duration as 30s, 5m or 1h: {text[:32]!r}", field="step")
    if not _MS <= width <= _WIDTHS[-1]:
        raise InvalidValue("step must be 1ms to 3650d", field="step", limit="1ms to 3650d")
    return int(width)


def choose_step(period: Period) -> int:
    """The least round width, in nanoseconds, that gives at most about sixty buckets."""
    return next(width for width in _WIDTHS if period.length <= width * _BUCKETS)


class HistogramReader:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    async def read(
        self, stream: Stream, logs: LogFilter, period: Period, *, by: nodes.Field | None, step: int | None
    ) -> Histogram:
        """Lines of `period` in buckets of `step` ns (None: chosen), which begin at multiples of it counted from 1970.

        Raises InvalidValue for a step that makes more than MAX_BUCKETS.
        """
        step = step or choose_step(period)
        first = period.start // step
        buckets = period.end // step - first + 1
        if buckets > MAX_BUCKETS:
            raise InvalidValue(
                f"step makes {buckets} buckets of this range, at most {MAX_BUCKETS} are possible: "
                "ask for a longer step or a shorter range",
                field="step",
                limit=MAX_BUCKETS,
            )
        logs = within(logs, period)
        names: Sequence[str] = ()
        approximate = False
        if by is not None and by.column == "level":
            names = LEVEL_LABELS
        elif by is not None:
            counted = await ValueCounter(self._store, self._limits).count(stream, logs, [by], limit=MAX_SERIES)
            names = [value for value, _ in counted.fields[0].values]
            approximate = counted.fields[0].approximate
        parameters = Parameters("v")
        table = f"{stream.database}.{TABLE}"
        kept = (by is None or by.column in ("service", "level")) and step % MINUTE_NS == 0
        series = _series(by, names, parameters)
        bound = {**parameters.values, "origin": first * step, "step": step}
        rows = None
        if kept:
            columns = {"bucket": _bucket("minute"), "series": series}
            rows = await rollup.counted(self._store, table, logs, columns, bound=bound, settings=self._limits.settings)
        if rows is None:
            rows = await self._lines(table, logs, series, bound)
        filled = [Bucket((first + i) * step) for i in range(buckets)]
        totals: dict[str, int] = {}
        for number, place, count in rows:
            _add(filled[number], place, count, names, totals)
        return Histogram(step, tuple(sorted(totals, key=lambda name: (-totals[name], name))), filled, approximate)

    async def _lines(
        self, table: str, logs: LogFilter, series: str, bound: Mapping[str, object]
    ) -> Sequence[tuple[Any, ...]]:
        """(number of the bucket, number of the series, lines), counted line by line."""
        condition = where(logs)
        answer = await self._store.query(
            f"SELECT {_bucket('toUnixTimestamp64Nano(timestamp)')} AS bucket, {series} AS series, count() "  # noqa: S608
            f"FROM {table} WHERE {condition.sql} GROUP BY bucket, series",
            {**condition.parameters, **bound},
            settings=self._limits.settings,
        )
        return answer.rows


def _add(bucket: Bucket, series: int, count: int, names: Sequence[str], totals: dict[str, int]) -> None:
    bucket.count += count
    if series == _ALL:
        return
    if series == _MISSING:
        bucket.missing += count
    elif series == _OTHER:
        bucket.other += count
    else:
        name = names[series - _FIRST]
        bucket.values[name] = bucket.values.get(name, 0) + count
        totals[name] = totals.get(name, 0) + count


def _series(by: nodes.Field | None, names: Sequence[str], parameters: Parameters) -> str:
    """The number of a line's series as a UInt8."""
    if by is None:
        return f"toUInt8({_ALL})"
    grouping = grouping_sql(by, parameters)
    if by.column == "level":
        return f"toUInt8(toInt8({grouping.sql}) + {_FIRST - 1})"
    if not names:
        return f"toUInt8({_MISSING})"
    places = list(range(_FIRST, _FIRST + len(names)))
    place = (
        f"transform({value_sql(grouping)}, {parameters.bind(list(names), 'Array(String)')}, "
        f"{parameters.bind(places, 'Array(UInt8)')}, toUInt8({_OTHER}))"
    )
    return f"if({grouping.present}, {place}, toUInt8({_MISSING}))"


def _bucket(since: str) -> str:
    """The number of the bucket of a time in ns since the epoch, which must not be before {origin}."""
    # The difference may exceed Int64, but not UInt64: it is never negative. Two small numbers make a small key.
    return f"toUInt16(intDiv(toUInt64({since} - {{origin:Int64}}), {{step:UInt64}}))"
