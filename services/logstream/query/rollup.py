"""Counts of lines read from the table's roll-up, which keeps them per minute, service and level.

The roll-up is a projection of the table (`storage.schema.ADD_INDEXES`), so it is never behind the lines. The engine
takes it for a statement that groups by exactly its expressions; parts without it are counted from their lines.
"""

from logstream.query.condition import Condition
from logstream.query.filter import LogFilter
from logstream.query.language import nodes as n
from logstream.query.language.sql import Parameters, filter_sql
from logstream.storage.schema import MINUTE, MINUTE_NS

_COLUMNS = ("service", "level")


def source(table: str, logs: LogFilter) -> Condition | None:
    """All of `halves` as one table of counts: a SELECT in parentheses, with its parameters."""
    counts = halves(table, logs)
    if counts is None:
        return None
    return Condition(f"({' UNION ALL '.join(one.sql for one in counts)})", counts[0].parameters)


def halves(table: str, logs: LogFilter) -> tuple[Condition, ...] | None:
    """The lines of `logs` as one or two tables of counts: those of whole minutes, and those of minutes that are cut.

    Each is a SELECT in parentheses, with the parameters of both (named "m" + number). Columns: minute (Int64, ns since
    the epoch, where it begins), service, level, lines. Minutes that the range of `logs` cuts are counted line by line.
    None when the filter asks for more than services and levels, or when there is no whole minute.
    """
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
