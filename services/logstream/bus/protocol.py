"""What a bus does. Two implementations, one contract suite (`tests/contracts/`): the embedded log in SQLite
(`logstream.bus.sqlite`) and Kafka.

Semantics are Kafka's: a topic has partitions, a partition has records with consecutive offsets from 0,
records stay for a while after they were consumed, a consumer group has one committed position per partition
with a short metadata string beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from logstream.bus.header import Header


@dataclass(frozen=True, slots=True)
class Topic:
    """`incarnation` (random, 1 … 2³²−1) tells a topic from an earlier one of the same name, whose offsets
    also began at 0."""

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
    """What became of rows of one API key in a committed range; feeds the ledger."""

    stored: int = 0
    dead_lettered: int = 0


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Per stream and key: accepted = stored + deduplicated + dead_lettered + in_flight, at every moment.

    Counted in records since the topic was created. `in_flight` is counted from the records that wait, not
    computed from the other terms.
    """

    key_id: str
    accepted: int
    stored: int
    deduplicated: int
    dead_lettered: int
    in_flight: int


class Consumer(Protocol):
    """One member of a consumer group. Not safe for concurrent calls on the same partition."""

    @property
    def topic(self) -> Topic: ...

    def assignment(self) -> frozenset[int]:
        """The partitions this member owns now."""
        ...

    async def committed(self, partition: int) -> Committed:
        """The group's position; `Committed(0)` when it never committed."""
        ...

    async def read(self, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0) -> Sequence[Message]:
        """As `Bus.read`."""
        ...

    async def commit(self, partition: int, position: Committed, outcomes: Mapping[str, Outcome] | None = None) -> None:
        """Store position, metadata and ledger outcomes (by key id) in one step, durably.

        Raises BusUnavailable; then nothing was stored, or all of it.
        """
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """A durable log. Every method may raise BusUnavailable."""

    async def create_topic(self, name: str, *, partitions: int = 1) -> Topic:
        """The topic, made when it is not there. Idempotent; the partitions of an existing topic stay."""
        ...

    async def publish(self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None) -> Published:
        """Append one record; returns once it is durable.

        With a `claim` already used by a record of the same fingerprint, nothing is appended, the rows are
        counted as deduplicated and the earlier place is returned. Claims are kept for the bus's
        `idempotency_window`, at least ten minutes.

        Raises KeyReused (same claim key, other fingerprint), BusFull (size limit or disk floor),
        BusUnavailable. Cancelling the call leaves it open whether the record was appended.
        """
        ...

    async def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0
    ) -> Sequence[Message]:
        """Records from `offset` on, in order: at least one when there is one, then no more than `max_bytes`.

        When there is none, waits up to `wait` seconds for one (woken by the append, not by polling), then
        returns an empty sequence. Raises OffsetOutOfRange below the beginning or past the end.
        """
        ...

    async def offsets(self, topic: str, partition: int) -> Offsets: ...

    async def committed(self, topic: str, group: str, partition: int) -> Committed:
        """As `Consumer.committed`, for any group and without joining it."""
        ...

    async def consumer(self, topic: str, group: str) -> Consumer:
        """Join `group`. Records a group has not yet consumed are kept until the log's size limit."""
        ...

    async def ledger(self, topic: str) -> Sequence[LedgerEntry]: ...

    async def check(self) -> None:
        """Raises BusUnavailable when a publish would fail now; for readiness."""
        ...

    async def close(self) -> None:
        """Finish what was begun, then close. Idempotent."""
        ...
