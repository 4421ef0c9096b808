"""Blocks: a batch as columns of ClickHouse's Native format, encoded once in the collector.

The payload of a bus record is the *body*: the data columns of `COLUMNS`, one after another, each as
(name, type, data), without the block's leading counts. `seal` puts the counts in front and appends the
constant columns that only the processor knows (`PROVENANCE`); sealed blocks concatenate, so the processor
never decodes a row.

Columns are made whole, by joins and by numpy over the joined bytes: a Python step per value would cost most of
what a row costs.

`logstream.storage.native` writes and reads the single columns; a Map is offsets, keys and values.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice

import numpy as np

from logstream.errors import LogStreamError
from logstream.record import LEVEL_LABELS, Batch
from logstream.storage.native import LC_VERSION, PACK_FROM, Dictionary, Reader, head, strings, varint

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


_HEADS = tuple(map(head, COLUMNS))
_PROVENANCE_HEADS = tuple(map(head, PROVENANCE))


def encode(batch: Batch) -> bytes:
    """The body of a block with the rows of `batch`. Timestamps must be within Int64."""
    builder = Builder()
    builder.add(batch)
    return builder.body()


def extent(batch: Batch) -> tuple[int, int]:
    """The smallest and the largest timestamp, ns. Raises ValueError for an empty batch."""
    column = batch.timestamps
    if isinstance(column, array) and len(column) >= PACK_FROM:
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
        self._services = Dictionary()
        self._keys = Dictionary()
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
        messages.append(strings(batch.messages))
        offsets.append(self._add_keys(batch.metadata))
        values.append(strings(list(chain.from_iterable(map(dict.values, batch.metadata)))))
        traces.append(strings(batch.trace_ids) if any(batch.trace_ids) else bytes(n))
        spans.append(strings(batch.span_ids) if any(batch.span_ids) else bytes(n))
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
        stamps, levels, messages, offsets, values, traces, spans = self._columns
        version = LC_VERSION if self.rows else b""
        return b"".join((
            _HEADS[0], *stamps,
            _HEADS[1], version, self._services.column(),
            _HEADS[2], *levels,
            _HEADS[3], *messages,
            _HEADS[4], version, *offsets, self._keys.column(), *values,
            _HEADS[5], *traces,
            _HEADS[6], *spans,
        ))  # fmt: skip


_COUNT = varint(len(COLUMNS) + len(PROVENANCE))
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
    keys = Dictionary()
    for key_id, count in source.keys:
        keys.add((key_id,), times=count)
    tail = b"".join((
        heads[0], source.received_at.to_bytes(8, "little", signed=True) * rows,
        heads[1], LC_VERSION, keys.column(),
        heads[2], source.incarnation.to_bytes(4, "little") * rows,
        heads[3], source.partition.to_bytes(2, "little") * rows,
        heads[4], source.offset.to_bytes(8, "little") * rows,
        heads[5], _row_numbers(source.first_row, rows),
    ))  # fmt: skip
    return (_COUNT + varint(rows), body, tail)


def decode(body: bytes | memoryview, rows: int) -> Batch:
    """The rows of a body. Raises MalformedBlock."""
    reader = Reader(body)
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


def _decode_column(reader: Reader, kind: str, rows: int) -> Sequence[object]:
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
