"""Search, page by page: newest first, neither skipping nor repeating a line while others arrive."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from logstream.bus.known import known_topic
from logstream.bus.protocol import Bus
from logstream.query.condition import Condition
from logstream.query.cursor import stream_tag
from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.page import PageCursor, digest, snapshot
from logstream.query.place import DESCENDING, LINE, Line, beyond
from logstream.query.sweep import Sweep
from logstream.query.time import MIN_NS
from logstream.storage.store import Store
from logstream.stream import Stream


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and where the next page begins; None when there is none."""

    lines: Sequence[Line]
    next: PageCursor | None


class SearchReader:
    """Raises StoreUnavailable, BusUnavailable, TooLarge, and what the limits of a statement raise."""

    def __init__(self, store: Store, bus: Bus, limits: QueryLimits) -> None:
        self._store = store
        self._bus = bus
        self._limits = limits

    async def search(
        self, stream: Stream, logs: LogFilter, *, limit: int, now_ns: int, start: int, cursor: PageCursor | None = None
    ) -> Page:
        """At most `limit` lines; lines of one instant in the reverse order of their arrival.

        logs: as the client asks. start: where the range begins if that does not say, ns since the epoch. cursor: of the
        page before, whose own beginning holds.
        """
        if cursor is None:
            taken, after = await snapshot(self._bus, stream), None
            bounded = replace(logs, start=start if logs.start is None else logs.start)
            edge = now_ns
        else:
            taken, after = cursor.snapshot, cursor.after
            end = after.timestamp if logs.end is None else min(logs.end, after.timestamp)
            bounded = replace(logs, start=cursor.start, end=end)
            edge = end
        conditions: list[Condition] = []
        if after is not None:
            # The first page needs no such condition: what comes while it is read cannot be on another one.
            topic = await known_topic(self._bus, stream.topic)
            conditions = [taken.to_sql(topic.incarnation), beyond(after, "<")]
        lines: list[Line] = []
        sweep = Sweep(bounded, limit=limit + 1, now_ns=edge)
        while (window := sweep.window()) is not None:
            found = await self._window(stream, [where(window), *conditions], sweep.left, hints=sweep.hints)
            sweep.took(len(found))
            lines += found
        if len(lines) <= limit:
            return Page(lines, None)
        del lines[limit:]
        begun = MIN_NS if bounded.start is None else bounded.start
        return Page(lines, PageCursor(stream_tag(stream), digest(logs), begun, lines[-1].place, taken))

    async def _window(self, stream: Stream, conditions: Sequence[Condition], limit: int, *, hints: str) -> list[Line]:
        return await read_lines(
            self._store, stream, conditions, order=DESCENDING, limit=limit, limits=self._limits, hints=hints
        )


async def read_lines(
    store: Store,
    stream: Stream,
    conditions: Sequence[Condition],
    *,
    order: str,
    limit: int,
    limits: QueryLimits,
    hints: str = "",
) -> list[Line]:
    """The first `limit` lines in `order` (`DESCENDING` or `ASCENDING`) that meet all `conditions`.

    hints: a SETTINGS clause, or nothing.
    """
    parameters: dict[str, object] = {"limit": limit}
    for condition in conditions:
        parameters |= condition.parameters
    rows = await store.query(
        f"SELECT {LINE} FROM {stream.database}.logs WHERE {' AND '.join(c.sql for c in conditions)} "  # noqa: S608
        f"ORDER BY {order} LIMIT {{limit:UInt32}} {hints}",
        parameters,
        settings=limits.settings,
    )
    return [Line.of(row) for row in rows.rows]
