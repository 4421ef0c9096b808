"""Frames and the queue of one client, without a bus."""

import json

from hypothesis import given
from hypothesis import strategies as st

from logstream.query.cursor import Position
from logstream.query.filter import LogFilter
from logstream.query.frames import Gap, Heartbeat, Lines, Piece, match
from logstream.record import Batch, Record


def piece(offset: int, count: int, first: int = 0) -> Piece:
    return Piece(offset, first, Batch.of([Record(i, "s", 1 + i % 6, f"{offset}:{first + i}") for i in range(count)]))


def test_frames_are_the_documented_json():
    lines = Lines(match(LogFilter(), [piece(3, 2)]), "c")
    assert json.loads(lines.text) == {
        "type": "records",
        "records": [
            {"timestamp": "1970-01-01T00:00:00Z", "service": "s", "level": "trace", "message": "3:0", "metadata": {}},
            {"timestamp": "1970-01-01T00:00:00.000000001Z", "service": "s", "level": "debug", "message": "3:1",
             "metadata": {}},
        ],
        "cursor": "c",
    }  # fmt: skip
    assert json.loads(lines.array) == json.loads(lines.text)["records"]
    assert json.loads(Gap(7, "c").text) == {"type": "gap", "dropped": 7, "cursor": "c"}
    assert json.loads(Gap(None, "c").text) == {"type": "gap", "dropped": None, "cursor": "c"}
    assert json.loads(Heartbeat("c").text) == {"type": "heartbeat", "cursor": "c"}


def test_a_line_is_rendered_once_for_all_filters():
    shared = piece(0, 3)
    everything = Lines(match(LogFilter(), [shared]), "a")
    some = Lines(match(LogFilter.of(levels=(2,)), [shared]), "a")
    assert some.array[1:-1] in everything.array
    assert shared.line(1) is shared.line(1)


def test_json_of_a_frame_has_no_line_breaks():
    odd = Piece(0, 0, Batch.of([Record(0, "a\nb", 1, "x\r\n\u2028y\0", {"k\n": "\n"})]))
    text = Lines(match(LogFilter(), [odd]), "c").text
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text)["records"][0]["message"] == "x\r\n\u2028y\0"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 7), st.integers(0, 6))
def test_match_begins_exactly_at_a_position(sizes: list[int], offset: int, row: int):
    pieces = [piece(number, size) for number, size in enumerate(sizes)]
    everything = [(p.offset, p.first + r) for p, r in match(LogFilter(), pieces)]
    found = [(p.offset, p.first + r) for p, r in match(LogFilter(), pieces, Position(offset, row))]
    assert found == [place for place in everything if place >= (offset, row)]
