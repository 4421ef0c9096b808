"""Questions with pipes: a query as one statement, and its answer as a table."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from logstream.query import parts, rollup
from logstream.query.filter import LogFilter
from logstream.query.language import nodes as n
from logstream.query.language.parser import parse
from logstream.query.language.patterned import finish
from logstream.query.language.pipeline import Statement, compile_query, counted_by
from logstream.query.language.result import Column
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.parts import PartTimes
from logstream.query.period import period_of, within
from logstream.storage.schema import TABLE
from logstream.storage.store import Rows, Store
from logstream.stream import Stream


@dataclass(frozen=True, slots=True)
class Analysis:
    """logs: which lines. pipes: what is done with them."""

    logs: LogFilter
    pipes: tuple[n.Pipe, ...] = ()

    @classmethod
    def of(cls, text: str, logs: LogFilter) -> "Analysis":
        """The query `text`, its filter together with `logs`. Raises QuerySyntaxError."""
        query = parse(text)
        return cls(logs.also(query.filter), query.pipes)


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order of `columns`; of a "time" nanoseconds since the epoch.

    truncated: there is more than the answer may have.
    """

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    truncated: bool


def statement(
    stream: Stream,
    asked: Analysis,
    limits: QueryLimits,
    *,
    limit: int,
    now_ns: int,
    times: PartTimes | None = None,
    all_time: bool = False,
) -> Statement:
    """`asked` as SQL that gives at most `limit` rows, always within bounds of time: an hour, unless it says otherwise.

    times: lets counts leave out what parts are known to hold. all_time: counts without these bounds, where all lines
    are known to lie within. Raises QuerySyntaxError for fields that are not there, InvalidValue for a range that
    `limits` refuse.
    """
    period = period_of(asked.logs, limits, now_ns)
    logs = within(asked.logs, period)
    table = f"{stream.database}.{TABLE}"
    counts = None
    by = counted_by(asked.pipes)
    if by is not None:
        counts = rollup.source(table, logs)
        if counts is None and all_time:
            counts = parts.unbounded(table, logs, by)
        elif counts is None and times is not None:
            counts = parts.source(table, logs, times.within(stream, period), by)
    query = n.Query(n.EVERYTHING, asked.pipes)
    return compile_query(query, table=table, where=where(logs), counts=counts, limit=limit)


class AnalysisReader:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise.

    executor: where patterns are learnt; the same as `PatternReader` has, for its reason.
    """

    def __init__(self, store: Store, limits: QueryLimits, executor: Executor, times: PartTimes | None = None) -> None:
        self._store = store
        self._limits = limits
        self._executor = executor
        self._times = times

    async def read(self, stream: Stream, asked: Analysis, *, limit: int, now_ns: int) -> Answer:
        """The answer to `asked`, at most `limit` rows of it. Raises as `statement` does besides."""
        # One row more tells whether there is more.
        found = await self._counted_in_all(stream, asked, limit + 1, now_ns)
        if found is None:
            made = statement(stream, asked, self._limits, limit=limit + 1, now_ns=now_ns, times=self._times)
            found = made, await self._store.query(made.sql, made.parameters, settings=self._limits.settings)
        made, rows = found[0], found[1].rows
        rest = 0
        if made.patterns is not None:
            loop = asyncio.get_running_loop()
            patterned = await loop.run_in_executor(self._executor, finish, rows, made.patterns)
            rows, rest = patterned.rows, patterned.rest
        shown = rows[:limit]
        if made.backwards:
            shown = shown[::-1]
        return Answer(made.columns, shown, truncated=len(rows) > limit or rest > 0)

    async def _counted_in_all(
        self, stream: Stream, asked: Analysis, limit: int, now_ns: int
    ) -> tuple[Statement, Rows] | None:
        """The answer, if it is a count of a table whose lines all lie within the range of time."""
        if self._times is None or counted_by(asked.pipes) is None:
            return None
        period = period_of(asked.logs, self._limits, now_ns)
        names = self._times.covering(stream, period)
        if names is None or asked.logs.where == n.EVERYTHING:
            return None
        made = statement(stream, asked, self._limits, limit=limit, now_ns=now_ns, all_time=True)
        found = await self._store.query(made.sql, made.parameters, settings=self._limits.settings)
        check = parts.beyond(f"{stream.database}.{TABLE}", names)
        others = await self._store.query(check.sql, check.parameters, settings=self._limits.settings)
        return None if others.rows else (made, found)
