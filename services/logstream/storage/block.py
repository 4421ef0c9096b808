"""Blocks: a batch as columns of ClickHouse's Native format, encoded once in the collector.

The payload of a bus record is the *body*: the data columns of `COLUMNS`, one after another, each as
(name, type, data), without the block's leading counts. `seal` puts the counts in front and appends the
constant columns that only the processor knows (`PROVENANCE`); sealed blocks concatenate, so the processor
never decodes a row.

Columns are made whole, by joins and by numpy over the joined bytes: a Python step per value would cost most of
what a row costs.

Format: ClickHouse `src/Formats/NativeWriter.cpp` and `src/DataTypes/Serializations/` at protocol revision 0
(what HTTP uses): varints are LEB128, strings are length-prefixed, LowCardinality is a version, flags, the
dictionary and the indexes, Map is offsets, keys and values.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import cast

import numpy as np
import numpy.typing as npt

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

    keys: (key id, rows) in order, adding up to the rows of the block. first_row: number of the first row.
    """

    received_at: int
    keys: Sequence[tuple[str, int]]
    incarnation: int
    partition: int
    offset: int
    first_row: int = 0


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


def _strings(values: Sequence[str]) -> bytes | memoryview:
    """A String column's data: each value's UTF-8 behind its length."""
    if len(values) >= _PACK_FROM:
        packed = _packed_strings(values)
        if packed is not None:
            return packed
    if "".join(values).isascii():
        # ASCII length = byte length, so one join and one encode make the whole column.
        try:
            prefixes = map(_PREFIX_TEXT.__getitem__, map(len, values))
            return "".join(chain.from_iterable(zip(prefixes, values, strict=True))).encode("latin-1")
        except IndexError:
            pass
    encoded = [value.encode() for value in values]
    return b"".join(chain.from_iterable((_PREFIX[n] if (n := len(v)) < 4096 else _varint(n), v) for v in encoded))


_PACK_FROM = 24
"""From this many values on, numpy's fixed costs are less than what it saves."""


def _packed_strings(values: Sequence[str]) -> memoryview | None:
    """`_strings` by writing lengths over separators; None when a value has a NUL or 16 KiB and more.

    Lengths are varints of one byte when all values are short, else of two bytes also where one would do,
    which LEB128 allows.
    """
    parts = ("", *values, "")
    joined = bytearray("\0".join(parts).encode())
    flat = np.frombuffer(joined, dtype=np.uint8)
    at = np.flatnonzero(flat == 0)
    if len(at) != len(values) + 1:
        return None
    sizes = np.diff(at) - 1
    at = at[:-1]
    longest = int(sizes.max())
    if longest < 1 << 7:
        flat[at] = sizes
        return memoryview(joined)[:-1]
    if longest >= 1 << 14:
        return None
    joined = bytearray("\0\0".join(parts).encode())
    flat = np.frombuffer(joined, dtype=np.uint8)
    at = at + np.arange(len(values))
    flat[at] = sizes & 0x7F | 0x80
    flat[at + 1] = sizes >> 7
    return memoryview(joined)[:-2]


_LC_VERSION = (1).to_bytes(8, "little")
_LC_ADDITIONAL_KEYS = 1 << 9
_LC_UPDATE_DICTIONARY = 1 << 10


def _low_cardinality(values: Sequence[str]) -> bytes:
    """A LowCardinality(String) column's data behind its version: flags, dictionary, indexes."""
    if not values:
        return b""
    ids = _dictionary(values)
    if len(ids) <= 0x100:
        return _with_dictionary(ids, bytes(map(ids.__getitem__, values)), len(values))
    indexes = np.fromiter(map(ids.__getitem__, values), dtype=np.uint32, count=len(values))
    return _with_dictionary(ids, _narrowed(indexes, len(ids)), len(values))


def _dictionary(values: Iterable[str]) -> dict[str, int]:
    """Each distinct value and its number, in order of appearance; ClickHouse wants the default "" as 0."""
    ids: dict[str, int] = {"": 0}
    for value in dict.fromkeys(values):
        ids.setdefault(value, len(ids))
    return ids


