"""Single rows of a bus record: whose they are, and which of them are stored."""

from collections import Counter
from collections.abc import Sequence

from logstream.bus.header import Segment
from logstream.processor.plan import Plan
from logstream.storage.store import Store
from logstream.stream import Stream

_MINUTE = "intDiv(toUnixTimestamp64Nano(received_at), 60000000000)"


def keys_between(segments: Sequence[Segment], first: int, last: int) -> list[tuple[str, int]]:
    """(key id, rows) of the rows `first` … `last` of a record, in order."""
    keys: list[tuple[str, int]] = []
    start = 0
    for segment in segments:
        count = min(last + 1, start + segment.rows) - max(first, start)
        if count > 0:
            keys.append((segment.key_id, count))
        start += segment.rows
    return keys


async def contains(store: Store, stream: Stream, plan: Plan) -> bool:
    """Whether any of the rows of a plan within one record is stored. Raises LogStreamError."""
    assert plan.first_row is not None
    assert plan.last_row is not None
    return await store.contains(
        stream, incarnation=plan.incarnation, partition=plan.partition, first=plan.first, last=plan.last,
        rows=(plan.first_row, plan.last_row),
    )  # fmt: skip


async def stored_by_key(
    store: Store, stream: Stream, *, incarnation: int, partition: int, offset: int
) -> dict[str, int]:
    """Rows of one bus record that are stored, by key id. Raises LogStreamError."""
    found = await store.query_acknowledged(
        f"SELECT key_id, uniqExact(row) FROM {_lines(store, stream)} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
        " AND partition = {partition:UInt16} AND offset = {offset:UInt64} GROUP BY key_id",
        {"incarnation": incarnation, "partition": partition, "offset": offset},
        settings={"use_query_condition_cache": 0},
    )
    return dict(found.rows)


async def last_stored(store: Store, stream: Stream, *, incarnation: int, partition: int, first: int) -> int | None:
    """The highest offset, from `first` on, of which rows are stored. Raises LogStreamError."""
    found = await store.query_acknowledged(
        f"SELECT count(), max(offset) FROM {_lines(store, stream)} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
        " AND partition = {partition:UInt16} AND offset >= {first:UInt64}",
        {"incarnation": incarnation, "partition": partition, "first": first},
        # Of a position that was lost it may have to look at all there is: that is better than to stand still.
        settings={"use_query_condition_cache": 0, "max_execution_time": 600},
    )
    count, last = found.rows[0]
    return int(last) if count else None


async def stored_between(store: Store, stream: Stream, plan: Plan) -> Counter[tuple[str, int]]:
    """Stored rows of a plan's records by key id and minute of arrival. Raises LogStreamError."""
    found = await store.query_acknowledged(
        f"SELECT key_id, {_MINUTE} AS minute, uniqExact(offset, row) FROM {_lines(store, stream)}"  # noqa: S608
        " WHERE incarnation = {incarnation:UInt32} AND partition = {partition:UInt16}"
        " AND offset BETWEEN {first:UInt64} AND {last:UInt64}"
        " GROUP BY key_id, minute",
        {"incarnation": plan.incarnation, "partition": plan.partition, "first": plan.first, "last": plan.last},
        settings={"use_query_condition_cache": 0},
    )
    return Counter({(key_id, minute): count for key_id, minute, count in found.rows})


def _lines(store: Store, stream: Stream) -> str:
    """What follows FROM. On a cluster a row comes once a replica: count what is unique."""
    return store.acknowledged(store.local(stream))
