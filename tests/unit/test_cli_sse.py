"""Server-Sent Events, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.cli import sse
from logstream.cli.failure import Failure
from logstream.cli.sse import Event, Parser

STREAM = (
    ': a comment\n\nid: 1\ndata: {"a":"\u2028\x85\x0b"}\n\nevent: gap\r\ndata: 1\r\ndata: 2\r\n\r\n'
    "data:x\rretry: 10\r\rdata\n\n"
).encode()
EVENTS = [
    Event('{"a":"\u2028\x85\x0b"}', "message", "1"),
    Event("1\n2", "gap", "1"),
    Event("x", "message", "1"),
    Event("", "message", "1"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    parser, found, at = Parser(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        found += parser.feed(STREAM[at:cut])
        at = cut
    assert found == EVENTS


def test_an_event_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    parser = Parser()
    for _ in range(38):
        parser.feed(b"data: " + b"x" * 25 + b"\n")
    with pytest.raises(Failure, match="larger than"):
        parser.feed(b"data: " + b"x" * 100 + b"\n")