def _narrowed(indexes: "npt.NDArray[np.uint32]", distinct: int) -> bytes:
    """Dictionary indexes in the narrowest type that holds them, as `_with_dictionary` announces it."""
    return indexes.astype(_INDEX_TYPES[_index_width(distinct)]).tobytes()


def _index_width(distinct: int) -> int:
    return 0 if distinct <= 1 << 8 else 1 if distinct <= 1 << 16 else 2


_INDEX_TYPES = (np.uint8, np.uint16, np.uint32)


def _with_dictionary(ids: dict[str, int], indexes: bytes, rows: int) -> bytes:
    return b"".join((
        (_LC_ADDITIONAL_KEYS | _LC_UPDATE_DICTIONARY | _index_width(len(ids))).to_bytes(8, "little"),
        len(ids).to_bytes(8, "little"),
        _strings(tuple(ids)),
        rows.to_bytes(8, "little"),
        indexes,
    ))  # fmt: skip


def _map(rows: Sequence[dict[str, str]]) -> bytes:
    """A Map(LowCardinality(String), String) column's data."""
    keys = list(chain.from_iterable(rows))
    values = list(chain.from_iterable(map(dict.values, rows)))
    first = list(rows[0])
    width = len(first)
    if first and width * len(rows) == len(keys) and keys == first * len(rows):
        # One program's records have the same keys in the same order.
        ids = _dictionary(first)
        if len(ids) <= 0x100:
            offsets = np.arange(width, len(keys) + 1, width, dtype=np.uint64).tobytes()
            indexes = bytes(map(ids.__getitem__, first)) * len(rows)
            return b"".join((_LC_VERSION, offsets, _with_dictionary(ids, indexes, len(keys)), _strings(values)))
    offsets = array("Q", accumulate(map(len, rows))).tobytes()
    return b"".join((_LC_VERSION, offsets, _low_cardinality(keys), _strings(values)))


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


def extent(batch: Batch) -> tuple[int, int]:
    """The smallest and the largest timestamp, ns. Raises ValueError for an empty batch."""
    column = batch.timestamps
    if isinstance(column, array) and len(column) >= _PACK_FROM:
        values = np.frombuffer(column, dtype=np.int64)
        return int(values.min()), int(values.max())
    return min(column), max(column)


class Builder:
    """A body made of several batches, encoded as they come, so that their records need not be kept.

    The result is what `encode(Batch.join(batches))` would be, but for the width of length prefixes.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.low = 0
        self.high = 0
        self._size = 0
        self._columns: tuple[list[bytes | memoryview], ...] = tuple([] for _ in range(7))
        self._services = _Dictionary()
        self._keys = _Dictionary()
        self._pairs = 0

    def add(self, batch: Batch) -> None:
        """Append the rows of `batch`."""
        n = len(batch)
        if not n:
            return
        low, high = extent(batch)
        self.low = min(low, self.low) if self.rows else low
        self.high = max(high, self.high) if self.rows else high
        self.rows += n
        stamps, levels, messages, offsets, values, traces, spans = self._columns
        stamps.append(array("q", batch.timestamps).tobytes())
        self._services.add(batch.services)
        levels.append(bytes(batch.levels))
        messages.append(_strings(batch.messages))
        offsets.append(self._add_keys(batch.metadata))
        values.append(_strings(list(chain.from_iterable(map(dict.values, batch.metadata)))))
        traces.append(_strings(batch.trace_ids) if any(batch.trace_ids) else bytes(n))
        spans.append(_strings(batch.span_ids) if any(batch.span_ids) else bytes(n))
        self._size += sum(len(column[-1]) for column in self._columns)

    @property
    def size(self) -> int:
        """Bytes of the body, roughly."""
        return self._size + self._services.size + self._keys.size

    def _add_keys(self, rows: Sequence[dict[str, str]]) -> bytes:
        """Take in the metadata keys of `rows`; the offsets of their ends."""
        keys = list(chain.from_iterable(rows))
        first = list(rows[0])
        begin, width = self._pairs, len(first)
        self._pairs += len(keys)
        if width and width * len(rows) == len(keys) and keys == first * len(rows):
            # One program's records have the same keys in the same order.
            self._keys.add(first, times=len(rows))
            return np.arange(begin + width, self._pairs + 1, width, dtype=np.uint64).tobytes()
        self._keys.add(keys)
        return array("Q", islice(accumulate(map(len, rows), initial=begin), 1, None)).tobytes()

    def body(self) -> bytes:
        """The body of a block with all rows."""
        if not self.rows:
            return encode(Batch.of(()))
        stamps, levels, messages, offsets, values, traces, spans = self._columns
        return b"".join((
            _HEADS[0], *stamps,
            _HEADS[1], _LC_VERSION, self._services.column(),
            _HEADS[2], *levels,
            _HEADS[3], *messages,
            _HEADS[4], _LC_VERSION, *offsets, self._keys.column(), *values,
            _HEADS[5], *traces,
            _HEADS[6], *spans,
        ))  # fmt: skip


class _Dictionary:
    """The data of a LowCardinality(String) column that grows: the dictionary, and indexes in pieces."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of dictionary and indexes, roughly."""
        self._ids: dict[str, int] = {"": 0}
        self._indexes: list[bytes | npt.NDArray[np.uint32]] = []
        self._rows = 0

    def add(self, values: Sequence[str], *, times: int = 1) -> None:
        """Append `values`, `times` times over."""
        ids = self._ids
        for value in dict.fromkeys(values):
            if value not in ids:
                ids[value] = len(ids)
                self.size += len(value)
        self.size += len(values) * times
        self._rows += len(values) * times
        numbers = map(ids.__getitem__, values)
        if len(ids) <= 0x100:
            self._indexes.append(bytes(numbers) * times)
        else:
            self._indexes.append(np.tile(np.fromiter(numbers, dtype=np.uint32, count=len(values)), times))

    def column(self) -> bytes:
        if not self._rows:
            return b""
        if len(self._ids) <= 0x100:
            indexes = b"".join(cast("list[bytes]", self._indexes))
        else:
            wide = [np.frombuffer(i, dtype=np.uint8) if isinstance(i, bytes) else i for i in self._indexes]
            indexes = _narrowed(np.concatenate(wide, dtype=np.uint32), len(self._ids))
        return _with_dictionary(self._ids, indexes, self._rows)


