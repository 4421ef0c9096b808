"""docs/bus-format.md says what the code does."""

import re
import struct
from pathlib import Path

from logstream.bus import header as wire
from logstream.bus.header import Header, Kind, Segment, decode, encode

TEXT = (Path(__file__).parents[2] / "docs" / "bus-format.md").read_text()
EXAMPLE = Header(
    3, 1, 2, 3, (Segment("k", 1), Segment("id", 2)), bytes(range(16)), fingerprint=bytes(range(16, 32))
)  # fmt: skip


def fields() -> list[tuple[int, int, str]]:
    """Offset, size and description of the fixed part."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    return [(int(offset), int(size), text) for offset, size, text in rows if "fingerprint" not in text]


def test_the_fields_follow_each_other_and_fill_the_fixed_part() -> None:
    at = 0
    for offset, size, _ in fields():
        assert offset == at
        at += size
    assert at == wire.FIXED_BYTES


def test_each_field_is_where_the_document_says() -> None:
    value = encode(Header(5, -7, -8, 9, (Segment("k", 5),), bytes(range(16)), Kind.DEAD_LETTER), b"")
    expected = [b"LS", b"\x01", b"\x01", struct.pack("<I", len(value)), struct.pack("<I", 5)]
    expected += [struct.pack("<q", number) for number in (-7, -8, 9)] + [bytes(range(16)), struct.pack("<H", 1)]
    assert [value[offset : offset + size] for offset, size, _ in fields()] == expected


def test_the_example_is_what_the_code_writes_and_reads() -> None:
    [example] = re.findall(r"```\n([0-9a-f\n]+)```", TEXT)
    value = bytes.fromhex(example)
    assert encode(EXAMPLE, b"PAYLOAD") == value
    assert decode(value) == (EXAMPLE, b"PAYLOAD")


def test_the_extensions_are_those_of_the_code() -> None:
    assert re.findall(r"^\| (\d+) \| (\d+) \| fingerprint", TEXT, re.MULTILINE) == [("1", "16")]
    plain = encode(Header(1, 1, 1, 1, (Segment("k", 1),)), b"")
    extended = encode(Header(1, 1, 1, 1, (Segment("k", 1),), fingerprint=b"f" * 16), b"")
    assert extended[len(plain) :] == b"\x01" + struct.pack("<H", 16) + b"f" * 16
