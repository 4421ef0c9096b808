"""A dead letter: an accepted row that ClickHouse will never take, with all that is needed to look into it."""

import base64
import hashlib
from dataclasses import dataclass, replace

import msgspec

from logstream.bus.header import MAX_KEY_ID, Header, Kind, Segment
from logstream.bus.protocol import Claim
from logstream.record import Level, Record


@dataclass(frozen=True, slots=True)
class Letter:
    """row: number of the row in its bus record; None when the whole record cannot be read (`rows` of them, raw
    is then the record's value, else the body of a block with the one row). received_at, died_at: ns."""

    stream: str
    incarnation: int
    partition: int
    offset: int
    row: int | None
    rows: int
    key_id: str
    received_at: int
    died_at: int
    reason: str
    clickhouse_code: int
    raw: bytes
    record: Record | None = None

    def header(self) -> Header:
        timestamp = self.record.timestamp if self.record else self.received_at
        # Several keys' rows in one letter: their names, as far as a segment has room.
        segments = (Segment(self.key_id[:MAX_KEY_ID], 1),)
        return Header(1, self.received_at, timestamp, timestamp, segments, kind=Kind.DEAD_LETTER)

    def claim(self) -> Claim:
        """The same row claims the same, so that it becomes one letter however often it is refused."""
        identity = f"dead-letter/{self.stream}/{self.incarnation}:{self.partition}:{self.offset}:{self.row}"
        digest = hashlib.sha256(identity.encode()).digest()
        return Claim(digest[:16], digest[16:])

    def cut(self, size: int) -> "Letter":
        """The same with no more than `size` bytes, saying so."""
        reason = (
            f"{self.reason} (its {len(self.raw)} bytes are too many for a dead letter: the first {size} are here, all"
            f" of them in the log at partition {self.partition}, offset {self.offset}, as long as it keeps them)"
        )
        return replace(self, raw=self.raw[:size], reason=reason)

    def payload(self) -> bytes:
        """JSON; nanoseconds as integers, raw bytes in base64."""
        record = self.record and {
            "timestamp": self.record.timestamp,
            "service": self.record.service,
            "level": Level(self.record.level).label,
            "message": self.record.message,
            "metadata": self.record.metadata,
            "trace_id": self.record.trace_id,
            "span_id": self.record.span_id,
        }
        return msgspec.json.encode({
            "version": 1,
            "stream": self.stream,
            "key_id": self.key_id,
            "incarnation": self.incarnation,
            "partition": self.partition,
            "offset": self.offset,
            "row": self.row,
            "rows": self.rows,
            "received_at": self.received_at,
            "died_at": self.died_at,
            "reason": self.reason,
            "clickhouse_code": self.clickhouse_code,
            "record": record,
            "raw": base64.b64encode(self.raw).decode(),
        })  # fmt: skip
