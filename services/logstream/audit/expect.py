"""What a record of the log must have become, and what is wrong when it has not. Pure.

A record that came to its end is stored row by row, each row once, but for rows that are dead letters; or it repeats an
earlier request under its Idempotency-Key and none of its rows is stored; or its rows are older than they are kept.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from logstream.bus.header import NO_KEY, Header

_KINDS = ("lost", "doubled", "stray", "ledger")


@dataclass(frozen=True, slots=True)
class Problem:
    """kind: lost (accepted, and nowhere), doubled (stored or kept more than once), stray (stored without having been
    accepted), ledger (a counter says something else). rows: how many."""

    kind: str
    rows: int
    partition: int
    offset: int
    detail: str


@dataclass(frozen=True, slots=True)
class Held:
    """What there is of one record. rows: stored. distinct: by their number. letters: rows that are dead letters."""

    rows: int = 0
    distinct: int = 0
    letters: int = 0
    whole: bool = False
    """A letter holds the record as a whole."""


@dataclass(slots=True)
class Sums:
    """Rows by API key."""

    accepted: Counter[str] = field(default_factory=Counter)
    deduplicated: Counter[str] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Sums") -> None:
        """All of `other`, too."""
        self.accepted.update(other.accepted)
        self.deduplicated.update(other.deduplicated)
        self.dead_lettered.update(other.dead_lettered)
        self.in_flight.update(other.in_flight)


class Expectations:
    """One partition's records, in the order of offsets, and what became of them.

    window_ns: how long an Idempotency-Key is remembered. first_offset: of the oldest record there is; of records before
    it nothing is known.
    """

    def __init__(self, partition: int, *, window_ns: int, first_offset: int) -> None:
        self.partition = partition
        self.problems: list[Problem] = []
        self.expired = 0
        self.unknown_letters = 0
        self._window_ns = window_ns
        self.first_offset = first_offset
        self._started: int | None = None
        self._claims: dict[bytes, int] = {}

    def lose_before(self, offset: int) -> None:
        """Of records before `offset` that were not seen nothing will be known."""
        self.first_offset = offset
        self._started = None

    def check(self, offset: int, header: Header | None, held: Held, *, expired: bool, letters_gone: bool) -> bool:
        """Whether the record repeats an earlier one. header: None when it cannot be read.

        expired: rows may be older than they are kept. letters_gone: dead letters of that time may be gone.
        """
        if header is None:
            if not held.whole and not letters_gone:
                self._tell("lost", 1, offset, "a record that cannot be read is no dead letter")
            return False
        if self._started is None:
            self._started = header.received_at
        repeats = self._repeats(header, held)
        if held.rows > held.distinct:
            self._tell("doubled", held.rows - held.distinct, offset, "rows are stored more than once")
        there = held.distinct + held.letters
        if held.whole or repeats:
            if there:
                why = "a dead letter as a whole" if held.whole else "a repeat of an Idempotency-Key"
                self._tell("doubled", there, offset, f"rows of {why} are stored")
        elif there > header.rows:
            self._tell("doubled", there - header.rows, offset, f"{there} rows of a record of {header.rows}")
        elif there < header.rows:
            self._missing(header.rows - there, header.rows, offset, expired=expired, letters_gone=letters_gone)
        return repeats and not held.whole

    def _missing(self, missing: int, rows: int, offset: int, *, expired: bool, letters_gone: bool) -> None:
        if expired:
            self.expired += missing
        elif letters_gone:
            self.unknown_letters += missing
        else:
            self._tell("lost", missing, offset, f"{missing} of {rows} rows are neither stored nor dead letters")

    def _repeats(self, header: Header, held: Held) -> bool:
        if NO_KEY in (header.idempotency_key, header.fingerprint):
            return False
        both = header.idempotency_key + header.fingerprint
        earlier = self._claims.get(both)
        if earlier is not None and header.received_at - earlier < self._window_ns:
            return True
        assert self._started is not None
        young = self.first_offset > 0 and header.received_at - self._started < self._window_ns
        if earlier is None and young and not held.rows and not held.letters:
            # What it repeats stood before the oldest record there is.
            return True
        self._claims.pop(both, None)
        self._claims[both] = header.received_at
        self._forget(header.received_at - 2 * self._window_ns)
        return False

    def _forget(self, before: int) -> None:
        while self._claims:
            oldest = next(iter(self._claims))
            if self._claims[oldest] >= before:
                return
            del self._claims[oldest]

    def _tell(self, kind: str, rows: int, offset: int, detail: str) -> None:
        assert kind in _KINDS
        self.problems.append(Problem(kind, rows, self.partition, offset, detail))


def rows_by_key(header: Header) -> Mapping[str, int]:
    """Whose rows a record has."""
    rows: Counter[str] = Counter()
    for segment in header.segments:
        rows[segment.key_id] += segment.rows
    return rows
