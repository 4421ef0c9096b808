"""What the writer's thread does to the log's file: append, claim, commit, count.

All calls happen between `begin` and `finish`, in one thread; `finish` makes them durable together.
"""

import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from logstream.bus.header import Header, wire_segments
from logstream.bus.protocol import DEAD_LETTERS, Claim, Committed, Published, Settled, Topic, minute_of
from logstream.bus.sqlite.schema import OFFSET_BITS, connect_writer
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import BusFull, Conflict, KeyReused, NotFound
from logstream.settings import BusSettings

_COUNT = """
INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    accepted = accepted + excluded.accepted, deduplicated = deduplicated + excluded.deduplicated,
    stored = stored + excluded.stored, dead_lettered = dead_lettered + excluded.dead_lettered
"""
_COUNT_MINUTE = """
INSERT INTO ledger_minutes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    accepted = accepted + excluded.accepted, deduplicated = deduplicated + excluded.deduplicated,
    stored = stored + excluded.stored, dead_lettered = dead_lettered + excluded.dead_lettered
"""


@dataclass(slots=True)
class Lane:
    """One partition, as the writer knows it. `consumed`: first offset some group has not consumed yet."""

    lane_id: int
    topic_id: int
    topic: str
    partition: int
    beginning: int = 0
    end: int = 0
    bytes: int = 0
    waiting_bytes: int = 0
    positions: dict[str, int] = field(default_factory=dict)

    @property
    def consumed(self) -> int:
        return min(self.positions.values(), default=0)

    @property
    def letters(self) -> bool:
        """Then it has no consumer: it keeps its newest records and never makes the log full."""
        return self.topic.endswith(DEAD_LETTERS)

    def row(self, offset: int) -> int:
        """Row id of the record at `offset`."""
        return self.lane_id << OFFSET_BITS | offset


