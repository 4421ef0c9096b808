"""Single rows of a bus record: whose they are, and which of them are stored."""

from collections import Counter
from collections.abc import Sequence

from logstream.bus.header import Segment
from logstream.processor.plan import Plan
from logstream.storage.schema import TABLE
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
    found = await store.query(
        f"SELECT 1 FROM {stream.database}.{TABLE} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
        " AND partition = {partition:UInt16} AND offset = {offset:UInt64}"
        " AND row BETWEEN {first:UInt32} AND {last:UInt32} LIMIT 1",
        {
            "incarnation": plan.incarnation, "partition": plan.partition, "offset": plan.first,
            "first": plan.first_row, "last": plan.last_row,
        },
        settings={"use_query_condition_cache": 0},
    )  # fmt: skip
    return bool(found.rows)


async def stored_by_key(
    store: Store, stream: Stream, *, incarnation: int, partition: int, offset: int
) -> dict[str, int]:
    """Rows of one bus record that are stored, by key id. Raises LogStreamError."""
    found = await store.query(
        f"SELECT key_id, count() FROM {stream.database}.{TABLE} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
        " AND partition = {partition:UInt16} AND offset = {offset:UInt64} GROUP BY key_id",
        {"incarnation": incarnation, "partition": partition, "offset": offset},
        settings={"use_query_condition_cache": 0},
    )
    return dict(found.rows)


async def last_stored(store: Store, stream: Stream, *, incarnation: int, partition: int) -> int | None:
    """The highest offset of which rows are stored. Raises LogStreamError."""
    found = await store.query(
        f"SELECT count(), max(offset) FROM {stream.database}.{TABLE} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
        " AND partition = {partition:UInt16}",
        {"incarnation": incarnation, "partition": partition},
        settings={"use_query_condition_cache": 0},
    )
    count, last = found.rows[0]
    return int(last) if count else None


async def stored_between(store: Store, stream: Stream, plan: Plan) -> Counter[tuple[str, int]]:
    """Stored rows of a plan's records by key id and minute of arrival. Raises LogStreamError."""
    found = await store.query(
        f"SELECT key_id, {_MINUTE} AS minute, count() FROM {stream.database}.{TABLE}"  # noqa: S608
        " WHERE incarnation = {incarnation:UInt32} AND partition = {partition:UInt16}"
        " AND offset BETWEEN {first:UInt64} AND {last:UInt64}"
        " GROUP BY key_id, minute",
        {"incarnation": plan.incarnation, "partition": plan.partition, "first": plan.first, "last": plan.last},
        settings={"use_query_condition_cache": 0},
    )
    return Counter({(key_id, minute): count for key_id, minute, count in found.rows})
