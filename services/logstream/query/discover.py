"""Which fields lines have: names, kinds, how many values, examples; from the newest lines of a period."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from logstream.errors import InvalidValue
from logstream.query.filter import LogFilter
from logstream.query.language import nodes, quantity
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.period import Period, within
from logstream.query.time import format_time, parse_time
from logstream.storage.schema import BUCKET, BUCKET_NS, NEWEST_FIRST
from logstream.storage.store import Store
from logstream.stream import Stream

SAMPLED_LINES = 100_000
MAX_NAMES = 1_000
MAX_EXAMPLES = 3
_VALUES = 50
"""Distinct values that decide a field's kind."""
_VALUE_CHARACTERS = 256
_MAX_GROUPS = 10_000
"""Names that are counted; a sample with more of them has a program that puts values into names."""

Kind = Literal["text", "number", "duration", "size", "boolean", "time"]
_BOOLEAN = re.compile(r"(?i:true|false)", re.ASCII)
_CALENDAR = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COLUMNS = ("service", "level", "message", "trace_id", "span_id")


@dataclass(frozen=True, slots=True)
class Sample:
    """A subquery and the values that are bound in it."""

    sql: str
    parameters: dict[str, object]


@dataclass(frozen=True, slots=True)
class FoundField:
    """count: lines of the sample that have it. distinct: of them, exact up to 65 536."""

    name: str
    kind: Kind
    count: int
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """lines: how many were looked at. sampled: there are more. truncated: there are more fields than these."""

    lines: int
    sampled: bool
    truncated: bool
    fields: Sequence[FoundField]


def kind_of(values: Sequence[str]) -> Kind:
    """What all of `values` can be read as, empty ones aside, by the rules of the query language; else text."""
    present = [value for value in values if value]
    tests: tuple[tuple[Kind, Callable[[str], object]], ...] = (
        ("number", lambda value: quantity.number(value) is not None),
        ("duration", lambda value: _finite(quantity.duration(value))),
        ("size", lambda value: _finite(quantity.size(value))),
        ("boolean", _BOOLEAN.fullmatch),
        ("time", _is_time),
    )
    if not present:
        return "text"
    return next((kind for kind, test in tests if all(map(test, present))), "text")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_time(value: str) -> bool:
    if not _CALENDAR.match(value):
        return False
    try:
        parse_time(value, "")
    except InvalidValue:
        return False
    return True


def name_of(key: str) -> str:
    """What queries call the metadata key `key`."""
    return key if nodes.field_named(key) == nodes.Field("metadata", key) else f"metadata.{key}"


def sampled_lines(stream: Stream, logs: LogFilter, columns: str, lines: int) -> Sample:
    """`columns` of the newest `lines` lines that `logs` asks for, in no order.

    Two steps, so that only timestamps are sorted: lines themselves may be large.
    """
    condition = where(logs)
    table = f"{stream.database}.logs"
    newest = f"SELECT timestamp FROM {table} WHERE {condition.sql} ORDER BY {NEWEST_FIRST} LIMIT {int(lines)}"  # noqa: S608
    return Sample(
        f"WITH (SELECT min(toUnixTimestamp64Nano(timestamp)) FROM ({newest})) AS edge "  # noqa: S608
        f"SELECT {columns} FROM {table} WHERE {condition.sql} AND {BUCKET} >= intDiv(edge, {BUCKET_NS}) "
        f"AND toUnixTimestamp64Nano(timestamp) >= edge LIMIT {int(lines)}",
        condition.parameters,
    )


class FieldReader:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    async def read(self, stream: Stream, logs: LogFilter, period: Period) -> Fields:
        """The fields of the newest SAMPLED_LINES lines in `period`: the line's own, then its metadata by frequency."""
        logs = within(logs, period)
        lines, own = await self._own(stream, logs)
        if not lines:
            return Fields(0, sampled=False, truncated=False, fields=())
        sample = sampled_lines(stream, logs, "metadata", SAMPLED_LINES)
        answer = await self._store.query(
            "SELECT toString(key) AS name, count() AS lines, uniq(value) AS distinct, "  # noqa: S608
            f"groupUniqArray({_VALUES})(substringUTF8(value, 1, {_VALUE_CHARACTERS})) AS values FROM ({sample.sql}) "
            "ARRAY JOIN mapKeys(metadata) AS key, mapValues(metadata) AS value GROUP BY name "
            f"ORDER BY lines DESC, name LIMIT {MAX_NAMES + 1} "
            f"SETTINGS max_rows_to_group_by = {_MAX_GROUPS}, group_by_overflow_mode = 'any'",
            sample.parameters,
            settings=self._limits.settings,
        )
        found = [
            FoundField(name_of(name), kind_of(values), count, distinct, _examples(values))
            for name, count, distinct, values in answer.rows[:MAX_NAMES]
        ]
        return Fields(
            lines,
            sampled=lines == SAMPLED_LINES and await self._has_more(stream, logs),
            truncated=len(answer.rows) > MAX_NAMES,
            fields=[*own, *found],
        )

    async def _has_more(self, stream: Stream, logs: LogFilter) -> bool:
        condition = where(logs)
        answer = await self._store.query(
            f"SELECT count() FROM (SELECT 1 FROM {stream.database}.logs WHERE {condition.sql} "  # noqa: S608
            f"LIMIT {SAMPLED_LINES + 1})",
            condition.parameters,
            settings=self._limits.settings,
        )
        return bool(answer.rows[0][0] > SAMPLED_LINES)

    async def _own(self, stream: Stream, logs: LogFilter) -> tuple[int, list[FoundField]]:
        """How many lines are looked at, and those of a line's own fields that they have."""
        columns = ["count()", "uniq(timestamp)", "toString(max(ns))", "toString(min(ns))"]
        for name in _COLUMNS:
            text = f"substringUTF8(toString({name}), 1, {_VALUE_CHARACTERS})"
            present = "1" if name == "level" else f"{name} != ''"
            columns += [f"countIf({present})", f"uniqIf({name}, {present})", f"groupUniqArrayIf(10)({text}, {present})"]
        sample = sampled_lines(
            stream, logs, f"timestamp, toUnixTimestamp64Nano(timestamp) AS ns, {', '.join(_COLUMNS)}", SAMPLED_LINES
        )
        answer = await self._store.query(
            f"SELECT {', '.join(columns)} FROM ({sample.sql})",  # noqa: S608
            sample.parameters,
            settings=self._limits.settings,
        )
        row: tuple[Any, ...] = answer.rows[0]
        lines, times, newest, oldest, *cells = row
        if not lines:
            return 0, []
        moments = dict.fromkeys((format_time(int(newest)), format_time(int(oldest))))
        found = [FoundField("timestamp", "time", lines, times, tuple(moments))]
        for name, count, distinct, values in zip(_COLUMNS, cells[::3], cells[1::3], cells[2::3], strict=True):
            if count:
                kind = kind_of(values) if name in {"trace_id", "span_id"} else "text"
                found.append(FoundField(name, kind, count, distinct, _examples(values)))
        return lines, found


def _examples(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, values))[:MAX_EXAMPLES])
