"""Times at the API's edge."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.api.times import from_ns, optional_from_ns, to_ns


def test_both_ways() -> None:
    assert to_ns(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert from_ns(1_700_000_000_123_456_789) == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert optional_from_ns(None) is None


@given(st.datetimes(datetime(1900, 1, 1), datetime(2262, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_every_time_has_its_nanoseconds(time: datetime) -> None:
    # In UTC: Python calls a time within a repeated hour equal to none of another zone.
    assert from_ns(to_ns(time)) == time.astimezone(UTC)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_no_time_is_too_far_away(text: str) -> None:
    assert abs(to_ns(datetime.fromisoformat(text))) > 2**62
