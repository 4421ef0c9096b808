"""The value of one record on the bus: a small versioned header, then the payload.

All integers are little-endian.

    offset  size  field
    0       2     magic, "LS"
    2       1     version (1)
    3       1     kind: 0 = block of rows (payload: see logstream.storage.block), 1 = dead letter (JSON),
                  2 = disposition of dead letters (JSON: see logstream.letters.format)
    4       4     header length in bytes, magic included
    8       4     rows
    12      8     received_at, ns since the epoch, UTC (one per record; decides the partition day)
    20      8     smallest timestamp of the rows, ns
    28      8     largest timestamp of the rows, ns
    36      16    idempotency key: first 16 bytes of SHA-256(stream key id, key), zeros when there is none
    52      2     number of segments
    54      …     segments: 1 byte length of the key id, the key id (ASCII), 4 bytes number of rows
    …       …     extensions, up to the header length: 1 byte type, 2 bytes length, data

Segments say, in order, which API key sent how many of the rows; they add up to `rows`.
Extension 1 is the fingerprint: 16 bytes that identify the request's body, beside an idempotency key.

Readers skip extensions that they do not know, and every reader of version 1 skips what stands between the
segments and the header length: so an upgrade rolls in both directions. A version that they do not know they
leave alone. docs/bus-format.md has the rules.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from logstream.errors import LogStreamError

_FIXED = struct.Struct("<2sBBIIqqq16sH")
_MAGIC = b"LS"
_VERSION = 1
FIXED_BYTES = _FIXED.size
_EXTENSION = struct.Struct("<BH")
_FINGERPRINT = 1
NO_KEY = bytes(16)
MAX_KEY_ID = 255
"""Bytes of a segment's key id."""
_LATEST = 4_102_444_800 * 10**9
"""The year 2100: later, or before 1970, no collector receives anything, and days and minutes are 16 and 32 bits."""


class Kind(IntEnum):
    BLOCK = 0
    DEAD_LETTER = 1
    DISPOSITION = 2


class MalformedRecord(LogStreamError):
    """Bytes on the bus that are not one of our records."""

    code = "malformed_record"


class NewerVersion(MalformedRecord):
    """A record of a LogStream newer than this one: wait for an upgrade instead of giving the record up."""

    code = "newer_record_version"


@dataclass(frozen=True, slots=True)
class Segment:
    """`rows` consecutive rows sent with the API key `key_id`."""

    key_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Header:
    """See the module for the wire form."""

    rows: int
    received_at: int
    min_timestamp: int
    max_timestamp: int
    segments: tuple[Segment, ...]
    idempotency_key: bytes = NO_KEY
    kind: Kind = Kind.BLOCK
    fingerprint: bytes = NO_KEY


def encode(header: Header, payload: bytes) -> bytes:
    """Header and payload as one bus value."""
    parts = [b""]
    for segment in header.segments:
        key_id = segment.key_id.encode("ascii")
        parts.append(bytes((len(key_id),)) + key_id + segment.rows.to_bytes(4, "little"))
    if header.fingerprint != NO_KEY:
        parts.append(_EXTENSION.pack(_FINGERPRINT, len(header.fingerprint)) + header.fingerprint)
    length = _FIXED.size + sum(map(len, parts))
    parts[0] = _FIXED.pack(
        _MAGIC, _VERSION, header.kind, length, header.rows, header.received_at, header.min_timestamp,
        header.max_timestamp, header.idempotency_key, len(header.segments),
    )  # fmt: skip
    parts.append(payload)
    return b"".join(parts)


