import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.errors import InvalidValue
from logstream.query.cursor import Cursor, Position, decode, stream_tag
from logstream.stream import make_stream

STREAM = make_stream("default")
POSITIONS = st.builds(Position, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))


@given(st.integers(1, 2**32 - 1), st.lists(POSITIONS, min_size=1, max_size=8))
def test_what_is_encoded_is_decoded(incarnation, positions):
    cursor = Cursor(stream_tag(STREAM), incarnation, tuple(positions))
    text = cursor.encode()
    assert decode(text, STREAM) == cursor
    assert all(c.isalnum() or c in "-_" for c in text)


@given(st.text() | st.binary().map(lambda b: b.hex()))
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(InvalidValue) as caught:
        decode(text, STREAM)
    assert caught.value.field == "cursor"


def test_a_cut_or_lengthened_cursor_is_refused():
    text = Cursor(stream_tag(STREAM), 7, (Position(1, 2),)).encode()
    for wrong in (text[:-1], text + "AAAA", "B" + text[1:], text * 1000):
        with pytest.raises(InvalidValue):
            decode(wrong, STREAM)


def test_a_cursor_of_another_stream_is_refused_saying_so():
    text = Cursor(stream_tag(make_stream("other")), 7, (Position(1, 2),)).encode()
    with pytest.raises(InvalidValue, match="another stream"):
        decode(text, STREAM)
