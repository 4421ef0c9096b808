"""The lines around one line, of the same service or with the same values of any other fields."""

from collections.abc import Sequence
from dataclasses import dataclass

from logstream.errors import InvalidValue, NotFound
from logstream.query.filter import LogFilter
from logstream.query.language import nodes
from logstream.query.language.fields import equals, value_of
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.place import ASCENDING, DESCENDING, LINE, Line, Place, beyond
from logstream.query.search import read_lines
from logstream.query.time import MAX_NS, MIN_NS
from logstream.storage.schema import MINUTE_NS
from logstream.storage.store import Store
from logstream.stream import Stream

# Near lines come first: each window begins where the one before ended, and the first that has enough is the last read.
_WINDOWS_NS = tuple(minutes * MINUTE_NS for minutes in (5, 60, 6 * 60, 24 * 60, 7 * 24 * 60))
MAX_VALUE = 4_096
"""Characters of a value that lines are compared by."""


@dataclass(frozen=True, slots=True)
class Context:
    """Lines before and after `line`, both oldest first."""

    before: Sequence[Line]
    line: Line
    after: Sequence[Line]


class ContextReader:
    """Raises StoreUnavailable, TooLarge, and what the limits of a statement raise."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    async def around(
        self, stream: Stream, place: Place, *, before: int, after: int, by: Sequence[nodes.Field]
    ) -> Context:
        """At most `before` and `after` lines around the one at `place`, no more than seven days away.

        by: fields whose values must be those of that line; none: all lines. In the order of a search, turned round.
        Raises NotFound when there is no line at `place` (any more), InvalidValue for a value over MAX_VALUE.
        """
        line = await self._line(stream, place)
        alike = nodes.all_of([_like(field, line) for field in by])
        older = await self._side(stream, line.place, alike, before, newer=False)
        newer = await self._side(stream, line.place, alike, after, newer=True)
        return Context(older[::-1], line, newer)

    async def _line(self, stream: Stream, place: Place) -> Line:
        condition = where(LogFilter(start=place.timestamp, end=place.timestamp))
        found = await self._store.query(
            f"SELECT {LINE} FROM {stream.database}.logs WHERE {condition.sql} AND partition = {{p:UInt16}} "  # noqa: S608
            "AND offset = {o:UInt64} AND row = {r:UInt32} AND incarnation = {i:UInt32} LIMIT 1",
            {
                **condition.parameters,
                "p": place.partition, "o": place.offset, "r": place.row, "i": place.incarnation,
            },
            settings=self._limits.settings,
        )  # fmt: skip
        if not found.rows:
            raise NotFound("there is no line with this id; it may have been deleted by retention", field="id")
        return Line.of(found.rows[0])

    async def _side(self, stream: Stream, place: Place, alike: nodes.Filter, limit: int, *, newer: bool) -> list[Line]:
        """The `limit` lines nearest to `place`, the nearest first."""
        lines: list[Line] = []
        order, other = (ASCENDING, beyond(place, ">")) if newer else (DESCENDING, beyond(place, "<"))
        near = place.timestamp
        for width in _WINDOWS_NS:
            if len(lines) >= limit or not MIN_NS <= near <= MAX_NS:
                break
            if newer:
                far = min(place.timestamp + width, MAX_NS)
                window = LogFilter(alike, near, far)
                near = far + 1
            else:
                far = max(place.timestamp - width, MIN_NS)
                window = LogFilter(alike, far, near)
                near = far - 1
            lines += await read_lines(
                self._store,
                stream,
                [where(window), other],
                order=order,
                limit=limit - len(lines),
                limits=self._limits,
            )
        return lines


def _like(field: nodes.Field, line: Line) -> nodes.Filter:
    value = value_of(field, line.record)
    if value is not None and len(value) > MAX_VALUE:
        raise InvalidValue(
            f"by: the line's {field.name} has {len(value)} characters, too many to compare by",
            field="by",
            limit=MAX_VALUE,
        )
    return equals(field, value)
