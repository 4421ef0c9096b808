"""Counts of lines read from the table's roll-up, which keeps them per minute, service and level.

The roll-up is a projection of the table (`storage.schema.ADD_MINUTE_TIMES`), so it is never behind the lines. The
engine takes it for a statement that groups by its expressions; parts without it are counted from their lines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logstream.query.condition import Condition
from logstream.query.filter import LogFilter
from logstream.query.language import nodes as n
from logstream.query.language.sql import Parameters, filter_sql
from logstream.storage.schema import MINUTE, MINUTE_NS
from logstream.storage.store import Store

_COLUMNS = ("service", "level")
_NO_EDGE = -1
"""Beside the start of a minute, ns since the epoch, which is never odd."""


async def counted(
    store: Store,
    table: str,
    logs: LogFilter,
    columns: Mapping[str, str],
    *,
    bound: Mapping[str, object],
    settings: Mapping[str, object],
) -> Sequence[tuple[Any, ...]] | None:
    """The lines of `logs` counted by `columns`: rows of their values and a count. The same values may come twice.

    columns: SQL by name, of minute (Int64, ns since the epoch, where it begins), service and level; `bound` are its
    values. None when the filter asks for more than services and levels, or when there is no whole minute: then only the
    lines themselves can tell. Raises what `store.query` raises.
    """
    minutes = _minutes(logs)
    if minutes is None:
        return None
    selected = ", ".join(sql if sql == name else f"{sql} AS {name}" for name, sql in columns.items())
    names = ", ".join(columns)
    statement = minutes.statement(table, selected, names)
    answer = await store.query(statement.sql, {**statement.parameters, **bound}, settings=settings)
    if not minutes.edges:
        return answer.rows
    cut = minutes.cut((*row[-4:-1],) for row in answer.rows)
    rows = [(*row[:-4], row[-1]) for row in answer.rows if row[-4] not in cut]
    if cut:
        statement = minutes.lines(table, selected, names, cut)
        answer = await store.query(statement.sql, {**statement.parameters, **bound}, settings=settings)
        rows += answer.rows
    return rows


@dataclass(frozen=True, slots=True)
class _Minutes:
    """The minutes that `logs` touches: from the one that begins at `first` (ns, None: from the beginning) to `last`.

    edges: those that the range of `logs` may cut. Whether it does is for the times of their lines to say: the first and
    the last line of a minute may both be in the range. Lines of another minute are not affected, so that two statements
    see them alike, or the later one sees those that came meanwhile.
    """

    logs: LogFilter
    first: int | None
    last: int | None
    edges: tuple[int, ...]

    def statement(self, table: str, selected: str, names: str) -> Condition:
        """Rows of `selected`, the edge (or _NO_EDGE), its first and its last time, and the lines; without the three in
        the middle where there is no edge.
        """
        parameters = Parameters("m")
        conditions = [filter_sql(self.logs.where, parameters)]
        if self.first is not None:
            conditions.append(f"{MINUTE} >= {parameters.bind(self.first, 'Int64')}")
        if self.last is not None:
            conditions.append(f"{MINUTE} <= {parameters.bind(self.last, 'Int64')}")
        if self.edges:
            edges = ", ".join(parameters.bind(edge, "Int64") for edge in self.edges)
            selected += (
                f", if(minute IN ({edges}), minute, {_NO_EDGE}) AS edge, "
                "toUnixTimestamp64Nano(min(timestamp)), toUnixTimestamp64Nano(max(timestamp))"
            )
            names += ", edge"
        return Condition(
            f"WITH {MINUTE} AS minute SELECT {selected}, count() FROM {table} "  # noqa: S608
            f"WHERE {' AND '.join(conditions)} GROUP BY {names}",
            parameters.values,
        )

    def cut(self, times: Iterable[tuple[int, int, int]]) -> frozenset[int]:
        """Edges with lines out of the range; times: (edge, first, last) of groups of lines."""
        start, end = self.logs.start, self.logs.end
        return frozenset(
            edge
            for edge, first, last in times
            if edge != _NO_EDGE and ((start is not None and first < start) or (end is not None and last > end))
        )

    def lines(self, table: str, selected: str, names: str, edges: frozenset[int]) -> Condition:
        """Rows of `selected` and the lines in `edges`, counted one by one."""
        parameters = Parameters("m")
        spans: list[n.Filter] = []
        for edge in sorted(edges):
            start = edge if self.logs.start is None else max(edge, self.logs.start)
            end = edge + MINUTE_NS - 1 if self.logs.end is None else min(edge + MINUTE_NS - 1, self.logs.end)
            spans.append(n.all_of([n.Time(">=", start), n.Time("<=", end)]))
        condition = filter_sql(n.all_of([self.logs.where, n.any_of(spans)]), parameters)
        return Condition(
            f"WITH {MINUTE} AS minute SELECT {selected}, count() FROM {table} WHERE {condition} "  # noqa: S608
            f"GROUP BY {names}",
            parameters.values,
        )


def _minutes(logs: LogFilter) -> _Minutes | None:
    """None: see `counted`."""
    if any(field.column not in _COLUMNS for field in n.fields_of(logs.where)):
        return None
    first = None if logs.start is None else logs.start // MINUTE_NS * MINUTE_NS
    last = None if logs.end is None else logs.end // MINUTE_NS * MINUTE_NS
    edges: list[int] = []
    if first is not None and first != logs.start:
        edges.append(first)
    if last is not None and logs.end != last + MINUTE_NS - 1:
        edges.append(last)
    if first is not None and last is not None and len(edges) > (last - first) // MINUTE_NS:
        return None
    return _Minutes(logs, first, last, tuple(edges))


def source(table: str, logs: LogFilter) -> Condition | None:
    """The lines of `logs` as one table of counts: a SELECT in parentheses, with its parameters ("m" + number).

    Columns: minute (Int64, ns since the epoch, where it begins), service, level, lines; the same may come twice.
    Minutes that the range of `logs` cuts are counted line by line. None: see `counted`.
    """
    counts = _halves(table, logs)
    if counts is None:
        return None
    return Condition(f"({' UNION ALL '.join(one.sql for one in counts)})", counts[0].parameters)


def _halves(table: str, logs: LogFilter) -> tuple[Condition, ...] | None:
    """`source` in two: whole minutes, and those that are cut, with the parameters of both."""
    if any(field.column not in _COLUMNS for field in n.fields_of(logs.where)):
        return None
    first = None if logs.start is None else -(-logs.start // MINUTE_NS) * MINUTE_NS
    end = None if logs.end is None else (logs.end + 1) // MINUTE_NS * MINUTE_NS
    if first is not None and end is not None and first >= end:
        return None
    parameters = Parameters("m")
    whole = [filter_sql(logs.where, parameters)]
    if first is not None:
        whole.append(f"{MINUTE} >= {parameters.bind(first, 'Int64')}")
    if end is not None:
        whole.append(f"{MINUTE} < {parameters.bind(end, 'Int64')}")
    parts = [" AND ".join(whole)]
    cut: list[n.Filter] = []
    if logs.start is not None and first is not None and logs.start < first:
        cut.append(n.all_of([n.Time(">=", logs.start), n.Time("<", first)]))
    if logs.end is not None and end is not None and logs.end >= end:
        cut.append(n.all_of([n.Time(">=", end), n.Time("<=", logs.end)]))
    if cut:
        parts.append(filter_sql(n.all_of([logs.where, n.any_of(cut)]), parameters))
    return tuple(
        Condition(
            f"(SELECT {MINUTE} AS minute, service, level, count() AS lines FROM {table} WHERE {part} "  # noqa: S608
            "GROUP BY minute, service, level)",
            parameters.values,
        )
        for part in parts
    )
