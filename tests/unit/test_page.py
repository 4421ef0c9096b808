"""Cursors and ids of searches: what is given out comes back, and nothing else is taken."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.errors import InvalidValue
from logstream.query.cursor import stream_tag
from logstream.query.filter import LogFilter
from logstream.query.page import PageCursor, Snapshot, decode, digest
from logstream.query.place import Place, decode_id, encode_id
from logstream.query.time import MAX_NS, MIN_NS
from logstream.stream import make_stream

STREAM, OTHER = make_stream("default"), make_stream("other")
ASKED = LogFilter.of(query="level>=warn timed", start=5)
TIMES = st.integers(MIN_NS, MAX_NS)
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
PLACES = st.builds(Place, TIMES, U16, U64, U32, U32)
CURSORS = st.builds(
    PageCursor,
    st.just(stream_tag(STREAM)),
    st.just(digest(ASKED)),
    TIMES,
    PLACES,
    st.builds(Snapshot, U32, st.lists(U64, max_size=5).map(tuple)),
)
TEXTS = st.text() | st.binary().map(lambda b: b.hex())
ONE = PageCursor(stream_tag(STREAM), digest(ASKED), 5, Place(7, 0, 1, 2, 3), Snapshot(3, (9,)))


@given(CURSORS)
def test_a_cursor_comes_back(cursor: PageCursor):
    text = cursor.encode()
    assert decode(text, STREAM, ASKED) == cursor
    assert all(c.isalnum() or c in "-_" for c in text)


@given(PLACES)
def test_an_id_comes_back(place: Place):
    assert decode_id(encode_id(place, STREAM), STREAM) == place


@given(TEXTS)
def test_anything_else_is_refused_by_name(text: str):
    with pytest.raises(InvalidValue) as refused:
        decode(text, STREAM, ASKED)
    assert refused.value.field == "cursor"
    with pytest.raises(InvalidValue) as refused:
        decode_id(text, STREAM)
    assert refused.value.field == "id"


@given(st.integers(0, len(ONE.encode()) - 1), st.sampled_from("ABCabc019-_"))
def test_no_character_of_a_cursor_may_change(at: int, character: str):
    text = ONE.encode()
    changed = text[:at] + character + text[at + 1 :]
    if changed != text:
        with pytest.raises(InvalidValue):
            decode(changed, STREAM, ASKED)


def test_a_cursor_is_of_one_stream_and_one_filter():
    text = ONE.encode()
    with pytest.raises(InvalidValue, match="another stream"):
        decode(text, OTHER, ASKED)
    for asked in (LogFilter(), replace(ASKED, end=9), replace(ASKED, start=6), LogFilter.of(query="timed", start=5)):
        with pytest.raises(InvalidValue, match="another search"):
            decode(text, STREAM, asked)
    with pytest.raises(InvalidValue, match="another stream"):
        decode_id(encode_id(Place(1, 2, 3, 4, 5), OTHER), STREAM)


def test_times_outside_of_the_store_are_refused():
    for wrong in (replace(ONE, start=MIN_NS - 1), replace(ONE, after=ONE.after._replace(timestamp=MIN_NS - 1))):
        with pytest.raises(InvalidValue):
            decode(wrong.encode(), STREAM, ASKED)
    with pytest.raises(InvalidValue):
        decode_id(encode_id(Place(MIN_NS - 1, 0, 0, 0, 0), STREAM), STREAM)
