"""The values of fields that lines have, and how often: what to narrow a search by."""

from collections.abc import Sequence
from dataclasses import dataclass

from logstream.query.discover import sampled_lines
from logstream.query.filter import LogFilter
from logstream.query.language import nodes
from logstream.query.limits import QueryLimits
from logstream.query.period import Period, within
from logstream.query.values import FieldValues, ValueCounter
from logstream.storage.store import Store
from logstream.stream import Stream

MAX_FIELDS = 20
DEFAULT_KEYS = 8
SAMPLED_LINES = 10_000
"""The newest lines decide which metadata keys are worth a facet."""
_FEW = 10
"""So few distinct values are a facet however few lines there are."""
_RARE = 100
"""A key that fewer than one line in so many has is none."""


@dataclass(frozen=True, slots=True)
class Facets:
    """total: lines. fields: with their values, in the order asked for."""

    total: int
    fields: Sequence[tuple[nodes.Field, FieldValues]]


class FacetReader:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    async def read(
        self, stream: Stream, logs: LogFilter, period: Period, *, fields: Sequence[nodes.Field], limit: int
    ) -> Facets:
        """The `limit` most frequent values of `fields` (none: service, level and the usual keys) in `period`."""
        logs = within(logs, period)
        if not fields:
            fields = (nodes.field_named("service"), nodes.field_named("level"), *await self._keys(stream, logs))
        counted = await ValueCounter(self._store, self._limits).count(stream, logs, fields, limit=limit)
        return Facets(counted.total, list(zip(fields, counted.fields, strict=True)))

    async def _keys(self, stream: Stream, logs: LogFilter) -> list[nodes.Field]:
        """The most frequent metadata keys of the newest lines whose values repeat."""
        sample = sampled_lines(stream, logs, "metadata", SAMPLED_LINES)
        answer = await self._store.query(
            # The first key of each line counts the lines that have any.
            "SELECT toString(key) AS name, count() AS lines, uniq(value) AS distinct, "  # noqa: S608
            f"sum(countIf(number = 1)) OVER () FROM ({sample.sql}) ARRAY JOIN mapKeys(metadata) AS key, "
            "mapValues(metadata) AS value, arrayEnumerate(mapKeys(metadata)) AS number GROUP BY name "
            f"ORDER BY distinct <= greatest({_FEW}, intDiv(lines, 2)) DESC, lines DESC, name LIMIT {DEFAULT_KEYS} "
            # Keys beyond the bound are as rare as they are many.
            "SETTINGS max_rows_to_group_by = 20000, group_by_overflow_mode = 'any'",
            sample.parameters,
            settings=self._limits.settings,
        )
        return [
            nodes.Field("metadata", name)
            for name, lines, distinct, total in answer.rows
            if distinct <= max(_FEW, lines // 2) and lines * _RARE >= total
        ]
