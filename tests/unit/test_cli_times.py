"""Times as people type them, and the bar chart over them."""

from datetime import UTC, datetime, timedelta

import pytest

from logstream.cli.failure import Failure
from logstream.cli.histogram import chart
from logstream.cli.times import moment, period, span

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_spans() -> None:
    assert span("15m", "--since") == timedelta(minutes=15)
    assert span(" 2W ", "--since") == timedelta(weeks=2)


def test_moments() -> None:
    assert moment("2h", "--from", NOW) == "2026-01-31T10:00:00Z"
    assert moment("2026-01-31T12:00:00+02:00", "--from", NOW) == "2026-01-31T10:00:00Z"
    assert moment("now", "--to", NOW) == "2026-01-31T12:00:00Z"


def test_periods() -> None:
    assert period(None, None, None, NOW) == {}
    assert period("1h", None, "30m", NOW) == {"start_time": "2026-01-31T11:00:00Z", "end_time": "2026-01-31T11:30:00Z"}
    assert period("all", None, None, NOW) == {"start_time": "1900-01-01T00:00:00Z"}


@pytest.mark.parametrize("text", ["", "h", "1y", "-1h", "99999999d", "2026-13-01", "yesterday"])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(Failure, match="--from must be like") as failure:
        moment(text, "--from", NOW)
    assert failure.value.status == 2


def test_since_and_from_exclude_each_other() -> None:
    with pytest.raises(Failure, match="--since or --from"):
        period("1h", "2h", None, NOW)


def test_the_chart_has_one_bar_a_minute_and_the_total() -> None:
    rows = [{"timestamp": "2026-01-31T12:00:00Z", "count": 10}, {"timestamp": "2026-01-31T12:05:00Z", "count": 5}]
    *bars, total = chart(rows, colour=False)
    assert [bar.count("█") for bar in bars] == [50, 25]
    assert total == "15 logs, one bar per minute"


def test_a_long_time_gets_coarser_bars_and_loses_nothing() -> None:
    rows = [{"timestamp": (NOW + timedelta(minutes=i)).isoformat(), "count": 2} for i in range(10_000)]
    *bars, total = chart(rows, colour=False)
    assert len(bars) <= 60
    assert total.startswith("20,000 logs")


def test_old_logs_over_decades_fit() -> None:
    rows = [{"timestamp": f"{year}-06-01T00:00:00Z", "count": 1} for year in range(1900, 2262)]
    *bars, total = chart(rows, colour=False)
    assert len(bars) <= 60
    assert total.startswith("362 logs")
