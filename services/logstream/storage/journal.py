"""What came to its end, kept in ClickHouse beside the rows: `logstream.bus.protocol.Journal`.

On Kafka a commit has no room for counts and claims, so they are kept here before the offset is committed. Two
tables (`logstream.storage.schema`), both unharmed by repeats:

`journal` has one row a minute of arrival, partition and API key with running totals up to an offset. Of several
the highest offset holds, so a range recorded twice, late or by a member that lost the partition changes nothing:
whoever records a range comes from the same rows to the same totals. ClickHouse merges the earlier ones away.

`journal_claims` has the claims of each range that holds any, by day, and drops them whole.

docs/adr/0014-journal-and-kafka-exactly-once.md has the proof and the figures.
"""

import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from logstream.bus.protocol import Claimed, Outcome, Settled, Topic
from logstream.errors import InvalidValue, LogStreamError, StoreUnavailable
from logstream.storage.native import varint
from logstream.storage.store import Rows, Store
from logstream.stream import Stream

MAX_CLAIMS = 1_000_000
"""Claims that `claims` answers with at most: about 200 MB in memory."""

_DAY_NS = 86_400 * 10**9
_MINUTES = 2**32
_CELLS = 50_000
"""Running totals kept in memory, of all partitions together."""
_COUNTS = struct.Struct("<QQQQ")
_COLUMNS = ("incarnation", "minute", "partition", "key_id", "last", "stored", "dead_lettered", "deduplicated")
_CLAIM_COLUMNS = ("incarnation", "partition", "first", "day", "newest", "claims", "received")
_SETTINGS = {
    "use_query_condition_cache": 0,
    "max_execution_time": 60,
    # Totals are added up in the order of the key, so that years of minutes need no memory.
    "optimize_aggregation_in_order": 1,
}

Cell = tuple[str, int]
"""API key and minute."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Totals by API key, and by partition the last offset that they include (over all time)."""

    totals: Mapping[str, Outcome]
    last: Mapping[int, int]


@dataclass(slots=True)
class _Known:
    """Running totals of one partition up to `last`."""

    last: int
    cells: dict[Cell, Outcome] = field(default_factory=dict)


