"""What stands on a dead-letter topic: letters, and behind them dispositions, which say what became of letters.

A letter is written by `logstream.processor.letter`. A disposition is a record of kind DISPOSITION on the letters' own
partition; its payload is JSON:

    version  1
    action   replaying, replayed, discarded or tally
    op       names the operation: 32 hex digits
    by, at   who, and when in ns
    letters  [[offset of the letter, n], …]; n is, for replaying and discarded, the offset of what the writer took for
             the letter's latest: its last disposition, else the letter itself. The disposition counts for a letter
             only while that is so: of two writers the first in the topic's order wins. For replayed: the offset on
             the main topic
    changes  replaying: what is changed in the rows (`logstream.letters.edit`), or null
    incarnation, after   of the main topic; replaying: its partition's end before anything was published
    last     tally: the offset of the record before it; counts only when none came between
    replayed, discarded  tally: rows by API key, of all dispositions before it, those that are gone included
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from logstream.bus import header
from logstream.bus.header import Header, Kind, MalformedRecord
from logstream.bus.protocol import Claim, Message
from logstream.stream import Stream

MAX_LETTERS = 256
"""Letters of one disposition; keeps it to some 10 kB, and what one crash leaves unfinished small."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a foreign record says may be anything."""

Share = tuple[tuple[str, int], ...]
"""Whose rows a letter has: (API key id, rows)."""


class Disposition(msgspec.Struct, frozen=True, kw_only=True):
    """See the module."""

    version: int = 1
    action: str
    op: str = ""
    by: str = ""
    at: int = 0
    letters: tuple[tuple[_Count, _Count], ...] = ()
    changes: dict[str, Any] | None = None
    incarnation: int = 0
    after: int = 0
    last: int = -1
    replayed: dict[str, int] = {}
    discarded: dict[str, int] = {}


def encode(disposition: Disposition) -> tuple[Header, bytes]:
    """Header and payload of the record."""
    at = disposition.at
    return Header(0, at, at, at, (), kind=Kind.DISPOSITION), msgspec.json.encode(disposition)


class Brief(msgspec.Struct, frozen=True):
    """Of a letter what the index keeps."""

    incarnation: int
    partition: int
    offset: _Count
    row: _Count | None
    rows: _Count
    key_id: str
    received_at: int
    died_at: int


class _Raw(msgspec.Struct, frozen=True):
    raw: str = ""


class Fields(msgspec.Struct, frozen=True):
    """A letter without its bytes. record: as in the payload, timestamp in ns."""

    stream: str
    key_id: str
    incarnation: int
    partition: int
    offset: int
    row: int | None
    rows: int
    received_at: int
    died_at: int
    reason: str
    clickhouse_code: int
    record: dict[str, Any] | None = None


_DISPOSITION = msgspec.json.Decoder(Disposition)
_BRIEF = msgspec.json.Decoder(Brief)
_FIELDS = msgspec.json.Decoder(Fields)
_RAW = msgspec.json.Decoder(_Raw)


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of the topic as the index takes it in: one of the two, or none for what cannot be read."""

    letter: Brief | None = None
    share: Share = ()
    disposition: Disposition | None = None


def look(value: bytes) -> Seen:
    """What a record is; never raises for what is in it."""
    try:
        head, payload = header.decode(value)
        if head.kind is Kind.DISPOSITION:
            found = _DISPOSITION.decode(payload)
            return Seen(disposition=found) if found.version == 1 else Seen()
        if head.kind is not Kind.DEAD_LETTER:
            return Seen()
        letter = _BRIEF.decode(payload)
    except (MalformedRecord, msgspec.DecodeError, ValueError):
        return Seen()
    if letter.row is not None:
        return Seen(letter, ((letter.key_id, letter.rows),))
    return Seen(letter, _share(value, letter))


def _share(value: bytes, letter: Brief) -> Share:
    """Of a letter that is a whole record: as its header says, where that can be read."""
    if not letter.rows:
        return ()
    try:
        head, _ = header.decode(raw_of(value))
    except MalformedRecord:
        return ((letter.key_id, letter.rows),)
    rows: dict[str, int] = {}
    for segment in head.segments:
        rows[segment.key_id] = rows.get(segment.key_id, 0) + segment.rows
    return tuple(rows.items())


def fields_of(message: Message) -> Fields:
    """The letter in `message`. Raises MalformedRecord."""
    try:
        _, payload = header.decode(message.value)
        return _FIELDS.decode(payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedRecord(f"this letter cannot be read: {error}") from error


def raw_of(value: bytes) -> bytes:
    """The bytes that were refused. Raises MalformedRecord."""
    try:
        _, payload = header.decode(value)
        return base64.b64decode(_RAW.decode(payload).raw)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise MalformedRecord(f"the bytes of this letter cannot be read: {error}") from error


def claim_of(stream: Stream, letter: Fields, changes: dict[str, Any] | None) -> Claim:
    """What a replay of the letter claims on the main topic: the same letter always the same key, however often it was
    written, with a fingerprint of what is changed."""
    identity = f"replay/{stream.stream_id}/{letter.incarnation}:{letter.partition}:{letter.offset}:{letter.row}"
    changed = msgspec.json.encode(changes, order="sorted")
    return Claim(hashlib.sha256(identity.encode()).digest()[:16], hashlib.sha256(changed).digest()[:16])


@dataclass(frozen=True, slots=True, order=True)
class LetterId:
    """Where a letter stands on the dead-letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"
