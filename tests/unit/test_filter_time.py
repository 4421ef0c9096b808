import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.errors import InvalidValue
from logstream.query.time import MAX_NS, MIN_NS, format_time, parse_time

SECOND = 1_700_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2023-11-14T22:13:20Z", SECOND * 10**9),
        ("2023-11-14t22:13:20.123456789z", SECOND * 10**9 + 123_456_789),
        ("2023-11-15T00:13:20+02:00", SECOND * 10**9),
        ("2023-11-15T00:13:20 02:00", SECOND * 10**9),
        ("2023-11-14 22:13:20", SECOND * 10**9),
        ("2023-11-14", 1_699_920_000 * 10**9),
        ("1700000000", SECOND * 10**9),
        ("1700000000.25", SECOND * 10**9 + 250_000_000),
        ("1700000000123", SECOND * 10**9 + 123_000_000),
        ("1700000000123456", SECOND * 10**9 + 123_456_000),
        ("1700000000123456789", SECOND * 10**9 + 123_456_789),
        ("-1", -(10**9)),
        ("1900-01-01T00:00:00Z", MIN_NS),
        ("2262-04-11T23:47:16.854775807Z", MAX_NS),
    ],
)
def test_reads(text, ns):
    assert parse_time(text, "start_time") == ns


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2023-W46-2", "2023-13-01T00:00:00Z", "1899-12-31T23:59:59Z", "2262-04-12T00:00:00Z", "1e9",
     "nan", "99999999999999999999", "٢٠٢٣-11-14", "2023-11-14T22:13:20+99:00"],
)  # fmt: skip
def test_refuses_by_name(text):
    with pytest.raises(InvalidValue) as caught:
        parse_time(text, "end_time")
    assert caught.value.field == "end_time"


@given(st.integers(MIN_NS, MAX_NS))
def test_what_is_written_is_read_back(ns):
    assert parse_time(format_time(ns), "t") == ns


def test_digits_only_when_needed():
    assert format_time(0) == "1970-01-01T00:00:00Z"
    assert format_time(120_000_000) == "1970-01-01T00:00:00.120Z"
    assert format_time(1_000) == "1970-01-01T00:00:00.000001Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999999999Z"