_COUNT = _varint(len(COLUMNS) + len(PROVENANCE))
_ROW_NUMBERS = array("I", range(65_536)).tobytes()


def _row_numbers(first: int, rows: int) -> bytes:
    end = first + rows
    return _ROW_NUMBERS[4 * first : 4 * end] if end <= 65_536 else array("I", range(first, end)).tobytes()


def seal(body: bytes | memoryview, rows: int, source: Provenance) -> tuple[bytes | memoryview, ...]:
    """A whole Native block, as parts to join: counts, the body, the provenance columns.

    Raises ValueError when `source.keys` does not add up to `rows`.
    """
    if sum(n for _, n in source.keys) != rows:
        raise ValueError("rows by key do not add up to the rows of the block")
    heads = _PROVENANCE_HEADS
    keys = _repeated(source.keys) if len(source.keys) > 1 else _constant(source.keys[0][0], rows)
    tail = b"".join((
        heads[0], source.received_at.to_bytes(8, "little", signed=True) * rows,
        heads[1], _LC_VERSION, keys,
        heads[2], source.incarnation.to_bytes(4, "little") * rows,
        heads[3], source.partition.to_bytes(2, "little") * rows,
        heads[4], source.offset.to_bytes(8, "little") * rows,
        heads[5], _row_numbers(source.first_row, rows),
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


def _repeated(runs: Sequence[tuple[str, int]]) -> bytes:
    """`_low_cardinality` of a column that has each value of `runs` so many times in a row."""
    ids = _dictionary(value for value, _ in runs)
    indexes = np.repeat(
        np.fromiter((ids[value] for value, _ in runs), dtype=np.uint32, count=len(runs)),
        np.fromiter((n for _, n in runs), dtype=np.int64, count=len(runs)),
    )
    return _with_dictionary(ids, _narrowed(indexes, len(ids)), len(indexes))


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
        data, at = self.data, self.at
        out = []
        for _ in range(count):
            size = data[at]
            at += 1
            if size > 0x7F:
                self.at = at - 1
                size = self.varint()
                at = self.at
            out.append(data[at : at + size].decode())
            at += size
        if at > len(data):
            raise IndexError("unexpected end of block")
        self.at = at
        return out

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
