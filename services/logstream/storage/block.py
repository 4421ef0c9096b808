"""Blocks: a batch as columns of ClickHouse's Native format, encoded once in the collector.

The payload of a bus record is the *body*: the data columns of `COLUMNS`, one after another, each as
(name, type, data), without the block's leading counts. `seal` puts the counts in front and appends the
constant columns that only the processor knows (`PROVENANCE`); sealed blocks concatenate, so the processor
never decodes a row.

Format: ClickHouse `src/Formats/NativeWriter.cpp` and `src/DataTypes/Serializations/` at protocol revision 0
(what HTTP uses): varints are LEB128, strings are length-prefixed, LowCardinality is a version, flags, the
dictionary and the indexes, Map is offsets, keys and values.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from logstream.errors import LogStreamError
from logstream.record import LEVEL_LABELS, Batch

LEVEL_TYPE = "Enum8(" + ", ".join(f"'{name}' = {i}" for i, name in enumerate(LEVEL_LABELS, 1)) + ")"
COLUMNS: tuple[tuple[str, str], ...] = (
    ("timestamp", "DateTime64(9, 'UTC')"),
    ("service", "LowCardinality(String)"),
    ("level", LEVEL_TYPE),
    ("message", "String"),
    ("metadata", "Map(LowCardinality(String), String)"),
    ("trace_id", "String"),
    ("span_id", "String"),
)
PROVENANCE: tuple[tuple[str, str], ...] = (
    ("received_at", "DateTime64(9, 'UTC')"),
    ("key_id", "LowCardinality(String)"),
    ("incarnation", "UInt32"),
    ("partition", "UInt16"),
    ("offset", "UInt64"),
    ("row", "UInt32"),
)


class MalformedBlock(LogStreamError):
    """Bytes that are not a body this version can decode."""

    code = "malformed_block"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the rows of one bus record came from; constant over the block but for the keys.

    keys: (key id, rows) in order, adding up to the rows of the block.
    """

    received_at: int
    keys: Sequence[tuple[str, int]]
    incarnation: int
    partition: int
    offset: int


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Length prefixes of strings up to 4 kB, as bytes and as latin-1 text: most strings are shorter.
_PREFIX = [_varint(n) for n in range(4096)]
_PREFIX_TEXT = [p.decode("latin-1") for p in _PREFIX]


def _strings(values: Sequence[str]) -> bytes:
    """A String column's data: each value's UTF-8 behind its length."""
    if "".join(values).isascii():
        # ASCII length = byte length, so one join and one encode make the whole column.
        try:
            prefixes = map(_PREFIX_TEXT.__getitem__, map(len, values))
            return "".join(chain.from_iterable(zip(prefixes, values, strict=True))).encode("latin-1")
        except IndexError:
            pass
    encoded = [value.encode() for value in values]
    return b"".join(chain.from_iterable((_PREFIX[n] if (n := len(v)) < 4096 else _varint(n), v) for v in encoded))


_LC_VERSION = (1).to_bytes(8, "little")
_LC_ADDITIONAL_KEYS = 1 << 9
_LC_UPDATE_DICTIONARY = 1 << 10


def _low_cardinality(values: Sequence[str]) -> bytes:
    """A LowCardinality(String) column's data behind its version: flags, dictionary, indexes."""
    if not values:
        return b""
    ids: dict[str, int] = {"": 0}
    for value in dict.fromkeys(values):
        ids.setdefault(value, len(ids))
    width, code = (0, "B") if len(ids) <= 0xFF else (1, "H") if len(ids) <= 0xFFFF else (2, "I")
    return b"".join((
        (_LC_ADDITIONAL_KEYS | _LC_UPDATE_DICTIONARY | width).to_bytes(8, "little"),
        len(ids).to_bytes(8, "little"),
        _strings(tuple(ids)),
        len(values).to_bytes(8, "little"),
        array(code, map(ids.__getitem__, values)).tobytes(),
    ))  # fmt: skip


def _map(rows: Sequence[dict[str, str]]) -> bytes:
    """A Map(LowCardinality(String), String) column's data."""
    keys = list(chain.from_iterable(rows))
    values = list(chain.from_iterable(map(dict.values, rows)))
    offsets = array("Q", accumulate(map(len, rows))).tobytes()
    return _LC_VERSION + offsets + _low_cardinality(keys) + _strings(values)


def _head(column: tuple[str, str]) -> bytes:
    name, kind = column
    return _varint(len(name)) + name.encode() + _varint(len(kind)) + kind.encode()


_HEADS = tuple(map(_head, COLUMNS))
_PROVENANCE_HEADS = tuple(map(_head, PROVENANCE))


