"""The most frequent values of fields, all fields in one pass over the lines.

Space saving (Metwally et al. 2005, as ClickHouse's `approx_top_k`) with room for `EXACT_VALUES` values a field: exact
as long as a field has no more of them, and of bounded size however many there are. Of a field with more, the likely
most frequent are counted exactly by a second pass, so that only their choice is an estimate.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from logstream.errors import InvalidValue
from logstream.query import rollup
from logstream.query.filter import LogFilter
from logstream.query.language import nodes
from logstream.query.language.fields import Grouping, grouping_sql, parse_field
from logstream.query.language.sql import Parameters
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.storage.schema import TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

EXACT_VALUES = 10_000
"""A field with more distinct values is answered approximately."""
VALUE_CHARACTERS = 256
"""Longer values count as one when they begin with the same characters: memory is bounded by values times length."""
_CANDIDATES = 5
"""Candidates of the second pass for each value wanted."""
_FIELDS_AT_ONCE = 10
"""In one pass: with values of the greatest length, a field takes some 10 MiB in each thread."""


@dataclass(frozen=True, slots=True)
class FieldValues:
    """One field of the lines asked for.

    values: the most frequent and their counts, the most frequent first, equals by value. distinct: exact up to 65 536.
    missing: lines without the field. approximate: a value that is not in `values` may be more frequent than those.
    """

    values: tuple[tuple[str, int], ...]
    distinct: int
    missing: int
    approximate: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """total: lines. fields: as they were asked for."""

    total: int
    fields: tuple[FieldValues, ...]


def text_field(name: str, *, parameter: str) -> nodes.Field:
    """The field `name`, which has values that repeat. Raises InvalidValue naming `parameter`, for `timestamp`, too."""
    field = parse_field(name, parameter=parameter)
    if field.column == "timestamp":
        raise InvalidValue(f"{parameter}: the values of timestamp do not repeat", field=parameter)
    return field


def value_sql(grouping: Grouping) -> str:
    """The field as a short String."""
    text = f"toString({grouping.sql})"
    return text if grouping.kind == "level" else f"substringUTF8({text}, 1, {VALUE_CHARACTERS})"


class ValueCounter:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    async def count(self, stream: Stream, logs: LogFilter, fields: Sequence[nodes.Field], *, limit: int) -> Counted:
        """The `limit` most frequent values of each of `fields`."""
        if fields and all(field.column in ("service", "level") for field in fields):
            names = list(dict.fromkeys(field.column for field in fields))
            rows = await rollup.counted(
                self._store, f"{stream.database}.{TABLE}", logs, dict(zip(names, names, strict=True)), bound={},
                settings=self._limits.settings,
            )  # fmt: skip
            if rows is not None:
                return _from_counts(rows, names, fields, limit)
        wanted = limit * _CANDIDATES
        total = 0
        first: list[FieldValues] = []
        for start in range(0, len(fields), _FIELDS_AT_ONCE):
            group = [(field, None) for field in fields[start : start + _FIELDS_AT_ONCE]]
            total, found = await self._pass(stream, logs, group, wanted)
            first += found
        many = {i: found for i, found in enumerate(first) if found.distinct > EXACT_VALUES}
        if many:
            among = [(fields[i], [value for value, _ in found.values]) for i, found in many.items()]
            _, second = await self._pass(stream, logs, among, wanted)
            for i, exact in zip(many, second, strict=True):
                first[i] = replace(first[i], values=exact.values, approximate=True)
        return Counted(total, tuple(replace(found, values=found.values[:limit]) for found in first))

    async def _pass(
        self, stream: Stream, logs: LogFilter, fields: Sequence[tuple[nodes.Field, Sequence[str] | None]], limit: int
    ) -> tuple[int, list[FieldValues]]:
        """Lines, and of each field the `limit` most frequent values (of those given with it, when there are any)."""
        parameters = Parameters("v")
        columns = ["count()"]
        for field, among in fields:
            grouping = grouping_sql(field, parameters)
            text, present = value_sql(grouping), grouping.present
            asked = present if among is None else f"{present} AND {text} IN {parameters.bind(among, 'Array(String)')}"
            top = f"approx_top_kIf({EXACT_VALUES}, {EXACT_VALUES})({text}, {asked})"
            columns += [
                f"arrayMap(v -> (v.1, v.2), arraySlice(arraySort(v -> (-toInt64(v.2), v.1), {top}), 1, {int(limit)}))",
                f"uniqIf({text}, {present})",
                f"countIf({present})",
            ]
        condition = where(logs)
        answer = await self._store.query(
            f"SELECT {', '.join(columns)} FROM {stream.database}.logs WHERE {condition.sql}",  # noqa: S608
            {**condition.parameters, **parameters.values},
            settings=self._limits.settings,
        )
        total, *cells = answer.rows[0]
        found = []
        for values, distinct, lines in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
            found.append(FieldValues(tuple(values), distinct, total - lines, approximate=False))
        return total, found


def _from_counts(
    rows: Sequence[tuple[Any, ...]], names: Sequence[str], fields: Sequence[nodes.Field], limit: int
) -> Counted:
    """What `ValueCounter.count` gives, from values of the columns `names` and lines; exact."""
    counts: list[Counter[str]] = [Counter() for _ in fields]
    places = [names.index(field.column) for field in fields]
    for row in rows:
        for counter, place in zip(counts, places, strict=True):
            counter[str(row[place])[:VALUE_CHARACTERS]] += row[-1]
    found = []
    for counter in counts:
        missing = counter.pop("", 0)
        frequent = sorted(counter.items(), key=lambda one: (-one[1], one[0].encode()))
        found.append(FieldValues(tuple(frequent[:limit]), len(counter), missing, approximate=False))
    return Counted(counts[0].total() + found[0].missing, tuple(found))
