"""What a bus does. Two implementations, one contract suite (`tests/contracts/`): the embedded log in SQLite
(`logstream.bus.sqlite`) and Kafka.

Semantics are Kafka's: a topic has partitions, a partition has records with rising offsets from 0 (consecutive,
but for records that cannot be read), records stay for a while after they were consumed, a consumer group has one
committed position per partition with a short metadata string beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from logstream.bus.header import Header
from logstream.clock import NS_PER_SECOND
from logstream.errors import InvalidValue

NS_PER_MINUTE = 60 * NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Topic:
    """`incarnation` (1 … 2³²−1) tells a topic from an earlier one of the same name, whose offsets also began
    at 0: random, or taken from Kafka's topic id."""

    name: str
    incarnation: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An Idempotency-Key being used: 16 bytes that identify key and sender, 16 that identify the body."""

    key: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """Where a record is. `duplicate`: nothing was appended, this is where the first one went."""

    partition: int
    offset: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One record of a partition; `value` is what `logstream.bus.header.encode` made."""

    partition: int
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Offsets:
    """`beginning`: the oldest offset still there. `end`: the offset the next record will get."""

    beginning: int
    end: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's position: the next offset to process, and the metadata stored with it."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of rows of one API key; feeds the ledger."""

    stored: int = 0
    dead_lettered: int = 0
    deduplicated: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that a record of the log carries. received_at: the record's, ns."""

    key: bytes
    fingerprint: bytes
    received_at: int


DEAD_LETTERS = ".deadletters"
"""How the name of a dead-letter topic ends."""


def require_letters(topic: str) -> None:
    """Raises InvalidValue for a topic that is not one of dead letters."""
    if not topic.endswith(DEAD_LETTERS):
        raise InvalidValue(f"only dead letters are kept for days, not the records of {topic!r}", field="topic")