def decode(value: bytes) -> tuple[Header, memoryview]:
    """The header and a view of the payload.

    Raises MalformedRecord for anything that is not a whole record, NewerVersion for one of a later version.
    """
    try:
        magic, version, kind, length, rows, received_at, low, high, key, count = _FIXED.unpack_from(value)
        if magic == _MAGIC and version > _VERSION:
            raise NewerVersion(f"a record of version {version}; this LogStream reads up to {_VERSION}: upgrade it")
        if magic != _MAGIC or version != _VERSION:
            raise MalformedRecord(f"not a LogStream record of version {_VERSION}: {value[:4]!r}")
        segments, size = _read_segments(value, _FIXED.size, count)
        at = _FIXED.size + size
        if at > length or length > len(value) or sum(s.rows for s in segments) != rows:
            raise MalformedRecord("record header is inconsistent")
        fingerprint = NO_KEY if at == length else _read_extensions(value, at, length)
        header = Header(rows, received_at, low, high, segments, key, Kind(kind), fingerprint)
    except (struct.error, IndexError, ValueError) as error:
        raise MalformedRecord(f"record header cannot be read: {error}") from error
    return header, memoryview(value)[length:]


def decode_block(value: bytes) -> tuple[Header, memoryview]:
    """As `decode`, of what may stand on a stream's topic: a block of rows that a collector received.

    Whoever counts a stream's rows counts those of these records only. Raises MalformedRecord, NewerVersion.
    """
    header, payload = decode(value)
    if header.kind is not Kind.BLOCK:
        raise MalformedRecord(f"a record of kind {header.kind.name} does not belong here")
    if not 0 <= header.received_at < _LATEST:
        raise MalformedRecord(f"received_at is out of range: {header.received_at}")
    return header, payload


def _read_segments(data: bytes, start: int, count: int) -> tuple[tuple[Segment, ...], int]:
    """`count` segments from `start` on, and how many bytes they take. Raises IndexError, ValueError."""
    at = start
    segments: list[Segment] = []
    for _ in range(count):
        size = data[at]
        end = at + 1 + size + 4
        if end > len(data):
            raise IndexError("segments end early")
        segments.append(Segment(data[at + 1 : end - 4].decode("ascii"), int.from_bytes(data[end - 4 : end], "little")))
        at = end
    return tuple(segments), at - start


def _read_extensions(data: bytes, start: int, end: int) -> bytes:
    """The fingerprint among the extensions between `start` and `end`. Raises MalformedRecord, struct.error."""
    fingerprint = NO_KEY
    at = start
    while at < end:
        kind, size = _EXTENSION.unpack_from(data, at)
        at += _EXTENSION.size + size
        if at > end or (kind == _FINGERPRINT and size != len(NO_KEY)):
            raise MalformedRecord("record header has a damaged extension")
        if kind == _FINGERPRINT:
            fingerprint = data[at - size : at]
    return fingerprint


def received_at(value: bytes) -> int:
    """The time in the first `FIXED_BYTES` of an encoded record, ns."""
    return int.from_bytes(value[12:20], "little", signed=True)


def wire_segments(value: bytes) -> bytes:
    """The segments of an encoded record as they stand in its header; `decode_segments` reads them."""
    count = int.from_bytes(value[52:54], "little")
    at = _FIXED.size
    for _ in range(count):
        at += 5 + value[at]
    return value[52:at] if count else b""


def decode_segments(wire: bytes) -> tuple[Segment, ...]:
    """The inverse of `wire_segments`. Raises MalformedRecord."""
    if not wire:
        return ()
    try:
        return _read_segments(wire, 2, int.from_bytes(wire[:2], "little"))[0]
    except (IndexError, ValueError) as error:
        raise MalformedRecord(f"segments cannot be read: {error}") from error


def segments_of(pairs: Sequence[tuple[str, int]]) -> tuple[Segment, ...]:
    """(key id, rows) pairs as segments, neighbours of one key joined."""
    joined: list[Segment] = []
    for key_id, rows in pairs:
        if joined and joined[-1].key_id == key_id:
            joined[-1] = Segment(key_id, joined[-1].rows + rows)
        else:
            joined.append(Segment(key_id, rows))
    return tuple(joined)
