"""Where a stored line is: the order that searches answer in, and the `id` by which a line is found again.

Wire form of an id, base64url without padding, big-endian:

    1 byte   version (1)
    4 bytes  which stream: see `logstream.query.cursor.stream_tag`
    26 bytes the place
"""

import base64
import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from logstream.errors import InvalidValue
from logstream.query.condition import Condition
from logstream.query.cursor import stream_tag
from logstream.query.entry import Entry
from logstream.query.time import MIN_NS, format_time
from logstream.record import LEVEL_LABELS, Record
from logstream.storage.schema import BUCKET, NEWEST_FIRST
from logstream.stream import Stream

PLACE = struct.Struct(">qHQII")
"""A `Place`: 26 bytes."""
_HEAD = struct.Struct(">B4s")
_VERSION = 1
_ENCODER = msgspec.json.Encoder()

LINE = (
    "toUnixTimestamp64Nano(timestamp) AS ns, service, toInt8(level) AS number, message, metadata, trace_id, span_id, "
    "partition, offset, row, incarnation"
)
"""Columns of `Line.of`."""
DESCENDING = f"{NEWEST_FIRST}, partition DESC, offset DESC, row DESC, incarnation DESC"
ASCENDING = f"{BUCKET}, timestamp, partition, offset, row, incarnation"


class Place(NamedTuple):
    """Of one line; compares as lines are sorted. timestamp: ns since the epoch. row: within the bus record."""

    timestamp: int
    partition: int
    offset: int
    row: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Line:
    """A stored line and its place."""

    place: Place
    record: Record

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Line":
        """row: the columns of `LINE`."""
        return cls(Place(row[0], *row[7:11]), Record(*row[:7]))


class PlacedEntry(Entry, omit_defaults=True, gc=False):
    """A line as the API answers it, and its id."""

    id: str = ""


def entries(lines: Iterable[Line], stream: Stream) -> list[PlacedEntry]:
    """`lines` as answers hold them."""
    tag = stream_tag(stream)
    return [
        PlacedEntry(
            format_time(r.timestamp), r.service, LEVEL_LABELS[r.level - 1], r.message, r.metadata, r.trace_id,
            r.span_id, _encode(line.place, tag),
        )
        for line in lines
        for r in (line.record,)
    ]  # fmt: skip


def to_text(data: bytes) -> str:
    """Bytes as clients keep them: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_text(text: str, *, max_bytes: int) -> bytes | None:
    """What `to_text` was given; None for a text that it does not make."""
    if len(text) > 4 * max_bytes // 3 + 4:
        return None
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return None
    # Some texts differ in bits that no byte holds.
    return data if to_text(data) == text else None


def _encode(place: Place, tag: bytes) -> str:
    return to_text(_HEAD.pack(_VERSION, tag) + PLACE.pack(*place))


def encode_id(place: Place, stream: Stream) -> str:
    """The id of the line at `place`."""
    return _encode(place, stream_tag(stream))


def decode_id(text: str, stream: Stream) -> Place:
    """The place that `text` names. Raises InvalidValue for what is no id, or of another stream."""
    data = from_text(text, max_bytes=_HEAD.size + PLACE.size)
    if data is None or len(data) != _HEAD.size + PLACE.size or data[0] != _VERSION:
        raise InvalidValue("id is not one that this LogStream has given out", field="id")
    if data[1:5] != stream_tag(stream):
        raise InvalidValue(f"id belongs to another stream than '{stream.name}'", field="id")
    place = Place(*PLACE.unpack(data[_HEAD.size :]))
    if place.timestamp < MIN_NS:
        raise InvalidValue("id is not one that this LogStream has given out", field="id")
    return place


def beyond(place: Place, order: str) -> Condition:
    """Lines that stand in `order` ("<" or ">") to the one at `place`. Parameter names begin with "p_"."""
    instant = "fromUnixTimestamp64Nano({p_timestamp:Int64}, 'UTC')"
    return Condition(
        f"(timestamp {order} {instant} OR timestamp = {instant} AND (partition, offset, row, incarnation) {order} "
        "({p_partition:UInt16}, {p_offset:UInt64}, {p_row:UInt32}, {p_incarnation:UInt32}))",
        {f"p_{name}": value for name, value in place._asdict().items()},
    )
