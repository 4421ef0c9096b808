import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.query.filter import LogFilter, matches, select, to_sql
from logstream.query.language import QuerySyntaxError, parse_filter
from logstream.query.language import nodes as n
from logstream.record import Batch, Level, Record

SECOND = 10**9
RECORD = Record(1_000, "payment", Level.WARN, "Card Declined: 100% of ÄRGER", {"k": "v"})


def test_an_empty_filter_asks_nothing():
    assert to_sql(LogFilter()).sql == "1"
    assert matches(LogFilter(), RECORD)


def test_each_field_narrows():
    assert matches(
        LogFilter.of(services=("a", "payment"), levels=(4,), search="card declined", start=1_000, end=1_000), RECORD
    )
    assert not matches(LogFilter.of(services=("pay",)), RECORD)
    assert not matches(LogFilter.of(levels=(5,)), RECORD)
    assert not matches(LogFilter.of(search="accepted"), RECORD)
    assert not matches(LogFilter(start=1_001), RECORD)
    assert not matches(LogFilter(end=999), RECORD)


def test_search_folds_case_beyond_ascii_and_knows_no_wildcards():
    assert matches(LogFilter.of(search="ärger"), RECORD)
    assert matches(LogFilter.of(search="100% OF"), RECORD)
    assert not matches(LogFilter.of(search="c%d"), RECORD)
    assert not matches(LogFilter.of(search="c_rd"), RECORD)


def test_a_small_sigma_is_one_letter():
    record = Record(0, "s", 1, "ΟΔΟΣ ΟΔΟΣΑ")
    for search in ("οδος", "οδοσ", "ΟΔΟΣ", "οδοσα"):
        assert matches(LogFilter.of(search=search), record)


def test_an_ascii_needle_folds_ascii_only():
    assert not matches(LogFilter.of(search="kelvin"), Record(0, "s", 1, "\u212aelvin"))


@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_value_is_ever_written_into_the_sql(search, services):
    logs = LogFilter.of(services=tuple("<service>" + s for s in services), search="<search>" + search)
    sql = to_sql(logs).sql
    assert "<service>" not in sql
    assert "<search>" not in sql


def test_select_gives_ascending_row_numbers():
    batch = Batch.of([Record(i, "s", 1 + i % 2, f"line {i}") for i in range(10)])
    assert list(select(LogFilter.of(levels=(2,), start=3), batch)) == [3, 5, 7, 9]
    assert list(select(LogFilter(), batch)) == list(range(10))


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("timestamp>=10 a", 10 * SECOND, None),
        ("timestamp>10 a", 10 * SECOND + 1, None),
        ("timestamp<20 a", None, 20 * SECOND - 1),
        ("timestamp:[10 TO 20] a", 10 * SECOND, 20 * SECOND),
        ("timestamp:15 a", 15 * SECOND, 15 * SECOND),
        ("timestamp>=10 timestamp>=12 timestamp<30 timestamp<=25 a", 12 * SECOND, 25 * SECOND),
    ],
)
def test_bounds_that_all_lines_must_meet_become_those_of_the_filter(query, start, end):
    assert LogFilter.of(query=query) == LogFilter(n.Word("a"), start, end)
    assert LogFilter.of(query=query, start=11 * SECOND).start == max(11 * SECOND, start or 0)


@pytest.mark.parametrize("query", ["a OR timestamp>=10", "NOT timestamp>=10", "timestamp>20 timestamp<10",
                                   "timestamp>2262-04-11T23:47:16.854775807Z", "timestamp<1900-01-01"])  # fmt: skip
def test_other_bounds_stay_where_they_are(query):
    logs = LogFilter.of(query=query)
    assert (logs.start, logs.end) == (None, None)
    assert logs.where == parse_filter(query)


def test_all_parts_together():
    logs = LogFilter.of(services=("a", "b"), levels=(5,), search="x", query="y z", start=1, end=2)
    assert logs == LogFilter.of(services=("a", "b"), levels=(5,), search="x", query="y z", start=1, end=2)
    assert hash(logs) == hash(LogFilter(logs.where, 1, 2))
    assert matches(logs, Record(2, "b", 5, "x y z"))
    for other in (Record(3, "b", 5, "x y z"), Record(2, "c", 5, "x y z"), Record(2, "b", 4, "x y z"),
                  Record(2, "b", 5, "y z"), Record(2, "b", 5, "x yz")):  # fmt: skip
        assert not matches(logs, other)


def test_pipes_have_no_place_in_a_filter():
    with pytest.raises(QuerySyntaxError, match="/api/v1/query") as caught:
        LogFilter.of(query="a | limit 5")
    assert caught.value.column == 3