class Log:
    """The file and what is known of it. Not safe for several threads."""

    def __init__(
        self, settings: BusSettings, clock: Clock, free_disk_bytes: Callable[[Path], int], directory: Path
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._free_disk_bytes = free_disk_bytes
        self._directory = directory
        self._window_ns = int(settings.idempotency_window_seconds * NS_PER_SECOND)
        self._counts: defaultdict[tuple[int, int, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        """Accepted, deduplicated, stored, dead-lettered rows by topic, minute of received_at and key."""
        self._disk_checked_at = float("-inf")
        self._disk_low = False
        self.lanes: dict[str, list[Lane]] = {}
        self.changed: dict[int, Lane] = {}
        """Lanes whose offsets or bytes changed, by id; whoever reports them to readers clears it."""
        self.topics: dict[str, Topic] = {}
        self.letters_days: dict[str, int] = {}
        """Days that dead letters are kept, by topic; for ever where nothing was said."""
        self.deleted: list[tuple[int, int]] = []
        """Topic and lane ids of deleted topics of which the file may still have something."""
        self.sql = connect_writer(directory)
        self.load()

    def load(self) -> None:
        """Read what is known of topics, lanes and positions from the file. Raises sqlite3.Error."""
        self._counts.clear()
        topics: dict[str, Topic] = {}
        lanes: dict[str, list[Lane]] = {}
        for topic_id, name, incarnation in self.sql.execute("SELECT id, name, incarnation FROM topics").fetchall():
            lanes[name] = [
                self._load_lane(Lane(lane_id, topic_id, name, partition))
                for lane_id, partition in self.sql.execute(
                    "SELECT id, partition FROM lanes WHERE topic = ? ORDER BY partition", (topic_id,)
                ).fetchall()
            ]
            topics[name] = Topic(name, incarnation, len(lanes[name]))
        self.topics, self.lanes = topics, lanes
        self.deleted = self.sql.execute("SELECT -topic, id FROM lanes WHERE topic < 0").fetchall()
        self.changed = {lane.lane_id: lane for of_topic in lanes.values() for lane in of_topic}

    def _load_lane(self, lane: Lane) -> Lane:
        low, high = lane.row(0), lane.row(0) + (1 << OFFSET_BITS)
        first, last, size = self.sql.execute(
            "SELECT min(id), max(id), coalesce(sum(bytes), 0) FROM entries WHERE id >= ? AND id < ?", (low, high)
        ).fetchone()
        if first is not None:
            lane.beginning, lane.end, lane.bytes = first - low, last - low + 1, size
        lane.positions = dict(self.sql.execute("SELECT grp, offset FROM positions WHERE lane = ?", (lane.lane_id,)))
        lane.waiting_bytes = lane.bytes - self._bytes_between(lane, lane.beginning, lane.consumed)
        return lane

    def _bytes_between(self, lane: Lane, first: int, end: int) -> int:
        (size,) = self.sql.execute(
            "SELECT coalesce(sum(bytes), 0) FROM entries WHERE id >= ? AND id < ?", (lane.row(first), lane.row(end))
        ).fetchone()
        return int(size)

    # Transactions

    def begin(self) -> None:
        self.sql.execute("BEGIN IMMEDIATE")

    def finish(self) -> None:
        """Count, then commit durably."""
        if self._counts:
            self.sql.executemany(
                _COUNT,
                [(topic, key, *counts) for (topic, _, key), counts in self._counts.items()],
            )
            self.sql.executemany(_COUNT_MINUTE, [(*place, *counts) for place, counts in self._counts.items()])
        self.sql.execute("COMMIT")
        self._counts.clear()

    def recover(self) -> None:
        """After a failure: drop the transaction and learn anew what the file holds. Raises sqlite3.Error."""
        try:
            if self.sql.in_transaction:
                self.sql.execute("ROLLBACK")
            self.load()
        except sqlite3.Error:
            self.sql.close()
            self.sql = sqlite3.connect(":memory:", check_same_thread=False)
            self.sql = connect_writer(self._directory)
            self.load()

    # Operations

    def create_topic(self, name: str, partitions: int) -> Topic:
        topic = self.topics.get(name)
        if topic is not None:
            return topic
        incarnation = 1 + secrets.randbelow(2**32 - 1)
        # Not as SQLite would have it: what a deleted topic had is known by its id until it is gone.
        (topic_id,) = self.sql.execute("SELECT 1 + coalesce(max(abs(topic)), 0) FROM lanes").fetchone()
        self.sql.execute("INSERT INTO topics (id, name, incarnation) VALUES (?, ?, ?)", (topic_id, name, incarnation))
        lanes = []
        for partition in range(partitions):
            lane_id = self.sql.execute(
                "INSERT INTO lanes (topic, partition) VALUES (?, ?)", (topic_id, partition)
            ).lastrowid
            assert lane_id is not None
            lane = Lane(lane_id, topic_id, name, partition)
            lanes.append(lane)
            self.changed[lane_id] = lane
        self.lanes[name] = lanes
        self.topics[name] = Topic(name, incarnation, partitions)
        return self.topics[name]

    def delete_topic(self, name: str) -> Sequence[int]:
        """The ids of the lanes that it had; its records go with `retention.step`."""
        lanes = self.lanes.pop(name, [])
        self.topics.pop(name, None)
        self.letters_days.pop(name, None)
        for lane in lanes:
            self.sql.execute("DELETE FROM positions WHERE lane = ?", (lane.lane_id,))
            self.sql.execute("UPDATE lanes SET topic = ? WHERE id = ?", (-lane.topic_id, lane.lane_id))
            self.changed.pop(lane.lane_id, None)
            self.deleted.append((lane.topic_id, lane.lane_id))
        if lanes:
            topic_id = lanes[0].topic_id
            self.sql.execute("DELETE FROM topics WHERE id = ?", (topic_id,))
            self.sql.execute("DELETE FROM ledger WHERE topic = ?", (topic_id,))
            for place in [place for place in self._counts if place[0] == topic_id]:
                del self._counts[place]
        return [lane.lane_id for lane in lanes]

    def lane(self, topic: str, partition: int) -> Lane:
        """Raises NotFound: the topic was deleted since."""
        lanes = self.lanes.get(topic, ())
        if not 0 <= partition < len(lanes):
            raise NotFound(f"there is no partition {partition} of topic {topic!r}")
        return lanes[partition]

    def append(self, lane: Lane, header: Header, value: bytes, claim: Claim | None) -> Published:
        """Raises KeyReused or BusFull, and has then changed nothing."""
        now = self._clock.now_ns()
        if claim is not None:
            earlier = self.sql.execute(
                "SELECT fingerprint, record FROM claims WHERE topic = ? AND key = ? AND claimed_at > ?",
                (lane.topic_id, claim.key, now - self._window_ns),
            ).fetchone()
            if earlier is not None:
                return self._repeated(lane, header, claim, *earlier)
        self._admit(lane, len(value))
        row = lane.row(lane.end)
        self.sql.execute("INSERT INTO records VALUES (?, ?)", (row, value))
        minute = minute_of(header.received_at)
        self.sql.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?)", (row, now, len(value), wire_segments(value), minute)
        )
        if claim is not None:
            self.sql.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
                (lane.topic_id, claim.key, claim.fingerprint, row, now),
            )
        published = Published(lane.partition, lane.end)
        self.changed[lane.lane_id] = lane
        lane.end += 1
        lane.bytes += len(value)
        lane.waiting_bytes += len(value)
        for segment in header.segments:
            self._counts[lane.topic_id, minute, segment.key_id][0] += segment.rows
        return published

    def _repeated(self, lane: Lane, header: Header, claim: Claim, fingerprint: bytes, row: int) -> Published:
        if fingerprint != claim.fingerprint:
            raise KeyReused("this Idempotency-Key was used before with another body", field="Idempotency-Key")
        for segment in header.segments:
            counts = self._counts[lane.topic_id, minute_of(header.received_at), segment.key_id]
            counts[0] += segment.rows
            counts[1] += segment.rows
        partition = next(s.partition for s in self.lanes[lane.topic] if s.lane_id == row >> OFFSET_BITS)
        return Published(partition, row & (1 << OFFSET_BITS) - 1, duplicate=True)

    def _admit(self, lane: Lane, size: int) -> None:
        if lane.letters:
            return
        waiting = sum(s.waiting_bytes for lanes in self.lanes.values() for s in lanes if not s.letters)
        if waiting + size > self.settings.max_bytes:
            raise BusFull(
                f"the log holds {waiting} bytes not yet stored and takes no more than {self.settings.max_bytes}",
                retry_after=5.0, field="max_bytes", limit=self.settings.max_bytes,
            )  # fmt: skip
        self.require_disk()

    def require_disk(self) -> None:
        """Raises BusFull when free disk space is below its floor; looked up at most twice a second."""
        if self._clock.monotonic() - self._disk_checked_at >= 0.5:
            self._disk_checked_at = self._clock.monotonic()
            self._disk_low = self._free_disk_bytes(self._directory) < self.settings.min_free_disk_bytes
        if self._disk_low:
            raise BusFull(
                f"less than {self.settings.min_free_disk_bytes} bytes of disk space are free",
                retry_after=10.0, field="min_free_disk_bytes", limit=self.settings.min_free_disk_bytes,
            )  # fmt: skip

    def check(self) -> None:
        """Raises BusFull when an append would be refused now."""
        for lanes in self.lanes.values():
            for lane in lanes:
                if not lane.letters:
                    self._admit(lane, 0)
        self.require_disk()

    def join(self, topic: str, group: str) -> None:
        """Make `group` known, so that records wait for it. Raises NotFound."""
        for lane in [self.lane(topic, 0), *self.lanes[topic][1:]]:
            if group not in lane.positions:
                self.sql.execute("INSERT INTO positions VALUES (?, ?, 0, '', 0)", (lane.lane_id, group))
                lane.positions[group] = 0
                lane.waiting_bytes = lane.bytes

    def commit(self, lane: Lane, group: str, position: Committed, settled: Settled | None) -> None:
        """Raises Conflict for an offset beyond the end."""
        if not 0 <= position.offset <= lane.end:
            raise Conflict(f"offset {position.offset} of {lane.topic} cannot be committed: the end is {lane.end}")
        before = lane.consumed
        self.sql.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " offset = excluded.offset, metadata = excluded.metadata, accounts = max(accounts, excluded.accounts)",
            (lane.lane_id, group, position.offset, position.metadata, int(settled is not None)),
        )
        lane.positions[group] = position.offset
        after = lane.consumed
        if after > before:
            lane.waiting_bytes -= self._bytes_between(lane, before, after)
        elif after < before:
            lane.waiting_bytes += self._bytes_between(lane, after, before)
        for (key, minute), outcome in settled.outcomes.items() if settled is not None else ():
            counts = self._counts[lane.topic_id, minute, key]
            counts[1] += outcome.deduplicated
            counts[2] += outcome.stored
            counts[3] += outcome.dead_lettered