def encode(batch: Batch) -> bytes:
    """The body of a block with the rows of `batch`. Timestamps must be within Int64."""
    n = len(batch)
    parts = (
        _HEADS[0], array("q", batch.timestamps).tobytes(),
        _HEADS[1], _LC_VERSION if n else b"", _low_cardinality(batch.services),
        _HEADS[2], bytes(batch.levels),
        _HEADS[3], _strings(batch.messages),
        _HEADS[4], _map(batch.metadata) if n else b"",
        _HEADS[5], _strings(batch.trace_ids) if any(batch.trace_ids) else bytes(n),
        _HEADS[6], _strings(batch.span_ids) if any(batch.span_ids) else bytes(n),
    )  # fmt: skip
    return b"".join(parts)


_COUNT = _varint(len(COLUMNS) + len(PROVENANCE))
_ROW_NUMBERS = array("I", range(65_536)).tobytes()


def _row_numbers(rows: int) -> bytes:
    return _ROW_NUMBERS[: 4 * rows] if rows <= 65_536 else array("I", range(rows)).tobytes()


def seal(body: bytes | memoryview, rows: int, source: Provenance) -> tuple[bytes | memoryview, ...]:
    """A whole Native block, as parts to join: counts, the body, the provenance columns.

    Raises ValueError when `source.keys` does not add up to `rows`.
    """
    if sum(n for _, n in source.keys) != rows:
        raise ValueError("rows by key do not add up to the rows of the block")
    heads = _PROVENANCE_HEADS
    keys = [key for key, n in source.keys for _ in range(n)] if len(source.keys) > 1 else None
    tail = b"".join((
        heads[0], source.received_at.to_bytes(8, "little", signed=True) * rows,
        heads[1], _LC_VERSION, _low_cardinality(keys) if keys else _constant(source.keys[0][0], rows),
        heads[2], source.incarnation.to_bytes(4, "little") * rows,
        heads[3], source.partition.to_bytes(2, "little") * rows,
        heads[4], source.offset.to_bytes(8, "little") * rows,
        heads[5], _row_numbers(rows),
    ))  # fmt: skip
    return (_COUNT + _varint(rows), body, tail)


def _constant(value: str, rows: int) -> bytes:
    """`_low_cardinality([value] * rows)` without looking at each row."""
    index = b"\x01" if value else b"\x00"
    keys = _strings(("", value)) if value else _strings(("",))
    return b"".join((
        (_LC_ADDITIONAL_KEYS | _LC_UPDATE_DICTIONARY).to_bytes(8, "little"),
        (2 if value else 1).to_bytes(8, "little"), keys,
        rows.to_bytes(8, "little"), index * rows,
    ))  # fmt: skip


class _Reader:
    """A cursor over bytes; every method raises IndexError or ValueError past the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = bytes(data)
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise IndexError("unexpected end of block")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def array(self, code: str, count: int) -> "array[int]":
        values = array(code)
        values.frombytes(self.take(values.itemsize * count))
        return values

    def strings(self, count: int) -> list[str]:
        return [self.take(self.varint()).decode() for _ in range(count)]

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def low_cardinality(self, count: int) -> list[str]:
        if count == 0:
            return []
        flags = self.uint64()
        keys = self.strings(self.uint64())
        if self.uint64() != count:
            raise ValueError("LowCardinality index has another number of rows")
        return [keys[i] for i in self.array("BHIQ"[flags & 0xFF], count)]


def decode(body: bytes | memoryview, rows: int) -> Batch:
    """The rows of a body. Raises MalformedBlock."""
    reader = _Reader(body)
    columns: list[Sequence[object]] = []
    try:
        for name, kind in COLUMNS:
            if reader.strings(2) != [name, kind]:
                raise ValueError(f"expected column {name} {kind}")
            columns.append(_decode_column(reader, kind, rows))
        if reader.at != len(reader.data):
            raise ValueError("bytes behind the last column")
    except (IndexError, ValueError, OverflowError) as error:
        raise MalformedBlock(f"block cannot be decoded: {error}") from error
    return Batch(*columns)  # type: ignore[arg-type]


def _decode_column(reader: _Reader, kind: str, rows: int) -> Sequence[object]:
    if rows == 0:
        return []
    if kind.startswith("DateTime64"):
        return reader.array("q", rows)
    if kind.startswith("Enum8"):
        return reader.take(rows)
    if kind == "LowCardinality(String)":
        reader.uint64()
        return reader.low_cardinality(rows)
    if kind == "String":
        return reader.strings(rows)
    reader.uint64()
    offsets = reader.array("Q", rows)
    total = offsets[-1]
    pairs = list(zip(reader.low_cardinality(total), reader.strings(total), strict=True))
    return [dict(pairs[start:end]) for start, end in zip(chain((0,), offsets), offsets, strict=False)]
