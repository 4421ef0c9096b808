"""Which parts of a table lie wholly within a range of time, so that none of their lines need be asked.

Telling whether five million timestamps lie in a range costs more than to count a word by its index. Parts never
change, so the times of a part need to be read once only. Nothing depends on knowing all parts or the latest ones:
lines of parts that are not known are held to the range one by one, see `source`.
"""

import asyncio
import contextvars
from dataclasses import dataclass, field

from logstream.clock import Clock
from logstream.errors import LogStreamError
from logstream.query.condition import Condition
from logstream.query.filter import LogFilter
from logstream.query.language import nodes as n
from logstream.query.language.sql import Parameters, filter_sql
from logstream.query.logs import where
from logstream.query.period import Period
from logstream.storage.schema import BUCKET, MINUTE, TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

REFRESH_SECONDS = 5.0
MIN_ROWS = 100_000
"""Smaller parts are read as fast as they are looked up."""
MAX_PARTS = 256
"""The largest parts of a table; more would make statements long."""
_NEW_AT_ONCE = 16
"""Parts whose times are read in one refresh."""

_PARTS = (
    "SELECT name, hash_of_all_files, rows, count() OVER () FROM system.parts WHERE active "
    "AND database = {database:String} AND table = {table:String} ORDER BY rows DESC, name LIMIT {limit:UInt32}"
)


@dataclass(slots=True)
class _Known:
    """hashes, times: by the name of the part; times are (first, last), ns since the epoch, both inclusive. parts: how
    many there were when they were looked at."""

    parts: int = 0
    hashes: dict[str, str] = field(default_factory=dict)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)
    looked_at: float | None = None


class PartTimes:
    """The times of the parts of all streams' tables. Looks again by itself while it is asked.

    min_rows: of a part to be known.
    """

    def __init__(self, store: Store, clock: Clock, *, min_rows: int = MIN_ROWS) -> None:
        self._store = store
        self._clock = clock
        self._min_rows = min_rows
        self._known: dict[Stream, _Known] = {}
        self._looking: dict[Stream, asyncio.Task[None]] = {}

    def within(self, stream: Stream, period: Period) -> tuple[str, ...]:
        """Names of parts of which every line lies in `period`; not all of them, and some may be gone already.

        None on a cluster: parts of two shards may have one name, so a name says nothing of the lines of both.
        """
        if self._store.distributed:
            return ()
        return tuple(
            name
            for name, (first, last) in self._seen(stream).times.items()
            if period.start <= first and last <= period.end
        )

    def covering(self, stream: Stream, period: Period) -> tuple[str, ...] | None:
        """The names of all parts, if every line lay in `period` at the last look; see `beyond`."""
        names = self.within(stream, period)
        return names if names and len(names) == self._seen(stream).parts else None

    def _seen(self, stream: Stream) -> _Known:
        known = self._known.setdefault(stream, _Known())
        now = self._clock.monotonic()
        stale = known.looked_at is None or now - known.looked_at > REFRESH_SECONDS
        if stale and stream not in self._looking:
            # In a context of its own: this is no part of the read that happens to ask.
            task = asyncio.get_running_loop().create_task(self._look(stream), context=contextvars.Context())
            self._looking[stream] = task
            task.add_done_callback(lambda _: self._looking.pop(stream, None))
        return known

    async def close(self) -> None:
        """End what looks at the moment."""
        looking = list(self._looking.values())
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def look(self, stream: Stream) -> None:
        """Look now. Raises StoreUnavailable."""
        known = self._known.setdefault(stream, _Known())
        answer = await self._store.query(_PARTS, {"database": stream.database, "table": TABLE, "limit": MAX_PARTS})
        hashes: dict[str, str] = {name: found for name, found, rows, _ in answer.rows if rows >= self._min_rows}
        # A name may come again with other lines: after a restore, or in a table made anew.
        times = {name: known.times[name] for name, found in hashes.items() if known.hashes.get(name) == found}
        for name in [name for name in hashes if name not in times][:_NEW_AT_ONCE]:
            span = await self._times(stream, name)
            if span is not None:
                times[name] = span
        known.hashes = {name: found for name, found in hashes.items() if name in times}
        known.times = times
        known.parts = answer.rows[0][3] if answer.rows else 0
        known.looked_at = self._clock.monotonic()

    async def _look(self, stream: Stream) -> None:
        try:
            await self.look(stream)
        except LogStreamError:
            # It only makes reads faster. Not every read is to try again where the store will not tell.
            self._known[stream].looked_at = self._clock.monotonic()

    async def _times(self, stream: Stream, part: str) -> tuple[int, int] | None:
        """The first and the last time of `part`, read from its first and last buckets, which its key index names."""
        key = f"`{BUCKET}`"
        marks = await self._store.query(
            f"SELECT min({key}), max({key}) FROM mergeTreeIndex({{database:String}}, {{table:String}}) "  # noqa: S608
            "WHERE part_name = {part:String} HAVING count() > 0",
            {"database": stream.database, "table": TABLE, "part": part},
        )
        if not marks.rows:
            return None
        low, high = marks.rows[0]
        answer = await self._store.query(
            "SELECT toUnixTimestamp64Nano(min(timestamp)), toUnixTimestamp64Nano(max(timestamp)) "  # noqa: S608
            f"FROM {stream.database}.{TABLE} WHERE _part = {{part:String}} "
            f"AND ({BUCKET} <= {{low:Int64}} OR {BUCKET} >= {{high:Int64}}) HAVING count() > 0",
            {"part": part, "low": low, "high": high},
        )
        return (answer.rows[0][0], answer.rows[0][1]) if answer.rows else None


