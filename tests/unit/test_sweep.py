"""Windows of time: together the whole range, newest first, wider where there is little."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.query.filter import LogFilter
from logstream.query.sweep import FIRST_NS, Sweep
from logstream.query.time import MIN_NS

NOW = 1_800_000_000 * 10**9
_TIMES = st.one_of(st.none(), st.integers(NOW - 10**18, NOW + 10**18))


@given(start=_TIMES, end=_TIMES, found=st.lists(st.integers(0, 9), max_size=40), limit=st.integers(1, 50))
def test_windows_follow_one_another_and_are_the_whole_range(
    start: int | None, end: int | None, found: list[int], limit: int
) -> None:
    if start is not None and end is not None and start > end:
        start, end = end, start
    sweep = Sweep(LogFilter(start=start, end=end), limit=limit, now_ns=NOW)
    expected_end, left = end, limit
    for lines in found:
        window = sweep.window()
        if window is None:
            break
        assert window.end == expected_end
        if window.start == start:
            assert sweep.window() is None
            return
        assert window.start is not None
        assert window.start > (MIN_NS if start is None else start)
        expected_end = window.start - 1
        took = min(lines, left)
        sweep.took(took)
        left -= took
        assert sweep.left == left
    assert left == 0 or len(found) < 40 or window is not None


def test_an_empty_day_takes_few_windows() -> None:
    sweep = Sweep(LogFilter(start=NOW - 86_400 * 10**9, end=NOW), limit=100, now_ns=NOW)
    windows = 0
    while sweep.window() is not None:
        sweep.took(0)
        windows += 1
    assert windows == 3


def test_the_next_window_is_as_wide_as_the_rest_needs() -> None:
    sweep = Sweep(LogFilter(end=NOW), limit=100, now_ns=NOW)
    first = sweep.window()
    sweep.took(20)
    second = sweep.window()
    assert first is not None
    assert second is not None
    assert first.start is not None
    assert second.start is not None
    assert first.start == NOW - FIRST_NS
    assert second.end is not None
    assert second.end - second.start == pytest.approx(6 * FIRST_NS, abs=1)


@pytest.mark.parametrize(
    ("query", "at_once"),
    [
        ("request:3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d", True),
        ("trace_id:abc level:error", True),
        ("3f2a9c0d", True),
        ("timeout", False),
        ("region:eu", False),
        ("level:error", False),
        ("a OR 3f2a9c0d", False),
        ('"3f2a9c0d"', False),
    ],
)
def test_what_indexes_find_is_looked_for_at_once(query: str, at_once: bool) -> None:
    sweep = Sweep(LogFilter.of(query=query, start=NOW - 10**18, end=NOW), limit=100, now_ns=NOW)
    window = sweep.window()
    assert window is not None
    assert (window.start == NOW - 10**18) is at_once
