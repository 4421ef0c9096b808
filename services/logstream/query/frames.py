"""What a tail client receives: frames, rendered once and shared by every client they are for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from logstream.query.cursor import BEGINNING, Position
from logstream.query.entry import render
from logstream.query.filter import LogFilter, select
from logstream.record import Batch


@dataclass(slots=True)
class Piece:
    """Neighbouring lines of one bus record: `batch` begins at its row `first`. Each line is rendered once at most."""

    offset: int
    first: int
    batch: Batch
    _rendered: dict[int, bytes] = field(default_factory=dict)

    def line(self, row: int) -> bytes:
        """Row `row` of `batch` as JSON."""
        found = self._rendered.get(row)
        if found is None:
            found = self._rendered[row] = render(self.batch, row)
        return found


class Lines:
    """Lines that go out together as one frame; rendered when the first client takes them.

    records: how many lines. cursor: where a client that has received them goes on.
    """

    def __init__(self, matched: Sequence[tuple[Piece, int]], cursor: str) -> None:
        self.records = len(matched)
        self.cursor = cursor
        self._matched = matched

    @cached_property
    def array(self) -> str:
        """`[line, …]`, as `/ws` sends it."""
        joined = b",".join([piece.line(row) for piece, row in self._matched])
        self._matched = ()
        return "[" + joined.decode() + "]"

    @property
    def text(self) -> str:
        """`{"type":"records","records":[…],"cursor":"…"}`."""
        return f'{{"type":"records","records":{self.array},"cursor":"{self.cursor}"}}'

    @property
    def size(self) -> int:
        """Characters waiting in a client's queue."""
        return len(self.array)


@dataclass(slots=True)
class Gap:
    """Lines a client does not get because it is slow, or (`records` None) that can no longer be known."""

    records: int | None
    cursor: str
    size: int = 0

    @property
    def text(self) -> str:
        dropped = "null" if self.records is None else self.records
        return f'{{"type":"gap","dropped":{dropped},"cursor":"{self.cursor}"}}'


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent first, and whenever there was nothing to send for a while: the cursor moves on past lines not asked for."""

    cursor: str
    records: int = 0
    size: int = 0

    @property
    def text(self) -> str:
        return f'{{"type":"heartbeat","cursor":"{self.cursor}"}}'


Frame = Lines | Gap | Heartbeat


def match(logs: LogFilter, pieces: Sequence[Piece], start: Position = BEGINNING) -> list[tuple[Piece, int]]:
    """The lines of `pieces` from `start` on that `logs` asks for, as (piece, row in it)."""
    return [
        (piece, row)
        for piece in pieces
        for row in select(logs, piece.batch)
        if piece.offset > start.offset or (piece.offset == start.offset and piece.first + row >= start.row)
    ]
