"""Limits of reads: what is checked before one runs, what the engine is told, and what an excess is called."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from logstream.errors import InvalidValue, StoreUnavailable, TooExpensive, TooLarge
from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.settings import ApiSettings
from logstream.storage.errors import query_error
from logstream.storage.progress import RUNNING, Cost, Progress, kill, progress, tagged

DAY = 86_400 * 10**9
NOW = 1_767_225_600 * 10**9
DOCUMENT = Path(__file__).parents[2] / "docs" / "limits.md"


@pytest.mark.parametrize(
    ("start", "end", "fits"),
    [
        (NOW - DAY, NOW, True),
        (NOW - DAY, None, True),
        (NOW - DAY - 1, NOW, False),
        (NOW - DAY - 1, None, False),
        (None, NOW, False),
        (None, None, False),
        (NOW, NOW, True),
    ],
)
def test_a_range_may_be_so_long(start: int | None, end: int | None, fits: bool) -> None:
    asked = LogFilter(start=start, end=end)
    QueryLimits().check(asked, NOW)
    if fits:
        QueryLimits(span_ns=DAY).check(asked, NOW)
        return
    with pytest.raises(InvalidValue) as refused:
        QueryLimits(span_ns=DAY).check(asked, NOW)
    assert (refused.value.field, refused.value.limit) == ("start_time", 1)


def test_a_range_may_not_be_reversed() -> None:
    with pytest.raises(InvalidValue, match="start_time must not lie after end_time"):
        QueryLimits().check(LogFilter(start=2, end=1), NOW)


def test_only_limits_that_are_set_become_settings() -> None:
    always = dict(QueryLimits().settings)
    limits = QueryLimits(seconds=5, rows_read=10, bytes_read=20, result_bytes=30)
    assert dict(limits.settings) == always | {
        "max_execution_time": 5, "max_rows_to_read": 10, "max_bytes_to_read": 20, "max_result_bytes": 30,
    }  # fmt: skip
    assert limits.settings is limits.settings
    assert replace(limits, seconds=None).settings.keys() == limits.settings.keys() - {"max_execution_time"}


LIMITS = {
    "max_execution_time": 30.0, "max_rows_to_read": 10, "max_bytes_to_read": 20, "max_result_bytes": 30,
    "max_rows_to_group_by": 40, "max_memory_usage": 50,
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "text", "field", "limit"),
    [
        (158, "Limit for rows (controlled by 'max_rows_to_read' setting) exceeded, max rows: 10.00", "rows_read", 10),
        (158, "Limit for rows or bytes to read exceeded, max rows: 10.00", "rows_read", 10),
        (307, "Limit for rows or bytes to read exceeded, max bytes: 20.00 B", "bytes_read", 20),
        (158, "Limit for rows to GROUP BY exceeded: has 41 rows, maximum: 40", "groups", 40),
        (159, "Timeout exceeded: elapsed 30001 ms, maximum: 30000 ms", "timeout", 30),
        (160, "Estimated query execution time (900 seconds) is too long", "timeout", 30),
        (241, "Query memory limit exceeded: would use 60 B", "memory", 50),
    ],
)
def test_an_excess_of_a_read_is_named(code: int, text: str, field: str, limit: float) -> None:
    error = DatabaseError(text, code=code)
    named = query_error(error, LIMITS)
    assert isinstance(named, TooExpensive)
    assert (named.status, named.field, named.limit) == (422, field, limit)
    assert not isinstance(query_error(error), TooExpensive), "what LogStream asks by itself is asked again"


def test_what_is_no_fault_of_the_read_stays_what_it_was() -> None:
    total = DatabaseError("(total) memory limit exceeded: would use 600.00 MiB", code=241)
    assert isinstance(query_error(total, LIMITS), StoreUnavailable)
    answer = query_error(DatabaseError("Limit for result exceeded, max bytes: 30.00 B", code=396), LIMITS)
    assert isinstance(answer, TooLarge)
    assert (answer.field, answer.limit) == ("limit", 30)


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"max_rows_to_read": 100}, "rows_read"), ({"max_bytes_to_read": 800}, "bytes_read"), ({}, None)],
)
def test_statements_of_one_read_count_together(limits: dict[str, object], field: str | None) -> None:
    cost, summary = Cost(), {"read_rows": "50", "read_bytes": "400"}
    cost.add(summary, limits)
    cost.add(summary, limits)
    if field is not None:
        with pytest.raises(TooExpensive) as raised:
            cost.add({"read_rows": "1", "read_bytes": "1"}, limits)
        assert (raised.value.field, raised.value.limit) == (field, next(iter(limits.values())))
        assert "narrow the time range" in raised.value.message
    assert not cost.abandoned
    cost.add({}, {})
    assert cost.rows_read == (100 if field is None else 101)


def test_statements_are_found_by_their_tag() -> None:
    one, other = Cost(), Cost()
    assert tagged("SELECT 1", None) == "SELECT 1"
    rows = [
        (tagged("SELECT 1", one), 10, 100, 80, 5),
        (tagged("SELECT 2", one), 1, 0, 8, 3),
        (tagged("SELECT 3", other) + "\n FORMAT Native", 7, 7, 56, 1),
        (f"SELECT 'param_read = \\'{other.tag}\\''", 9, 9, 9, 9),
        (RUNNING, 9, 9, 9, 9),
        (kill(other.tag), 9, 9, 9, 9),
    ]
    assert progress(rows) == {one.tag: Progress(11, 100, 88, 8), other.tag: Progress(7, 7, 56, 1)}
    assert one.tag in kill(one.tag)
    assert other.tag not in kill(one.tag)
    with pytest.raises(ValueError, match="not a tag"):
        kill("x' OR 1 --")


def test_the_document_names_settings_and_defaults() -> None:
    text = DOCUMENT.read_text()
    rows = dict(re.findall(r"\| `(MAX_\w+)` \| ([\w,]+)", text))
    fields = {name: field for name in ApiSettings.model_fields if (field := name.upper()) in rows}
    assert set(fields.values()) == set(rows)
    settings = ApiSettings()
    for name, shown in fields.items():
        value = getattr(settings, name)
        if value is None:
            assert rows[shown] in ("none", "30", "64"), name
        else:
            assert rows[shown] == str(value), name
    always = QueryLimits().settings
    assert f"{always['max_rows_to_group_by']:,}" in text
    assert f"{int(str(always['max_memory_usage'])) // 2**20} MiB" in text
