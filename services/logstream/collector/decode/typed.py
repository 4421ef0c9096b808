"""The fast way: records exactly as documented, many at once, straight into columns.

Whatever is unusual (another field name, a nested value, a limit exceeded, an unknown level) raises Unusual
for the whole piece; the lenient way then looks at each record. On what this accepts both agree; a property
test holds them to it.
"""

from collections.abc import Sequence
from itertools import chain

import msgspec

from logstream.collector.decode import timestamps
from logstream.record import LEVEL_ALIASES, Batch, Level
from logstream.settings import IngestLimits
from logstream.storage.block import extent

DEFAULT_SERVICE = "unknown"
MARK_PREFIX = "logstream."
"""Metadata keys with this prefix are set by LogStream."""


class Unusual(Exception):
    """Not every record of the piece is in canonical form and within limits."""


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    message: str
    timestamp: str | int | None = None
    service: str = DEFAULT_SERVICE
    level: str = "info"
    metadata: dict[str, str] = {}  # msgspec gives each record a dict of its own
    trace_id: str = ""
    span_id: str = ""


_LINE = msgspec.json.Decoder(_Line)
_ARRAY = msgspec.json.Decoder(list[_Line])

_LEVELS: dict[str, Level] = LEVEL_ALIASES | {name.upper(): level for name, level in LEVEL_ALIASES.items()}


def decode(
    piece: bytes | bytearray | memoryview, *, is_array: bool, now: int, latest: int, limits: IngestLimits
) -> Batch:
    """The records of a JSON array, or of JSON values one after another (NDJSON), as columns.

    now: what a record without a timestamp gets. latest: the last timestamp allowed, ns.
    Raises Unusual.
    """
    try:
        lines = _ARRAY.decode(piece) if is_array else _LINE.decode_lines(piece)
        stamps = timestamps.parse_column([line.timestamp for line in lines], now)
        # Enum members would keep their class; the column is plain bytes 1 to 6.
        levels = bytes([_LEVELS[line.level] for line in lines])
    except (ValueError, KeyError, RecursionError) as error:
        raise Unusual from error
    batch = Batch(
        timestamps=stamps,
        services=[line.service for line in lines],
        levels=levels,
        messages=[line.message for line in lines],
        metadata=[line.metadata for line in lines],
        trace_ids=[line.trace_id for line in lines],
        span_ids=[line.span_id for line in lines],
    )
    if lines:
        _check(batch, piece, latest, limits)
    return batch


def _check(batch: Batch, piece: bytes | bytearray | memoryview, latest: int, limits: IngestLimits) -> None:
    """Raises Unusual when any limit might be exceeded; false alarms only cost the slow way."""
    if extent(batch)[1] > latest or max(map(len, batch.metadata)) > limits.max_metadata_keys:
        raise Unusual
    names = set(batch.services)
    if "" in names:
        raise Unusual
    names.update(batch.trace_ids, batch.span_ids, _keys(batch.metadata))
    # A character takes up to four bytes of UTF-8.
    name_limit = limits.max_name_bytes // 4
    for name in names:
        if len(name) > name_limit or name.startswith(MARK_PREFIX):
            raise Unusual
    value_limit = min(limits.max_message_bytes, limits.max_metadata_value_bytes)
    if len(piece) > value_limit and not _records_are_short(piece, value_limit):
        longest = max(map(len, batch.messages))
        values = max(map(len, chain.from_iterable(map(dict.values, batch.metadata))), default=0)
        if longest > limits.max_message_bytes // 4 or values > limits.max_metadata_value_bytes // 4:
            raise Unusual


def _keys(rows: Sequence[dict[str, str]]) -> Sequence[str]:
    """The metadata keys that occur, once or more often."""
    first = list(rows[0])
    keys = list(chain.from_iterable(rows))
    if len(first) * len(rows) == len(keys) and keys == first * len(rows):
        return first
    return keys


def _records_are_short(piece: bytes | bytearray | memoryview, limit: int) -> bool:
    """Whether no two newlines are more than `limit` bytes apart: then no string in between is longer.

    Looks at a few places only: jumps from newline to newline by up to `limit` bytes.
    """
    if isinstance(piece, memoryview):
        return False
    at, end = 0, len(piece)
    while end - at > limit:
        newline = piece.rfind(b"\n", at, at + limit)
        if newline <= at:
            return False
        at = newline
    return True