def source(table: str, logs: LogFilter, parts: tuple[str, ...], columns: tuple[str, ...]) -> Condition | None:
    """The lines of `logs`, counted by `columns` (of minute, service, level): a SELECT in parentheses, with parameters.

    Its columns: those, and lines. parts: known to lie within the range of `logs`; their lines are asked for the filter
    only. None when there are none. The engine reads both halves of one snapshot
    (enable_shared_storage_snapshot_in_query), so that a merge meanwhile cannot make a line count twice.
    """
    if not parts:
        return None
    parameters = Parameters("p")
    names = parameters.bind(list(parts), "Array(String)")
    asked, bounded = filter_sql(logs.where, parameters), where(logs)
    inside, outside = f"_part IN {names}", f"_part NOT IN {names}"
    if logs.where != n.EVERYTHING:
        # As hints they are held to when parts are chosen, and no line is asked again for the name of its part. Where
        # nothing else is asked, the engine would count lines without them.
        inside, outside = f"indexHint({inside})", f"indexHint({outside})"
    halves = (f"{inside} AND {asked}", f"{outside} AND {bounded.sql}")
    counts = " UNION ALL ".join(_count(table, half, columns) for half in halves)
    return Condition(f"({counts})", {**bounded.parameters, **parameters.values})


def unbounded(table: str, logs: LogFilter, columns: tuple[str, ...]) -> Condition:
    """As `source`, of the lines of all time: for a table that `PartTimes.covering` says to lie within the range."""
    parameters = Parameters("p")
    return Condition(f"({_count(table, filter_sql(logs.where, parameters), columns)})", parameters.values)


def beyond(table: str, parts: tuple[str, ...]) -> Condition:
    """A SELECT that has a row if the table has others than `parts` now.

    Parts never come back under a name they had. So what was counted before, of all time, was of `parts` if this has
    none; whatever came in between is another part.
    """
    parameters = Parameters("p")
    sql = f"SELECT 1 FROM {table} WHERE _part NOT IN {parameters.bind(list(parts), 'Array(String)')} LIMIT 1"  # noqa: S608
    return Condition(sql, parameters.values)


def _count(table: str, condition: str, columns: tuple[str, ...]) -> str:
    selected = ", ".join(
        f"{MINUTE} AS minute" if column == "minute" else column for column in (*columns, "count() AS lines")
    )
    group = f" GROUP BY {', '.join(columns)}" if columns else ""
    return f"SELECT {selected} FROM {table} WHERE {condition}{group}"  # noqa: S608
