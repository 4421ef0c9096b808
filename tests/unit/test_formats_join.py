"""Lines that go on with the one before."""

from logstream.formats import PLAIN, Reading, detect, events
from logstream.formats.join import MAX_CHARS, MAX_LINES
from logstream.formats.model import MAX_LINE_CHARS

NOW = Reading(1_790_000_000 * 10**9)
FIRST = "2023-01-01 00:00:00,123 ERROR app.views: it broke"
NEXT = "2023-01-01 00:00:01,000 INFO app.views: again"
TRACE = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in f',
    "ValueError: no",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "KeyError: 'x'",
]


def test_a_stack_trace_is_part_of_its_first_line() -> None:
    lines = [FIRST, *TRACE, NEXT]
    first, second = events(lines, detect(lines, NOW))
    assert first.message == "\n".join(["it broke", *TRACE])
    assert (first.level, first.metadata) == (5, {"component": "app.views"})
    assert (second.message, second.level) == ("again", 3)


def test_a_format_is_found_among_many_lines_of_traces() -> None:
    lines = [FIRST, *TRACE * 5, NEXT]
    form = detect(lines, NOW)
    assert len(list(events(lines, form))) == 2


def test_blank_lines_between_events_are_left_out() -> None:
    lines = ["", FIRST, "", "   ", NEXT, ""]
    assert [e.message for e in events(lines, detect(lines, NOW))] == ["it broke", "again"]


def test_an_event_of_too_many_lines_is_split_and_nothing_is_lost() -> None:
    lines = [FIRST, *(f"  at f{i}" for i in range(2 * MAX_LINES + 5)), NEXT]
    parts = list(events(lines, detect([FIRST, NEXT], NOW)))
    assert [p.metadata.get("continued") for p in parts] == [None, "true", "true", None]
    assert {p.timestamp for p in parts[:3]} == {parts[0].timestamp}
    assert "\n".join(p.message for p in parts[:3]).split("\n") == ["it broke", *lines[1:-1]]


def test_an_event_of_too_many_characters_is_split() -> None:
    lines = [FIRST, *(" " + "x" * 10_000 for _ in range(60))]
    parts = list(events(lines, detect([FIRST], NOW)))
    assert all(len(p.message) <= MAX_CHARS for p in parts)
    assert sum(p.message.count("x") for p in parts) == 600_000


def test_a_line_that_is_cut_says_so() -> None:
    long = "x" * (MAX_LINE_CHARS + 1)
    assert [(len(e.message), e.metadata) for e in events([long], PLAIN)] == [(MAX_LINE_CHARS, {"truncated": "true"})]
    first, second = events([FIRST, long], detect([FIRST], NOW))
    assert (first.message, first.metadata) == ("it broke", {"component": "app.views"})
    assert second.metadata == {"component": "app.views", "continued": "true", "truncated": "true"}


def test_text_before_the_first_timestamp_is_an_event_without_one() -> None:
    lines = ["Log opened", FIRST, NEXT, NEXT]
    first, *_ = events(lines, detect(lines, NOW))
    assert (first.timestamp, first.message) == (None, "Log opened")


def test_between_json_lines_only_what_hangs_is_joined() -> None:
    lines = ['{"time":"2023-01-01T00:00:00Z","msg":"a"}', "  at f", "Caused by: b", "listening", '{"msg":"c"}']
    found = list(events(lines, detect([lines[0]], NOW)))
    assert [e.message for e in found] == ["a\n  at f\nCaused by: b", "listening", "c"]
    assert {e.timestamp for e in found} == {1_672_531_200 * 10**9}


def test_plain_text_is_a_line_an_event_except_what_hangs() -> None:
    assert [e.message for e in events(["a", "  b", "c"], PLAIN)] == ["a\n  b", "c"]