def minute_of(received_at: int) -> int:
    """Minutes since the epoch at `received_at` (ns): the ledger's unit of time."""
    return received_at // NS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class Settled:
    """Records that came to their end: those at `first` … `last` of a partition.

    outcomes: their rows, by API key and minute of the record's received_at. claims: those the records carry.
    """

    first: int
    last: int
    outcomes: Mapping[tuple[str, int], Outcome] = field(default_factory=dict)
    claims: Sequence[Claimed] = ()


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Per stream and key: accepted = stored + deduplicated + dead_lettered + in_flight, at every moment.

    `in_flight` is counted from the records that wait. On SQLite every other term has a counter of its own; on
    Kafka `accepted` is what came to its end plus what is in flight, and `logstream verify` counts the records.
    """

    key_id: str
    accepted: int
    stored: int
    deduplicated: int
    dead_lettered: int
    in_flight: int


class RebalanceListener(Protocol):
    """Told when partitions come and go. Called one call at a time, from a task of the consumer's own, and not
    before the call of `Bus.consumer` that it was given to has made the consumer."""

    async def assigned(self, partitions: frozenset[int]) -> None:
        """These are ours now, beside those we had."""
        ...

    async def revoked(self, partitions: frozenset[int]) -> None:
        """These go to another member once this returns: finish and commit what is in flight, soon.

        They may be lost already (commits then raise Fenced): after a silence longer than the group allows, or
        when the topic was deleted.
        """
        ...


class JournalSnapshot(Protocol):
    """Of one moment."""

    @property
    def totals(self) -> Mapping[str, Outcome]:
        """As `Journal.totals`."""
        ...

    @property
    def last(self) -> Mapping[int, int]:
        """By partition, the last offset recorded, over all time: records behind it are in flight."""
        ...


class Journal(Protocol):
    """What came to its end, kept with the data: Kafka's commits have no room for it.

    Every method may raise StoreUnavailable.
    """

    async def record(self, topic: Topic, partition: int, settled: Settled) -> None:
        """Keep `settled`, durably. Idempotent by (incarnation, partition, first)."""
        ...

    async def totals(self, topic: Topic, start_minute: int | None, end_minute: int | None) -> Mapping[str, Outcome]:
        """By API key, of records received in [start_minute, end_minute) since the epoch; None: no bound."""
        ...

    async def snapshot(
        self, topic: Topic, start_minute: int | None = None, end_minute: int | None = None
    ) -> JournalSnapshot:
        """Totals, and up to where they go."""
        ...

    async def settled_to(self, topic: Topic, partition: int) -> int | None:
        """The last offset that is recorded to have come to its end, with rows; None when there is none."""
        ...

    async def claims(
        self, topic: Topic, partition: int, since_ns: int, *, before: int | None = None, limit: int | None = None
    ) -> Sequence[Claimed]:
        """Claims of settled records received at `since_ns` or later, in the order of offsets.

        before: only of ranges that begin below this offset. limit: no more than the latest so many.
        """
        ...


class Consumer(Protocol):
    """One member of a consumer group. Not safe for concurrent calls on the same partition."""

    @property
    def topic(self) -> Topic:
        """Its incarnation changes when the topic is made anew: between `revoked` and `assigned`."""
        ...

    def assignment(self) -> frozenset[int]:
        """The partitions this member owns now."""
        ...

    async def committed(self, partition: int) -> Committed:
        """The group's position; `Committed(0)` when it never committed."""
        ...

    async def read(self, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0) -> Sequence[Message]:
        """As `Bus.read`."""
        ...

    async def commit(self, partition: int, position: Committed, settled: Settled | None = None) -> None:
        """Store position and metadata durably, and before them what came to its end.

        The embedded log stores all of it in one step. On Kafka `settled` goes to the Journal first, whose
        idempotence makes a repeat harmless.
        Raises BusUnavailable or StoreUnavailable, then nothing was stored, or all of it: ask again; Fenced: the
        partition is not ours any more.
        """
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """A durable log. Every method may raise BusUnavailable."""

    async def create_topic(
        self, name: str, *, partitions: int | None = None, retention_days: int | None = None
    ) -> Topic:
        """The topic, made when it is not there. Idempotent; the partitions of an existing topic stay, but for a
        dead-letter topic on Kafka that has fewer than `partitions`: it gets the rest.

        partitions: None means as the bus's settings have it (1 in the embedded log). retention_days: of a dead-letter
        topic, as `set_retention`, also where it is there already; on Kafka a user who may not change the settings of
        a topic that is there leaves them as they are, with a warning.
        """
        ...

    async def topic(self, name: str) -> Topic:
        """The topic, for those who only read. Raises NotFound; makes and changes nothing."""
        ...

    async def set_retention(self, name: str, days: int) -> None:
        """Keep the records of a dead-letter topic `days` days: those that are there, too. Nothing happens where there
        is no such topic.

        The embedded log remembers it until it is closed. Raises InvalidValue for any other topic, whose records go
        when they are stored.
        """
        ...

    async def delete_topic(self, name: str) -> None:
        """Remove a topic with its records, positions, claims and counts, for good. Idempotent; no other topic is
        touched. Whoever reads or writes it from now on is told NotFound; one made anew has another incarnation.
        """
        ...

    async def publish(
        self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None, partition: int | None = None
    ) -> Published:
        """Append one record; returns once it is durable.

        partition: where; None means the partition of the claim's hash when there is a claim, else spread.

        In the embedded log, with a `claim` already used by a record of the same fingerprint nothing is appended,
        the rows are counted as deduplicated and the earlier place is returned. Claims are kept for the bus's
        `idempotency_window`, at least ten minutes. On Kafka that holds for dead letters only; other records are
        appended, and the processor drops the repeat, which finds the first one in the same partition.

        Raises KeyReused (embedded log: same claim key, other fingerprint), TooLarge (one record larger than the
        bus takes), BusFull (size limit or disk floor; on Kafka: too much waits for the broker), BusUnavailable.
        Cancelling the call leaves it open whether the record was appended.
        """
        ...

    async def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0
    ) -> Sequence[Message]:
        """Records from `offset` on, in order: at least one when there is one, then no more than `max_bytes`.

        When there is none, waits up to `wait` seconds for one (woken by the append, not by polling), then
        returns an empty sequence. Raises OffsetOutOfRange below the beginning or past the end, NotFound.
        """
        ...

    async def offsets(self, topic: str, partition: int) -> Offsets: ...

    async def committed(self, topic: str, group: str, partition: int) -> Committed:
        """As `Consumer.committed`, for any group and without joining it."""
        ...

    async def consumer(self, topic: str, group: str, *, listener: RebalanceListener | None = None) -> Consumer:
        """Join `group`. The embedded log keeps records a group has not yet consumed until its size limit.

        Its only member owns every partition at once, and `listener.assigned` is called once; on Kafka
        partitions come when the group has settled.
        """
        ...

    async def ledger(self, topic: str, *, start: int | None = None, end: int | None = None) -> Sequence[LedgerEntry]:
        """By API key, of records received from `start` (ns, rounded down to a minute) to `end` (excluded,
        rounded up); None: no bound. May raise StoreUnavailable on Kafka."""
        ...

    async def check(self) -> None:
        """Raises BusUnavailable when a publish would fail now; for readiness."""
        ...

    async def close(self) -> None:
        """Finish what was begun, then close. Idempotent."""
        ...
