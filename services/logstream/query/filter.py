"""Which lines are asked for: one immutable filter with two printers, SQL for the store and row numbers for the tail.

A property test holds the two to the same answer on the real engine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from logstream.query.condition import Condition
from logstream.query.language import nodes as n
from logstream.query.language.parser import parse_filter
from logstream.query.language.select import Selector, selector
from logstream.query.language.sql import Parameters, filter_sql
from logstream.query.time import MAX_NS, MIN_NS
from logstream.record import Batch, Record

__all__ = ["Condition", "LogFilter", "matches", "narrowed", "select", "to_sql"]


@dataclass(frozen=True)
class LogFilter:
    """What a line must be. Hashable, so that equal filters are evaluated once.

    where: a filter of the query language. start, end: nanoseconds since the epoch, both inclusive.
    """

    where: n.Filter = n.EVERYTHING
    start: int | None = None
    end: int | None = None

    @classmethod
    def of(
        cls,
        *,
        services: Iterable[str] = (),
        levels: Iterable[int] = (),
        search: str = "",
        query: str = "",
        start: int | None = None,
        end: int | None = None,
    ) -> "LogFilter":
        """All of these together; an empty one asks nothing.

        services: exact names, any of them. levels: `Level` numbers, any of them. search: substring of the message,
        in any case. query: a filter in the query language; bounds on the time that it states become `start` and
        `end`. Raises QuerySyntaxError.
        """
        terms: list[n.Filter] = [
            n.any_of([n.Equals(n.Field("service"), name) for name in services]),
            n.any_of([n.LevelIs("=", level) for level in levels]),
            n.Phrase(search) if search else n.EVERYTHING,
            parse_filter(query),
        ]
        return narrowed(cls(n.all_of(terms), start, end))

    def also(self, where: n.Filter) -> "LogFilter":
        """Narrowed to what `where` asks, too."""
        return narrowed(replace(self, where=n.all_of([self.where, where])))

    @cached_property
    def _chosen(self) -> Selector:
        return selector(_whole(self))


def narrowed(logs: LogFilter) -> LogFilter:
    """`logs` with what its conjuncts say about the time as `start` and `end`, where windows of time can use it.

    Bounds that contradict one another stay where they are: nothing is found then.
    """
    start, end = logs.start, logs.end
    rest: list[n.Filter] = []
    for term in logs.where.operands if isinstance(logs.where, n.And) else (logs.where,):
        if not isinstance(term, n.Time):
            rest.append(term)
            continue
        if term.operator in {"=", ">", ">="}:
            start = max(term.ns + (term.operator == ">"), MIN_NS if start is None else start)
        if term.operator in {"=", "<", "<="}:
            end = min(term.ns - (term.operator == "<"), MAX_NS if end is None else end)
    low, high = MIN_NS if start is None else start, MAX_NS if end is None else end
    if not MIN_NS <= low <= high <= MAX_NS:
        return logs
    return replace(logs, where=n.all_of(rest), start=start, end=end)


def to_sql(logs: LogFilter) -> Condition:
    """`logs` over the columns of a `logs` table; "1" when it asks nothing. Parameter names begin with "f_"."""
    parameters = Parameters("f_")
    terms: list[str] = []
    bounds: dict[str, object] = {}
    for value, name, order in ((logs.start, "f_start", ">="), (logs.end, "f_end", "<=")):
        if value is not None:
            terms.append(f"timestamp {order} fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')")
            bounds[name] = value
    if logs.where != n.EVERYTHING:
        terms.append(filter_sql(logs.where, parameters))
    return Condition(" AND ".join(terms) or "1", bounds | parameters.values)


def matches(logs: LogFilter, record: Record) -> bool:
    """Whether `record` is asked for."""
    return bool(select(logs, Batch.of([record])))


def select(logs: LogFilter, batch: Batch, rows: Sequence[int] | None = None) -> Sequence[int]:
    """Those of `rows` (of all) of `batch` that are asked for; row numbers, ascending."""
    return logs._chosen(batch, range(len(batch)) if rows is None else rows)


def _whole(logs: LogFilter) -> n.Filter:
    """`logs` as a filter that holds its bounds."""
    terms: list[n.Filter] = [logs.where]
    if logs.start is not None:
        terms.append(n.Time(">=", logs.start))
    if logs.end is not None:
        terms.append(n.Time("<=", logs.end))
    return n.all_of(terms)
