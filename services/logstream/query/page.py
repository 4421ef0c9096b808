"""Pages of a search: a snapshot that every page answers from, and the cursor that carries it.

A page that only said "older than this line" would skip lines that arrive late with old timestamps in front of it, and
show others behind it. So the first page fixes what is stored: of each partition of the log everything before the
offset that the processor has committed. Later lines are of the next search.

Wire form of a cursor, base64url without padding, big-endian:

    1 byte   version (0x11: not to be mistaken for a tail's)
    4 bytes  which stream: see `logstream.query.cursor.stream_tag`
    8 bytes  which filter: the first bytes of SHA-256
    8 bytes  where the range of time begins, ns since the epoch
    26 bytes the place of the last line of the page
    4 bytes  incarnation of the log
    2 bytes  number of partitions
    8 bytes  for each partition: the first offset that is not in the snapshot
    4 bytes  checksum: the first bytes of SHA-256 of all that
"""

import hashlib
import json
import struct
from dataclasses import dataclass

from logstream.bus.known import known_topic
from logstream.bus.protocol import Bus
from logstream.errors import InvalidValue
from logstream.query.condition import Condition
from logstream.query.cursor import stream_tag
from logstream.query.filter import LogFilter
from logstream.query.place import PLACE, Place, from_text, to_text
from logstream.query.time import MIN_NS
from logstream.stream import Stream

GROUP = "processor"
"""The consumer group whose position says what is stored."""
_VERSION = 0x11
_HEAD = struct.Struct(f">B4s8sq{PLACE.size}sIH")
_OFFSET = struct.Struct(">Q")
_SUM_BYTES = 4
_MAX_PARTITIONS = 1024
_MAX_BYTES = _HEAD.size + _MAX_PARTITIONS * _OFFSET.size + _SUM_BYTES


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was stored at one moment. ends: of each partition, the first offset that was not."""

    incarnation: int
    ends: tuple[int, ...]

    def to_sql(self, incarnation: int) -> Condition:
        """Whether a line is in it. incarnation: the log's at present. Parameter names begin with "s_"."""
        # A partition that came later has no element, which reads as 0.
        sql = "(incarnation != {s_incarnation:UInt32} OR offset < {s_ends:Array(UInt64)}[partition + 1])"
        parameters: dict[str, object] = {"s_incarnation": self.incarnation, "s_ends": list(self.ends)}
        if incarnation != self.incarnation:
            # The log was begun anew since: all of it came later.
            sql += " AND incarnation != {s_present:UInt32}"
            parameters["s_present"] = incarnation
        return Condition(sql, parameters)


async def snapshot(bus: Bus, stream: Stream) -> Snapshot:
    """What the processor has stored by now. Raises BusUnavailable."""
    topic = await known_topic(bus, stream.topic)
    ends: list[int] = []
    for partition in range(topic.partitions):
        position = await bus.committed(topic.name, GROUP, partition)
        # The position of an earlier topic of this name says nothing about this one.
        ours = position.metadata and json.loads(position.metadata).get("incarnation") == topic.incarnation
        ends.append(position.offset if ours else 0)
    return Snapshot(topic.incarnation, tuple(ends))


def digest(logs: LogFilter) -> bytes:
    """Eight bytes that tell one filter's cursors from another's."""
    return hashlib.sha256(repr((logs.where, logs.start, logs.end)).encode("utf-8", "backslashreplace")).digest()[:8]


@dataclass(frozen=True, slots=True)
class PageCursor:
    """Where a search goes on.

    stream, asked: see `stream_tag`, `digest`. start: of the range of time, ns since the epoch, fixed by the first page.
    after: the last line that the client has.
    """

    stream: bytes
    asked: bytes
    start: int
    after: Place
    snapshot: Snapshot

    def encode(self) -> str:
        """The text clients keep."""
        ends = self.snapshot.ends
        after = PLACE.pack(*self.after)
        head = _HEAD.pack(_VERSION, self.stream, self.asked, self.start, after, self.snapshot.incarnation, len(ends))
        data = head + b"".join(map(_OFFSET.pack, ends))
        return to_text(data + _checksum(data))


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_SUM_BYTES]


def decode(text: str, stream: Stream, asked: LogFilter) -> PageCursor:
    """The cursor that `text` is. Raises InvalidValue for what is none, of another version, stream or filter.

    The checksum finds damage, not malice: a forged cursor shows nothing that its stream's readers may not see.
    """
    wrong = InvalidValue("cursor is not one that a search of this LogStream has given out", field="cursor")
    whole = from_text(text, max_bytes=_MAX_BYTES)
    if whole is None or len(whole) < _HEAD.size + _SUM_BYTES:
        raise wrong
    data, checksum = whole[:-_SUM_BYTES], whole[-_SUM_BYTES:]
    version, tag, filter_tag, start, place, incarnation, count = _HEAD.unpack_from(data)
    if version != _VERSION or checksum != _checksum(data) or len(data) != _HEAD.size + count * _OFFSET.size:
        raise wrong
    if tag != stream_tag(stream):
        raise InvalidValue(f"cursor belongs to another stream than '{stream.name}'", field="cursor")
    if filter_tag != digest(asked):
        raise InvalidValue(
            "cursor belongs to another search: send it with the very parameters of the first page", field="cursor"
        )
    after = Place(*PLACE.unpack(place))
    if start < MIN_NS or after.timestamp < MIN_NS:
        raise wrong
    ends = tuple(end for (end,) in _OFFSET.iter_unpack(data[_HEAD.size :]))
    return PageCursor(tag, filter_tag, start, after, Snapshot(incarnation, ends))
