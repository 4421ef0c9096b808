"""Lines made to break a parser: nothing raises, and no expression takes more than linear time."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.formats import Parsed, Reading, detect, events, named, names
from logstream.formats.layouts import HEADS, WHOLE
from logstream.formats.model import MAX_LINE_CHARS
from logstream.formats.textual import Position, TextFormat, find_positions
from logstream.formats.times import GRAMMAR, GRAMMARS, MAX_TIMESTAMP, MIN_TIMESTAMP

NOW = Reading(1_790_000_000 * 10**9)
PIECES = [
    "2023-01-01 00:00:00,123", "Jun 14 15:16:01",
    "Sun Dec 04 04:47:44 2005", "10/Oct/2000:13:55:36 -0700",
    "1672531200", "9999999999.5", "081109 203615", "17/06/09 20:10:40",
    "20171223-22:15:29:606", "99/99/9999 99:99:99", "INFO", "[error]",
    "[", "]", '{"ts":9999999999.5,"msg":"x"}',
    "<34>1 ", "<999>", ":", " - ", "|", '"', "\\", "{", "}",
    "a=b", "ts=9999999999.5 ", 'a="', "[main]", "12", "a.B$C:", "@9]", "(", "\x00",
    "\ud800", "\u2028", "٣٣", " ", "\t", "é", "--- ", "#", "%", "+99:99", "Z",
]  # fmt: skip
HOSTILE = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=20).map("".join))


@given(st.lists(HOSTILE, max_size=8), st.lists(HOSTILE, max_size=8))
def test_nothing_raises(sample: list[str], lines: list[str]) -> None:
    form = detect(sample, NOW)
    for event in events([*sample, *lines], form):
        assert isinstance(event, Parsed)
        assert event.level is None or 1 <= event.level <= 6
        assert event.timestamp is None or MIN_TIMESTAMP <= event.timestamp <= MAX_TIMESTAMP + 10**9
        assert all(isinstance(v, str) for pair in event.metadata.items() for v in pair)


@given(st.sampled_from(names()), st.lists(HOSTILE, max_size=5))
def test_nothing_raises_in_a_format_that_was_asked_for(name: str, lines: list[str]) -> None:
    from logstream.errors import InvalidValue

    try:
        form = named(name, lines, NOW)
    except InvalidValue:
        return
    list(events(lines, form))


@given(st.lists(HOSTILE.filter(lambda t: t.strip() != ""), max_size=8))
def test_no_word_of_plain_lines_is_lost(lines: list[str]) -> None:
    form = named("plain", [], NOW)
    kept = "\n".join(e.message for e in events(lines, form)).split()
    assert kept == " ".join(lines).split()


TIMES = [
    "2020-03-01 10:00:05", "[2020-03-01 10:00:05]", "2020-13-45 10:00:00", "9999-01-01 00:00:00", "11:30:00",
    "03-17 11:30:00", "Jun 14 15:16:01", "Jun 31 10:00:00", "081109 203615", "1672531200", "99/99/9999 99:99:99",
    "10/Oct/2000:13:55:36 -0700", "I0102 15:04:05.000123", "Sun Dec 04 04:47:44 2005", "INFO", "[error]", "-", "|",
]  # fmt: skip


@given(st.lists(st.lists(st.one_of(st.just("word"), st.sampled_from(TIMES)), min_size=1, max_size=8), max_size=6))
def test_no_word_beside_times_is_lost(shapes: list[list[str]]) -> None:
    lines = [
        " ".join(f"word{i}x{j}." if part == "word" else part for j, part in enumerate(shape))
        for i, shape in enumerate(shapes)
    ]
    kept = " ".join(" ".join((e.message, *e.metadata.values())) for e in events(lines, detect(lines, NOW)))
    missing = [w for line in lines for w in line.split() if w.startswith("word") and w.rstrip(".") not in kept]
    assert missing == []


UNITS = [
    "a", " ", "a ", "a:", "a::", "[", "]", "[]", "[a", "(a", "a=", 'a="', 'a="\\', '"', "\\", '\\"', "1", "1 ", "a.",
    "a@", "| ", "- ", ": ", "<1>", "\t", "a[1] ", '[x a="b"]', "INFO ", "12:00:00 ", "{", '{"a":', "[[a]",
]  # fmt: skip
STARTS = {
    "": "", "iso": "2023-01-01 00:00:00,123 ", "level": "2023-01-01 00:00:00,123 INFO ",
    "thread": "2023-01-01 00:00:00 INFO [", "syslog": "Jun 14 15:16:01 ", "tag": "Jun 14 15:16:01 host ",
    "5424": "<165>1 2003-10-11T22:14:15.003Z h a - - [", "access": '1.1.1.1 - - [10/Oct/2000:13:55:36 -0700] "',
    "android": "03-17 16:13:38.811  1702  2395 D ", "epoch": "1672531200 ", "bracket": "[2023-01-01 00:00:00] [error] ",
}  # fmt: skip


def every_parser() -> list[TextFormat]:
    parsers = []
    for layout in (*WHOLE, *HEADS):
        if layout.whole and "%T%" not in layout.pattern:
            parsers.append(TextFormat(layout, None, NOW))
            continue
        for name in layout.times or ("iso", "syslog", "month-day", "epoch"):
            position = Position(GRAMMAR[name], 0 if layout.whole else 1 if name == "epoch" else 0)
            parsers.append(TextFormat(layout, position, NOW))
    return parsers


def growth(action: Callable[[str], object], start: str, unit: str) -> float:
    """Processor time for a line sixteen times as long, over that for the shorter one; at least 1 ms counts."""
    times = []
    for size in (8_000, 128_000):
        line = start + unit * (size // len(unit))
        began = time.process_time()
        action(line)
        times.append(time.process_time() - began)
    return times[1] / max(times[0], 0.001)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_time_is_linear_in_the_length_of_the_line(start: str) -> None:
    parsers = every_parser()
    structured = [named("json", [], NOW), named("logfmt", [], NOW)]

    def all_of_them(line: str) -> None:
        for parser in parsers:
            parser.parse(line)
        for form in structured:
            form.parse(line)

    for unit in UNITS:
        # Quadratic time would be 256 times as long.
        assert growth(all_of_them, start, unit) < 100, unit


@pytest.mark.parametrize("unit", UNITS)
def test_finding_timestamps_looks_only_at_the_beginning(unit: str) -> None:
    assert all(p.grammar in GRAMMARS for p in find_positions(unit * 1_000_000))


def test_long_lines_are_cut_and_marked() -> None:
    line = "2023-01-01 00:00:00 INFO a: " + "x" * (2 * MAX_LINE_CHARS)
    parsed = detect([line], NOW).parse(line)
    assert parsed is not None
    assert len(parsed.message) < MAX_LINE_CHARS
    assert parsed.metadata == {"component": "a", "truncated": "true"}


def test_deep_and_wide_json() -> None:
    form = named("json", [], NOW)
    assert form.parse('{"a":' * 100_000) is None
    wide = form.parse(json.dumps({"msg": "x", **{f"k{i}": i for i in range(5000)}}))
    assert wide is not None
    assert len(wide.metadata) <= 256
    deep = form.parse('{"msg":"x","a":' + '{"a":' * 50 + "1" + "}" * 51)
    assert deep is not None
    assert deep.message == "x"
