"""Columns of ClickHouse's Native format: strings, LowCardinality dictionaries, and reading them back.

Format: ClickHouse `src/Formats/NativeWriter.cpp` and `src/DataTypes/Serializations/` at protocol revision 0
(what HTTP uses): varints are LEB128, strings are length-prefixed, LowCardinality is a version, flags, the
dictionary and the indexes.
"""

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import cast

import numpy as np
import numpy.typing as npt


def varint(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Length prefixes of strings up to 4 kB, as bytes and as latin-1 text: most strings are shorter.
_PREFIX = [varint(n) for n in range(4096)]
_PREFIX_TEXT = [p.decode("latin-1") for p in _PREFIX]


def strings(values: Sequence[str]) -> bytes | memoryview:
    """A String column's data: each value's UTF-8 behind its length."""
    if len(values) >= PACK_FROM:
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
    return b"".join(chain.from_iterable((_PREFIX[n] if (n := len(v)) < 4096 else varint(n), v) for v in encoded))


PACK_FROM = 24
"""From this many values on, numpy's fixed costs are less than what it saves."""


def _packed_strings(values: Sequence[str]) -> memoryview | None:
    """`strings` by writing lengths over separators; None when a value has a NUL or 16 KiB and more.

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


LC_VERSION = (1).to_bytes(8, "little")
"""Stands before the data of a LowCardinality column, or of a Map that holds one."""
_LC_ADDITIONAL_KEYS = 1 << 9
_LC_UPDATE_DICTIONARY = 1 << 10


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
        strings(tuple(ids)),
        rows.to_bytes(8, "little"),
        indexes,
    ))  # fmt: skip


class Dictionary:
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


def head(column: tuple[str, str]) -> bytes:
    """What stands before a column's data: name and type."""
    name, kind = column
    return varint(len(name)) + name.encode() + varint(len(kind)) + kind.encode()


class Reader:
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
