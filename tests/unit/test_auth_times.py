"""Times at the API's edge."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from logstream.api.times import from_ns, optional_from_ns, to_ns


def test_both_ways() -> None:
    assert to_ns(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert from_ns(1_700_000_000_123_456_789) == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert optional_from_ns(None) is None


@given(st.datetimes(timezones=st.timezones()))
def test_every_time_has_its_nanoseconds(time: datetime) -> None:
    ns = to_ns(time)
    if from_ns(0) <= time:
        assert from_ns(ns) == time
