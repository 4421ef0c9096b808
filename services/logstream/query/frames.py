"""What a tail client receives: frames, rendered once and shared by every client they are for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from logstream.errors import TooExpensive
from logstream.query.cursor import BEGINNING, Position
from logstream.query.entry import render
from logstream.query.filter import LogFilter, select
from logstream.record import Batch

MATCH_SECONDS = 0.5
_MATCH_ROWS = 250


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
    """The lines of `pieces` from `start` on that `logs` asks for, as (piece, row in it).

    Raises TooExpensive when that takes more than MATCH_SECONDS of CPU: everybody's tail waits for it.
    """
    found: list[tuple[Piece, int]] = []
    began = time.thread_time()
    for piece in pieces:
        if piece.offset < start.offset:
            continue
        first = max(start.row - piece.first, 0) if piece.offset == start.offset else 0
        for low in range(first, len(piece.batch), _MATCH_ROWS):
            rows = range(low, min(low + _MATCH_ROWS, len(piece.batch)))
            found += [(piece, row) for row in select(logs, piece.batch, rows)]
            if time.thread_time() - began > MATCH_SECONDS:
                raise TooExpensive(
                    f"the filter takes longer than {MATCH_SECONDS:g} s for a moment's lines: use fewer or simpler "
                    "regular expressions",
                    field="query",
                    limit=MATCH_SECONDS,
                )
    return found
