"""Bars, histograms and timecharts: nothing lost, nothing too wide."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from logstream.cli.bars import bar, cells
from logstream.cli.histogram import stacked
from logstream.cli.timechart import timechart

counts = st.lists(st.integers(0, 10**9), min_size=1, max_size=9)


@given(counts, st.integers(1, 120), st.integers(1, 5))
def test_parts_share_the_length_of_their_bar(parts: list[int], width: int, times: int) -> None:
    most = sum(parts) * times
    found = cells(parts, most, width)
    assert all(length >= 0 for length in found)
    assert not any(length for length, part in zip(found, parts, strict=True) if not part)
    if most:
        assert sum(found) == max(1, round(width / times))
        there = sum(part > 0 for part in parts)
        assert sum(length > 0 for length in found) >= min(there, sum(found))


def test_one_error_among_thousands_is_seen() -> None:
    assert cells([1, 100_000], 100_001, 50) == [1, 49]


def test_bars() -> None:
    assert bar(1.0, 10) == "█" * 10
    assert bar(0.5, 9) == "█" * 4 + "▌"
    assert bar(1e-9, 10) == "▏"
    assert bar(0.0, 10) == ""


def bucket(minute: int, values: dict[str, int], **more: int) -> dict[str, Any]:
    count = sum(values.values()) + sum(more.values())
    return {"timestamp": f"2026-01-31T12:{minute:02}:00Z", "count": count, "values": values, **more}


def histogram(by: str, series: list[str], *buckets: dict[str, Any]) -> dict[str, Any]:
    total = sum(one["count"] for one in buckets)
    return {"step_seconds": 60, "by": by, "series": series, "total": total, "buckets": buckets}


def test_a_histogram_by_level_begins_with_the_worst() -> None:
    answer = histogram(
        "level", ["info", "error"], bucket(0, {"info": 30, "error": 10}), bucket(1, {}), bucket(2, {"info": 20})
    )
    first, empty, last, legend, total = stacked(answer, width=100, colour=False)
    drawn = first.split("  ")[2]
    assert re.fullmatch(r"(█+)(▓+)", drawn)
    assert round(drawn.count("▓") / drawn.count("█")) == 3
    assert len(first) == 100
    assert empty.endswith("   0")
    assert last.count("▓") == len(drawn) // 2
    assert legend == "█ error 10  ▓ info 50"
    assert total == "60 logs, one bar per minute"


def test_rare_values_and_lines_without_the_field_have_parts_of_their_own() -> None:
    values = {f"v{i}": 10 - i for i in range(9)}
    answer = histogram("host", list(values), bucket(0, values, other=3, missing=4))
    *_, legend, more, total = stacked(answer, width=60, colour=False)
    assert "(other) 8" in legend + more
    assert "(no host) 4" in legend + more
    assert max(map(len, (legend, more))) <= 60
    assert total.startswith("61 logs")


def test_values_called_like_the_rest_are_no_rest() -> None:
    answer = histogram("host", ["(other)", "(no host)"], bucket(0, {"(other)": 2, "(no host)": 1}, missing=5))
    assert stacked(answer, width=100, colour=False)[1] == "█ (other) 2  ▓ (no host) 1  · (no host) 5"


def test_steps_below_a_second_have_milliseconds() -> None:
    answer = histogram("", [], {"timestamp": "2026-01-31T12:00:00.250Z", "count": 1, "values": {}})
    first, total = stacked(answer | {"step_seconds": 0.25}, width=60, colour=False)
    assert ":00.250  1  " in first
    assert total == "1 logs, one bar per 0.25 seconds"


def test_a_histogram_by_nothing_has_no_legend() -> None:
    answer = histogram("", [], bucket(0, {}, other=5) | {"count": 5})
    assert [line.rstrip("█") for line in stacked(answer, width=60, colour=False)][1:] == ["5 logs, one bar per minute"]


def chart_of(columns: list[tuple[str, str]], rows: list[list[Any]], *, width: int = 100) -> list[str] | None:
    answer = {"columns": [{"name": name, "kind": kind} for name, kind in columns], "rows": rows}
    return timechart(answer, width=width, colour=False)


TIME = ("timestamp", "time")


def test_a_timechart_has_the_gaps_of_its_time() -> None:
    lines = chart_of(
        [TIME, ("count()", "number")],
        [["2026-01-31T12:00:00Z", 10], ["2026-01-31T12:01:00Z", 5], ["2026-01-31T12:04:00Z", 20]],
    )
    assert lines is not None
    assert [line.split()[2] for line in lines] == ["10", "5", "·", "·", "20"]
    assert [line.count("█") for line in lines][-1] // 2 == lines[0].count("█")


def test_series_stand_side_by_side_the_largest_first() -> None:
    lines = chart_of(
        [TIME, ("service", "text"), ("count()", "number")],
        [
            ["2026-01-31T12:00:00Z", "web", 1],
            ["2026-01-31T12:00:00Z", "payment", 9],
            ["2026-01-31T12:01:00Z", "web", 2],
        ],
    )
    assert lines is not None
    assert lines[0].split() == ["payment", "web"]
    assert [word for word in lines[2].split() if "█" not in word and "▌" not in word][2:4] == ["·", "2"]


@given(st.integers(42, 200), st.integers(1, 40), st.integers(1, 3))
def test_it_fits_and_says_what_is_left_out(width: int, series: int, functions: int) -> None:
    rows = [["2026-01-31T12:00:00Z", f"service-{i}", *[10.5 * i] * functions] for i in range(series)]
    columns = [TIME, ("service", "text"), *((f"p9{i}(latency_ms)", "number") for i in range(functions))]
    lines = chart_of(columns, rows, width=width)
    assert lines is not None
    assert max(map(cell_len, lines)) <= width
    shown = len(re.findall(r"service-\d", lines[0].replace("…", "-0")))
    left = re.match(r"and (\d+) more", lines[-1])
    assert shown <= series * functions
    assert (left is not None) == (series * functions > max(1, (width - 16) // 18))


def test_what_is_no_chart_is_none() -> None:
    unsorted = [["2026-01-31T12:01:00Z", 1], ["2026-01-31T12:00:00Z", 2]]
    assert chart_of([TIME, ("count()", "number")], unsorted) is None
    assert chart_of([("service", "text"), ("count()", "number")], [["a", 1]]) is None
    assert chart_of([TIME, ("service", "text")], [["2026-01-31T12:01:00Z", "a"]]) is None
    assert chart_of([TIME, ("count()", "number")], []) is None


def test_old_and_distant_times_are_not_filled() -> None:
    lines = chart_of([TIME, ("n", "number")], [["1970-01-01T00:00:01Z", 1], ["2026-01-31T12:00:00.5Z", 2]])
    assert lines is not None
    assert len(lines) == 2