class StoreJournal:
    """One for all streams; each topic's journal lies in its stream's database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, int, int], _Known] = OrderedDict()

    async def record(self, topic: Topic, partition: int, settled: Settled) -> None:
        """Keep `settled`, durably: claims first, then counts. Harmless when it was kept before.

        Ranges of a partition must come in order, each by the member that owns the partition or did.
        Raises StoreUnavailable.
        """
        if settled.claims:
            await self._append(topic, "journal_claims", _CLAIM_COLUMNS, _claims_row(topic, partition, settled))
        if not settled.outcomes:
            return
        place = topic.name, topic.incarnation, partition
        known = self._known.pop(place, None) or _Known(-1)
        if await self._complete(topic, partition, settled, known):
            return
        cells = {cell: _plus(known.cells[cell], outcome) for cell, outcome in settled.outcomes.items()}
        rows = b"".join(_row(topic, partition, settled.last, cell, total) for cell, total in cells.items())
        await self._append(topic, "journal", _COLUMNS, rows)
        known.cells |= cells
        known.last = settled.last
        self._known[place] = known
        while len(self._known) > 1 and sum(len(k.cells) for k in self._known.values()) > _CELLS:
            self._known.popitem(last=False)

    async def _complete(self, topic: Topic, partition: int, settled: Settled, known: _Known) -> bool:
        """Learn the totals before `settled` of every cell it touches; True when it was recorded before.

        What is in memory holds only when nobody else recorded in between, so a range that does not follow at
        once makes everything be read again.
        """
        if known.last + 1 != settled.first or len(known.cells) > _CELLS:
            known.cells.clear()
        missing = [cell for cell in settled.outcomes if cell not in known.cells]
        if not missing:
            return False
        minutes = sorted({minute for _, minute in missing})
        found = await self._query(
            topic,
            "SELECT key_id, minute, max(last), argMax(stored, last), argMax(dead_lettered, last),"
            " argMax(deduplicated, last) FROM {table} WHERE incarnation = {{incarnation:UInt32}}"
            " AND partition = {{partition:UInt16}} AND minute BETWEEN {{low:UInt32}} AND {{high:UInt32}}"
            " GROUP BY key_id, minute",
            {
                "incarnation": topic.incarnation, "partition": partition,
                "low": minutes[0], "high": minutes[-1],
            },
        )  # fmt: skip
        wanted = set(missing)
        known.cells |= dict.fromkeys(missing, Outcome())
        for key_id, minute, last, *counts in found.rows:
            if (key_id, minute) in wanted:
                if last >= settled.first:
                    return True
                known.cells[key_id, minute] = Outcome(*counts)
        return False

    async def totals(self, topic: Topic, start_minute: int | None, end_minute: int | None) -> Mapping[str, Outcome]:
        """By API key, of records received in [start_minute, end_minute) since the epoch. Raises StoreUnavailable."""
        return (await self.snapshot(topic, start_minute, end_minute)).totals

    async def snapshot(self, topic: Topic, start_minute: int | None = None, end_minute: int | None = None) -> Snapshot:
        """Totals, and up to where they go, at one moment: records behind are in flight. Raises StoreUnavailable."""
        found = await self._query(
            topic,
            "SELECT key_id, partition, max(upto), sumIf(s, inside), sumIf(d, inside), sumIf(r, inside) FROM"
            " (SELECT key_id, partition, max(last) AS upto, argMax(stored, last) AS s,"
            " argMax(dead_lettered, last) AS d, argMax(deduplicated, last) AS r,"
            " minute >= {{start:UInt64}} AND minute < {{end:UInt64}} AS inside"
            " FROM {table} WHERE incarnation = {{incarnation:UInt32}} GROUP BY incarnation, minute, partition, key_id)"
            " GROUP BY key_id, partition",
            {"incarnation": topic.incarnation, "start": _bound(start_minute, 0), "end": _bound(end_minute, _MINUTES)},
        )
        totals: dict[str, Outcome] = {}
        last: dict[int, int] = {}
        for key_id, partition, upto, *counts in found.rows:
            last[partition] = max(upto, last.get(partition, 0))
            if any(counts):
                totals[key_id] = _plus(totals.get(key_id, Outcome()), Outcome(*counts))
        return Snapshot(totals, last)

    async def settled_to(self, topic: Topic, partition: int) -> int | None:
        """The last offset that is recorded, None without one. Raises StoreUnavailable."""
        found = await self._query(
            topic,
            "SELECT count(), max(last) FROM {table} WHERE incarnation = {{incarnation:UInt32}}"
            " AND partition = {{partition:UInt16}}",
            {"incarnation": topic.incarnation, "partition": partition},
        )
        count, last = found.rows[0]
        return int(last) if count else None

    async def claims(
        self, topic: Topic, partition: int, since_ns: int, *, before: int | None = None, limit: int | None = None
    ) -> Sequence[Claimed]:
        """Claims of records received at `since_ns` or later, in the order of offsets; the latest `limit`, at most
        `MAX_CLAIMS`.

        before: only of ranges that begin below this offset; what is recorded of a range that is about to be
        resumed must not count against it. Raises StoreUnavailable.
        """
        found = await self._query(
            topic,
            "SELECT c, at FROM (SELECT first, claims, received FROM {table}"
            " WHERE incarnation = {{incarnation:UInt32}} AND partition = {{partition:UInt16}}"
            " AND first < {{before:UInt64}} AND newest >= {{since:Int64}} LIMIT 1 BY first)"
            " ARRAY JOIN claims AS c, received AS at, arrayEnumerate(claims) AS i WHERE at >= {{since:Int64}}"
            " ORDER BY first DESC, i DESC LIMIT {{limit:UInt64}}",
            {
                "incarnation": topic.incarnation, "partition": partition, "since": since_ns,
                "before": 2**63 if before is None else before,
                "limit": MAX_CLAIMS if limit is None else min(limit, MAX_CLAIMS),
            },
            table="journal_claims",
        )  # fmt: skip
        return [Claimed(claim[:16], claim[16:], at) for claim, at in reversed(found.rows)]

    async def _append(self, topic: Topic, table: str, columns: Sequence[str], data: bytes) -> None:
        try:
            await self._store.append(f"{_database(topic)}.{table}", columns, data)
        except StoreUnavailable:
            raise
        except LogStreamError as error:
            # The rows are ours and cannot be at fault: a table that is missing or too old, which can be mended.
            raise StoreUnavailable(f"the journal cannot be written: {error.message}", retry_after=5.0) from error

    async def _query(self, topic: Topic, sql: str, parameters: Mapping[str, object], table: str = "journal") -> Rows:
        try:
            # Rows come once a replica on a cluster, which is no more to a statement than a row recorded twice.
            source = self._store.acknowledged(f"{_database(topic)}.{table}")
            return await self._store.query_acknowledged(sql.format(table=source), parameters, settings=_SETTINGS)
        except StoreUnavailable:
            raise
        except LogStreamError as error:
            raise StoreUnavailable(f"the journal cannot be read: {error.message}", retry_after=5.0) from error


def make_journal(store: Store) -> StoreJournal:
    """The journal of all topics whose streams' tables are in `store`."""
    return StoreJournal(store)


def _database(topic: Topic) -> str:
    """The database of the stream whose topic this is. Raises InvalidValue for any other topic."""
    stream_id = topic.name.removeprefix("logstream.")
    stream = Stream(stream_id, stream_id)
    if stream.topic != topic.name or not stream.database.replace("_", "").isalnum():
        raise InvalidValue(f"{topic.name!r} is no stream's topic", field="topic")
    return stream.database


def _plus(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        one.stored + other.stored,
        one.dead_lettered + other.dead_lettered,
        one.deduplicated + other.deduplicated,
    )


def _bound(minute: int | None, default: int) -> int:
    return default if minute is None else min(max(minute, 0), _MINUTES)


def _row(topic: Topic, partition: int, last: int, cell: Cell, total: Outcome) -> bytes:
    key_id, minute = cell
    key = key_id.encode()
    return b"".join((
        topic.incarnation.to_bytes(4, "little"),
        minute.to_bytes(4, "little"),
        partition.to_bytes(2, "little"),
        varint(len(key)), key,
        _COUNTS.pack(last, total.stored, total.dead_lettered, total.deduplicated),
    ))  # fmt: skip


def _claims_row(topic: Topic, partition: int, settled: Settled) -> bytes:
    count = varint(len(settled.claims))
    newest = max(claim.received_at for claim in settled.claims)
    return b"".join((
        topic.incarnation.to_bytes(4, "little"),
        partition.to_bytes(2, "little"),
        settled.first.to_bytes(8, "little"),
        (newest // _DAY_NS).to_bytes(2, "little"),
        newest.to_bytes(8, "little", signed=True),
        count, *(claim.key + claim.fingerprint for claim in settled.claims),
        count, *(claim.received_at.to_bytes(8, "little", signed=True) for claim in settled.claims),
    ))  # fmt: skip
