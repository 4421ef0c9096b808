"""Blocks: encoding, decoding, sealing, and building from several batches."""

import contextlib
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstream.record import Batch, Record
from logstream.storage.block import Builder, MalformedBlock, Provenance, decode, encode, extent, seal

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.builds(
    Record,
    timestamp=st.integers(-(2**63), 2**63 - 1),
    service=TEXT,
    level=st.integers(1, 6),
    message=st.one_of(TEXT, st.sampled_from(["x" * 127, "x" * 128, "é" * 64, "x" * 5000, "\0" * 3])),
    metadata=st.dictionaries(st.one_of(st.sampled_from(["", "a", "b"]), TEXT), TEXT, max_size=4),
    trace_id=st.sampled_from(["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
    span_id=st.sampled_from(["", "00f067aa0ba902b7"]),
)


def rows(n: int, message: str = "message {i}", keys: int = 3) -> list[Record]:
    return [
        Record(i, f"svc{i % 12}", i % 6 + 1, message.format(i=i), {f"k{j}": f"{i}-{j}" for j in range(keys)})
        for i in range(n)
    ]


@given(st.lists(RECORDS, max_size=40))
def test_what_is_encoded_is_decoded(records: list[Record]) -> None:
    batch = Batch.of(records)
    assert list(decode(encode(batch), len(records))) == records


@pytest.mark.parametrize("n", [0, 1, 23, 24, 100, 300])
@pytest.mark.parametrize("message", ["message {i}", "é {i}", "\0{i}", "x" * 127, "x" * 128, "x" * 200, "x" * 17_000])
@pytest.mark.parametrize("keys", [0, 1, 3])
def test_columns_of_any_size_and_shape(n: int, message: str, keys: int) -> None:
    records = rows(n, message, keys)
    assert list(decode(encode(Batch.of(records)), n)) == records


@pytest.mark.parametrize("distinct", [1, 254, 255, 256, 257, 65_535, 65_536, 66_000])
def test_dictionaries_of_any_size(distinct: int) -> None:
    records = [Record(0, f"s{i}", 3, "m", {f"k{i}": "v"}) for i in range(distinct)]
    batch = Batch.of(records)
    assert list(decode(encode(batch), distinct)) == records
    builder = Builder()
    builder.add(batch)
    builder.add(batch)
    assert list(decode(builder.body(), 2 * distinct)) == records * 2


def test_a_known_block_byte_for_byte() -> None:
    """ClickHouse's Native format at revision 0, written by hand."""

    def column(name: str, kind: str, data: bytes) -> bytes:
        return bytes((len(name),)) + name.encode() + bytes((len(kind),)) + kind.encode() + data

    def u64(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}Q", *values)

    body = encode(Batch.of([Record(-1, "s", 3, "m", {"k": "v"}), Record(7, "t", 4, "", {})]))
    levels = "Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5, 'fatal' = 6)"
    assert body == (
        column("timestamp", "DateTime64(9, 'UTC')", struct.pack("<2q", -1, 7))
        + column("service", "LowCardinality(String)", u64(1, 0x600, 3) + b"\0\1s\1t" + u64(2) + b"\1\2")
        + column("level", levels, b"\3\4")
        + column("message", "String", b"\1m\0")
        + column(
            "metadata",
            "Map(LowCardinality(String), String)",
            u64(1) + u64(1, 1) + u64(0x600, 2) + b"\0\1k" + u64(1) + b"\1" + b"\1v",
        )
        + column("trace_id", "String", b"\0\0")
        + column("span_id", "String", b"\0\0")
    )


@given(st.lists(st.lists(RECORDS, max_size=30), max_size=4))
@settings(max_examples=50)
def test_a_builder_makes_what_joining_makes(parts: list[list[Record]]) -> None:
    builder = Builder()
    for part in parts:
        builder.add(Batch.of(part))
    records = [record for part in parts for record in part]
    assert builder.rows == len(records)
    assert list(decode(builder.body(), len(records))) == records
    if records:
        assert (builder.low, builder.high) == extent(Batch.of(records))


def test_extent_of_either_kind_of_column() -> None:
    stamps = [(i * 7919) % 1000 - 500 for i in range(100)]
    records = [Record(t, "s", 3, "m") for t in stamps]
    batch = Batch.of(records)
    packed = Batch(array("q", stamps), *list(vars_of(batch))[1:])
    assert extent(batch) == extent(packed) == (min(stamps), max(stamps))
    with pytest.raises(ValueError):
        extent(Batch.of([]))


def vars_of(batch: Batch) -> list[object]:
    return [getattr(batch, name) for name in batch.__slots__]


def test_a_sealed_block_has_counts_in_front_and_provenance_behind() -> None:
    body = encode(Batch.of(rows(3)))
    source = Provenance(received_at=5, keys=[("a", 1), ("b", 2)], incarnation=7, partition=3, offset=99)
    front, middle, tail = seal(body, 3, source)
    assert (bytes(front), middle) == (b"\x0d\x03", body)
    assert struct.pack("<3q", 5, 5, 5) in bytes(tail)
    assert struct.pack("<3Q", 99, 99, 99) in bytes(tail)
    assert bytes(tail).endswith(struct.pack("<3I", 0, 1, 2))
    assert b"\0\1a\1b" + struct.pack("<Q", 3) + b"\1\2\2" in bytes(tail)


def test_a_sealed_block_needs_as_many_keys_as_rows() -> None:
    with pytest.raises(ValueError, match="add up"):
        seal(encode(Batch.of(rows(3))), 3, Provenance(5, [("a", 2)], 7, 3, 99))


@pytest.mark.parametrize("n", [1, 30])
def test_a_block_cut_short_is_malformed(n: int) -> None:
    body = encode(Batch.of(rows(n)))
    for end in {*range(0, len(body), 7), len(body) - 1}:
        with pytest.raises(MalformedBlock):
            decode(body[:end], n)
    with pytest.raises(MalformedBlock):
        decode(body + b"\0", n)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_malformed(data: bytes) -> None:
    for body in (data, encode(Batch.of(rows(2)))[: len(data)] + data):
        with pytest.raises(MalformedBlock):
            decode(body, 2)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_never_crashes(at: int, value: int) -> None:
    body = bytearray(encode(Batch.of(rows(30))))
    body[at % len(body)] = value
    with contextlib.suppress(MalformedBlock):
        assert len(decode(bytes(body), 30)) == 30
