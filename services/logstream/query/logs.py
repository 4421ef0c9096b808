"""Reads of one stream's table: lines newest first, counts per minute, replay in the log's order.

The table is ordered by (five-minute bucket, service, timestamp). Sorting by bucket and then timestamp gives the
same order as by timestamp alone, and lets the engine read the table backwards and stop at the limit.
"""

from dataclasses import dataclass

from logstream.query import rollup
from logstream.query.condition import Condition
from logstream.query.filter import LogFilter, to_sql
from logstream.query.limits import QueryLimits
from logstream.query.sweep import Sweep
from logstream.record import Record
from logstream.storage.schema import BUCKET, BUCKET_NS, MINUTE, NEWEST_FIRST, TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

_LINE = "toUnixTimestamp64Nano(timestamp) AS ns, service, toInt8(level) AS number, message, metadata, trace_id, span_id"


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """`count` lines within the minute that begins at `start` (ns since the epoch)."""

    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored line and its place in the log."""

    offset: int
    row: int
    record: Record


class LogReader:
    """Questions to the store. Every method raises StoreUnavailable, and TooLarge for an answer over the size limit."""

    def __init__(self, store: Store, limits: QueryLimits | None = None) -> None:
        self._store = store
        self._limits = limits or QueryLimits()

    async def logs(self, stream: Stream, logs: LogFilter, *, limit: int, now_ns: int) -> list[Record]:
        """At most `limit` lines, newest first; lines of one instant in the reverse order of their arrival."""
        found: list[Record] = []
        sweep = Sweep(logs, limit=limit, now_ns=now_ns)
        while (window := sweep.window()) is not None:
            lines = await self._window(stream, window, sweep.left, hints=sweep.hints)
            sweep.took(len(lines))
            found += lines
        return found

    async def _window(self, stream: Stream, logs: LogFilter, limit: int, *, hints: str) -> list[Record]:
        condition = where(logs)
        rows = await self._store.query(
            f"SELECT {_LINE} FROM {stream.database}.logs WHERE {condition.sql} ORDER BY {NEWEST_FIRST}, "  # noqa: S608
            f"partition DESC, offset DESC, row DESC LIMIT {{limit:UInt32}} {hints}",
            {**condition.parameters, "limit": limit},
            settings=self._limits.settings,
        )
        return [Record(*row) for row in rows.rows]

    async def stats(self, stream: Stream, logs: LogFilter, *, limit: int) -> list[MinuteCount]:
        """Lines per minute in ascending order, minutes without lines left out; the newest `limit` minutes."""
        table = f"{stream.database}.{TABLE}"
        counts = rollup.source(table, logs)
        if counts is not None:
            sql = f"SELECT minute, sum(lines) FROM {counts.sql} GROUP BY minute"  # noqa: S608
        else:
            counts = where(logs)
            sql = f"SELECT {MINUTE} AS minute, count() FROM {table} WHERE {counts.sql} GROUP BY minute"  # noqa: S608
        rows = await self._store.query(
            f"{sql} ORDER BY minute DESC LIMIT {{limit:UInt32}}",
            {**counts.parameters, "limit": limit},
            settings=self._limits.settings,
        )
        return [MinuteCount(minute, count) for minute, count in reversed(rows.rows)]

    async def replay(
        self,
        stream: Stream,
        logs: LogFilter,
        *,
        incarnation: int,
        partition: int,
        start: tuple[int, int],
        end: int,
        limit: int,
    ) -> list[Stored]:
        """At most `limit` stored lines of one partition, in the log's order, from `start` on and before `end`.

        start: (offset, row) of the first line wanted. end: the first offset not wanted.
        """
        condition = to_sql(logs)
        rows = await self._store.query(
            f"SELECT offset, row, {_LINE} FROM {stream.database}.logs WHERE incarnation = {{incarnation:UInt32}} "  # noqa: S608
            "AND partition = {partition:UInt16} AND offset >= {start:UInt64} AND offset < {end:UInt64} "
            "AND (offset > {start:UInt64} OR row >= {start_row:UInt32}) "
            f"AND {condition.sql} ORDER BY offset, row LIMIT {{limit:UInt32}}",
            {
                **condition.parameters,
                "incarnation": incarnation,
                "partition": partition,
                "start": start[0],
                "start_row": start[1],
                "end": end,
                "limit": limit,
            },
            settings=self._limits.settings,
        )
        return [Stored(offset, row, Record(*line)) for offset, row, *line in rows.rows]

    async def stored_by_key(
        self, stream: Stream, *, incarnation: int, start: int | None = None, end: int | None = None
    ) -> dict[str, int]:
        """How many lines of each API key are present in the store now, of the log's present life.

        start, end: of those received in [start, end), ns; None: no bound.
        """
        terms = ["incarnation = {incarnation:UInt32}"]
        parameters: dict[str, object] = {"incarnation": incarnation}
        for value, name, comparison in ((start, "start", ">="), (end, "end", "<")):
            if value is not None:
                terms.append(f"received_at {comparison} fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')")
                parameters[name] = value
        rows = await self._store.query(
            f"SELECT toString(key_id), count() FROM {stream.database}.logs "  # noqa: S608
            f"WHERE {' AND '.join(terms)} GROUP BY key_id",
            parameters,
            settings=self._limits.settings,
        )
        return {str(key): int(count) for key, count in rows.rows}


def where(logs: LogFilter) -> Condition:
    """The filter, and its bounds on the bucket, too: the primary key skips by the bucket, the timestamp makes it exact.

    The bucket is monotonic, so the bounds hold everywhere. Within indexHint they would cost nothing a row (2 ms a
    million rows at most), but there the engine does not recognise the first term of the key, and reads every granule.
    """
    condition = to_sql(logs)
    terms = [condition.sql]
    for value, name, comparison in ((logs.start, "f_start", ">="), (logs.end, "f_end", "<=")):
        if value is not None:
            terms.append(f"{BUCKET} {comparison} intDiv({{{name}:Int64}}, {BUCKET_NS})")
    return Condition(" AND ".join(terms), condition.parameters)
