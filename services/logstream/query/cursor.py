"""Tail cursors: how far a client has read, as an opaque text that survives restarts of both sides.

Wire form, base64url without padding, big-endian:

    1 byte   version (1)
    4 bytes  which stream: the first bytes of SHA-256(stream id)
    4 bytes  incarnation of the log
    2 bytes  number of partitions
    12 bytes for each partition: offset (8), row (4) of the next line to send
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import NamedTuple

from logstream.errors import InvalidValue
from logstream.stream import Stream

_VERSION = 1
_HEAD = struct.Struct(">B4sIH")
_POSITION = struct.Struct(">QI")
_MAX_PARTITIONS = 1024
_MAX_TEXT = 4 * (_HEAD.size + _MAX_PARTITIONS * _POSITION.size) // 3 + 4


class Position(NamedTuple):
    """The next line of a partition to send: row `row` of the bus record at `offset`."""

    offset: int
    row: int = 0


Positions = tuple[Position, ...]
BEGINNING = Position(0)


def moved(positions: Positions, partition: int, position: Position) -> Positions:
    """`positions` with that of `partition` replaced."""
    return (*positions[:partition], position, *positions[partition + 1 :])


@dataclass(frozen=True, slots=True)
class Cursor:
    """stream: see `stream_tag`. positions: one for each partition of the log, in order."""

    stream: bytes
    incarnation: int
    positions: tuple[Position, ...]

    def encode(self) -> str:
        """The text clients keep."""
        parts = [_HEAD.pack(_VERSION, self.stream, self.incarnation, len(self.positions))]
        parts += [_POSITION.pack(*position) for position in self.positions]
        return base64.urlsafe_b64encode(b"".join(parts)).rstrip(b"=").decode()


def stream_tag(stream: Stream) -> bytes:
    """Four bytes that tell one stream's cursors from another's."""
    return hashlib.sha256(stream.stream_id.encode()).digest()[:4]


def decode(text: str, stream: Stream) -> Cursor:
    """The cursor that `text` is. Raises InvalidValue for what is none, of another version or of another stream."""
    wrong = InvalidValue("cursor is not one that this LogStream has given out", field="cursor")
    if len(text) > _MAX_TEXT:
        raise wrong
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, tag, incarnation, count = _HEAD.unpack_from(data)
    except (binascii.Error, UnicodeEncodeError, ValueError, struct.error):
        raise wrong from None
    if version != _VERSION or not 1 <= count <= _MAX_PARTITIONS or len(data) != _HEAD.size + count * _POSITION.size:
        raise wrong
    if tag != stream_tag(stream):
        raise InvalidValue(f"cursor belongs to another stream than '{stream.name}'", field="cursor")
    positions = tuple(Position(*pair) for pair in _POSITION.iter_unpack(data[_HEAD.size :]))
    return Cursor(tag, incarnation, positions)
