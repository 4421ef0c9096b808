"""Blocks: what is encoded can be decoded, and damage is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.record import Batch, Record
from logstream.storage import block

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
RECORDS = st.lists(
    st.builds(
        Record,
        timestamp=st.integers(-(1 << 63), (1 << 63) - 1),
        service=TEXT,
        level=st.integers(1, 6),
        message=TEXT | st.integers(0, 5_000).map("x".__mul__),
        metadata=st.dictionaries(TEXT, TEXT, max_size=4),
        trace_id=st.sampled_from(["", "0af7651916cd43dd8448eb211c80319c"]),
        span_id=st.sampled_from(["", "b7ad6b7169203331"]),
    ),
    max_size=20,
)


@given(RECORDS)
def test_decoding_gives_back_what_was_encoded(records: list[Record]) -> None:
    assert list(block.decode(block.encode(Batch.of(records)), len(records))) == records


@pytest.mark.parametrize("services", [254, 255, 256, 65_535, 65_536])
def test_dictionaries_of_every_index_width(services: int) -> None:
    records = [Record(i, f"s{i}", 1, "m") for i in range(services)]
    decoded = block.decode(block.encode(Batch.of(records)), services)
    assert list(decoded.services) == [record.service for record in records]


@given(st.data())
def test_a_cut_body_is_malformed(data: st.DataObject) -> None:
    body = block.encode(Batch.of([Record(1, "a", 2, "message", {"k": "v"})] * 3))
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(block.MalformedBlock):
        block.decode(body[:cut], 3)
    with pytest.raises(block.MalformedBlock):
        block.decode(body + b"\0", 3)


def test_sealing_wants_a_key_for_every_row() -> None:
    body = block.encode(Batch.of([Record(1, "a", 2, "m")] * 3))
    with pytest.raises(ValueError, match="do not add up"):
        block.seal(body, 3, block.Provenance(0, [("k", 2)], 1, 0, 0))
