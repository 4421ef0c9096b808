from hypothesis import given
from hypothesis import strategies as st

from logstream.query.filter import LogFilter, matches, select, to_sql
from logstream.record import Batch, Level, Record

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
