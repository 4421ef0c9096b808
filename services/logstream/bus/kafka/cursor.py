"""A partition being read: where it stands, and what lies there until it is asked for."""

import asyncio
from collections import deque

from logstream.bus.protocol import Message
from logstream.errors import LogStreamError

Place = tuple[str, int]
"""Topic and partition."""


class Gone(LogStreamError):
    """The offset to read is not in the partition (any more)."""

    code = "offset_gone"


class Cursor:
    """One partition being read. `records` are consecutive and end before `next`, the offset to come.

    passed: the last offset that could not be read, -1 for none.
    """

    __slots__ = (
        "bytes", "damaged", "epoch", "fault", "gaps", "grown", "keep", "next", "passed", "paused", "place", "records",
        "used_at",
    )  # fmt: skip

    def __init__(self, place: Place, offset: int, keep: bool) -> None:
        self.place = place
        self.keep = keep
        self.next = offset
        self.records: deque[Message] = deque()
        self.bytes = 0
        self.paused = False
        self.epoch = 0
        self.damaged = 0
        self.passed = -1
        self.gaps = 0
        self.fault: LogStreamError | None = None
        self.grown: asyncio.Future[None] | None = None
        self.used_at = 0.0

    @property
    def first(self) -> int:
        """Offset of the oldest record that lies here."""
        return self.records[0].offset if self.records else self.next

    def wake(self) -> None:
        if self.grown is not None:
            if not self.grown.done():
                self.grown.set_result(None)
            self.grown = None

    def drop_before(self, offset: int) -> None:
        while self.records and self.records[0].offset < offset:
            self.bytes -= len(self.records.popleft().value)

    def take(self, offset: int, max_bytes: int) -> list[Message]:
        """From `offset` on: at least one when there is one, then no more than `max_bytes`."""
        found: list[Message] = []
        for message in reversed(self.records):
            if message.offset < offset:
                break
            found.append(message)
        found.reverse()
        size = 0
        for count, message in enumerate(found):
            size += len(message.value)
            if count and size > max_bytes:
                return found[:count]
        return found
