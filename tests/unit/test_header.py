"""The wire form of a bus record."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.bus.header import (
    Header,
    Kind,
    MalformedRecord,
    NewerVersion,
    Segment,
    decode,
    decode_segments,
    encode,
    segments_of,
    wire_segments,
)

int64 = st.integers(-(2**63), 2**63 - 1)
key_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
segments = st.lists(st.builds(Segment, key_ids, st.integers(0, 2**20)), max_size=5).map(tuple)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    parts = draw(segments)
    return Header(
        sum(s.rows for s in parts), draw(int64), draw(int64), draw(int64), parts,
        draw(st.binary(min_size=16, max_size=16)), draw(st.sampled_from(Kind)),
        draw(st.just(bytes(16)) | st.binary(min_size=16, max_size=16)),
    )  # fmt: skip


@given(headers(), st.binary(max_size=100))
def test_decode_is_the_inverse_of_encode(header: Header, payload: bytes) -> None:
    value = encode(header, payload)
    assert decode(value) == (header, payload)
    assert decode_segments(wire_segments(value)) == header.segments


def test_the_wire_form_stays() -> None:
    header = Header(3, 1, 2, 3, (Segment("k", 1), Segment("id", 2)), bytes(range(16)))
    assert encode(header, b"PAYLOAD").hex() == (
        "4c5301004300000003000000010000000000000002000000000000000300000000000000"
        "000102030405060708090a0b0c0d0e0f0200016b0100000002696402000000" + b"PAYLOAD".hex()
    )  # fmt: skip


@given(headers(), st.binary(max_size=20), st.data())
def test_damaged_bytes_never_raise_anything_else(header: Header, payload: bytes, data: st.DataObject) -> None:
    value = bytearray(encode(header, payload))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    del value[data.draw(st.integers(0, len(value))) :]
    try:
        decoded, _ = decode(bytes(value))
    except MalformedRecord:
        return
    assert sum(s.rows for s in decoded.segments) == decoded.rows


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda v: b"XX" + v[2:], "magic"),
        (lambda v: v[:2] + b"\x02" + v[3:], "version"),
        (lambda v: v[:3] + b"\x09" + v[4:], "kind"),
        (lambda v: v[:30], "cut in the fixed part"),
        (lambda v: v[:60], "cut in the segments"),
        (lambda v: v[:8] + b"\x09\0\0\0" + v[12:], "rows do not add up"),
        (lambda v: v[:4] + b"\xff\xff\0\0" + v[8:], "longer than the record"),
        (lambda v: b"", "empty"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_refused(change, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MalformedRecord):
        decode(change(encode(Header(3, 1, 2, 3, (Segment("key", 1), Segment("k", 2))), b"payload")))


def test_a_longer_header_of_a_later_revision_is_skipped() -> None:
    value = encode(Header(1, 1, 2, 3, (Segment("k", 1),)), b"")
    unknown, fingerprint = b"\x07\x03\x00new", b"\x01\x10\x00" + bytes(range(16))
    added = unknown + fingerprint + unknown
    longer = value[:4] + (len(value) + len(added)).to_bytes(4, "little") + value[8:] + added + b"payload"
    header, payload = decode(longer)
    assert header.segments == (Segment("k", 1),)
    assert header.fingerprint == bytes(range(16))
    assert payload == b"payload"
    assert decode_segments(wire_segments(longer)) == header.segments


@pytest.mark.parametrize("damaged", [b"\x01", b"\x01\x0f\x00" + bytes(15), b"\x07\x04\x00abc"])
def test_a_damaged_extension_is_refused(damaged: bytes) -> None:
    value = encode(Header(1, 1, 2, 3, (Segment("k", 1),)), b"")
    with pytest.raises(MalformedRecord, match=r"extension|cannot be read"):
        decode(value[:4] + (len(value) + len(damaged)).to_bytes(4, "little") + value[8:] + damaged)


def test_a_newer_version_is_told_from_damage() -> None:
    value = encode(Header(1, 1, 2, 3, (Segment("k", 1),)), b"")
    with pytest.raises(NewerVersion, match="upgrade"):
        decode(value[:2] + b"\x02" + value[3:])
    with pytest.raises(MalformedRecord) as caught:
        decode(value[:2] + b"\x00" + value[3:])
    assert not isinstance(caught.value, NewerVersion)


def test_the_fingerprint_is_an_extension_that_older_readers_skip() -> None:
    plain = Header(1, 1, 2, 3, (Segment("k", 1),))
    value = encode(replace(plain, fingerprint=b"f" * 16), b"payload")
    length = int.from_bytes(value[4:8], "little")
    assert value[length - 19 : length] == b"\x01\x10\x00" + b"f" * 16
    assert value[length:] == b"payload"
    assert value[54 : length - 19] == encode(plain, b"")[54:]


@given(st.binary(max_size=60))
def test_segments_are_refused_when_damaged(wire: bytes) -> None:
    try:
        decode_segments(wire)
    except MalformedRecord:
        return


def test_neighbours_of_one_key_are_joined() -> None:
    pairs = [("a", 1), ("a", 2), ("b", 1), ("a", 4)]
    assert segments_of(pairs) == (Segment("a", 3), Segment("b", 1), Segment("a", 4))
    assert segments_of([]) == ()
