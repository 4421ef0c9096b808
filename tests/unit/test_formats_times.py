"""Timestamps: what a line leaves open, and dates that do not exist."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from logstream.formats import Reading, detect, events
from logstream.formats.times import GRAMMAR, TimeReader, day_order
from logstream.record import Level

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ns(moment: datetime) -> int:
    return round(moment.timestamp()) * 10**9


def reading(now: datetime = NOW, **more: object) -> Reading:
    return Reading(ns(now), **more)  # type: ignore[arg-type]


def read(line: str, *sample: str, given: Reading | None = None) -> datetime | None:
    form = detect([line, *sample], given or reading())
    parsed = form.parse(line)
    assert parsed is not None
    return None if parsed.timestamp is None else datetime.fromtimestamp(parsed.timestamp // 10**9, UTC)


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Feb 28 10:00:00", 2026),
        ("Mar  1 12:00:00", 2026),
        ("Mar  2 11:00:00", 2026),  # within a day: clocks and time zones differ
        ("Mar  3 10:00:00", 2025),
        ("Dec 31 23:59:59", 2025),
        ("Feb 29 10:00:00", 2024),
    ],
)
def test_a_year_that_is_not_written_is_the_latest_that_is_not_in_the_future(text: str, year: int) -> None:
    moment = read(f"{text} host app[1]: message")
    assert moment is not None
    assert moment.year == year


def test_a_file_over_new_year() -> None:
    lines = ["Dec 31 23:59:59 h app[1]: a", "Jan  1 00:00:01 h app[1]: b"]
    moments = [read(line, *lines) for line in lines]
    assert moments == [datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)]


def test_a_given_year() -> None:
    assert read("Jun 14 15:16:01 h a[1]: x", given=reading(year=2005)) == datetime(2005, 6, 14, 15, 16, 1, tzinfo=UTC)
    assert read("Feb 29 15:16:01 h a[1]: x", given=reading(year=2005)) is None


def test_a_given_zone_is_for_times_without_an_offset() -> None:
    berlin = reading(zone=ZoneInfo("Europe/Berlin"))
    assert read("2025-07-01 12:00:00 INFO a: x", given=berlin) == datetime(2025, 7, 1, 10, tzinfo=UTC)
    assert read("2025-01-01 12:00:00 INFO a: x", given=berlin) == datetime(2025, 1, 1, 11, tzinfo=UTC)
    assert read("2025-07-01 12:00:00Z INFO a: x", given=berlin) == datetime(2025, 7, 1, 12, tzinfo=UTC)
    assert read("2025-07-01T12:00:00-0330 INFO a: x", given=berlin) == datetime(2025, 7, 1, 15, 30, tzinfo=UTC)


def test_a_clock_without_a_date_is_of_the_last_day_that_fits() -> None:
    assert read("11:59:59.5 [main] INFO  a.B - x") == datetime(2026, 3, 1, 11, 59, 59, tzinfo=UTC)
    assert read("12:00:01.5 [main] INFO  a.B - x") == datetime(2026, 2, 28, 12, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("texts", "day_first", "order"),
    [
        (["04/05/2023"], None, "mdy"),
        (["04/05/2023"], True, "dmy"),
        (["04/05/2023", "13/05/2023"], None, "dmy"),
        (["04/05/2023", "04/13/2023"], True, "mdy"),
        (["17/06/09", "17/06/10"], None, "ymd"),
        (["30.12.25", "31.12.25"], None, "dmy"),
        (["12/30/25", "12/31/25"], None, "mdy"),
        (["03-17", "03-18"], None, "mdy"),
        (["17.03", "18.03"], None, "dmy"),
        ([], None, "mdy"),
    ],
)
def test_day_order(texts: list[str], day_first: bool | None, order: str) -> None:
    assert day_order(texts, reading(day_first=day_first)) == order


@pytest.mark.parametrize(
    "text",
    ["2023-02-30 00:00:00", "2023-13-01 00:00:00", "2023-00-01 00:00:00", "2023-01-01 29:00:00"],
)
def test_a_line_whose_date_does_not_exist_has_no_timestamp_and_is_kept_whole(text: str) -> None:
    good = "2023-01-01 00:00:00 INFO a: x"
    parsed = detect([good] * 5, reading()).parse(f"{text} WARN a: kept")
    assert parsed is not None
    assert (parsed.timestamp, parsed.level, parsed.message) == (None, Level.WARN, f"{text} WARN a: kept")


ORDINARY = [f"2020-03-01 10:{i // 60:02d}:{i % 60:02d} INFO line {i}" for i in range(300)]


@pytest.mark.parametrize("behind", [0, 1, 300])
@pytest.mark.parametrize(
    "impossible",
    ["2020-13-45 10:00:00 INFO bad date", "9999-01-01 00:00:00 INFO far", "0000-00-00 00:00:00 INFO no battery"],
)
def test_a_date_that_cannot_be_never_becomes_today(impossible: str, behind: int) -> None:
    lines = ["2020-03-01 09:00:00 INFO ok", impossible, *ORDINARY[:behind]]
    found = list(events(lines, detect(lines, reading())))
    assert [e.message for e in found] == ["ok", impossible, *(f"line {i}" for i in range(behind))]
    assert {datetime.fromtimestamp((e.timestamp or 0) // 10**9, UTC).date() for e in found} == {date(2020, 3, 1)}


def test_a_file_of_dates_that_cannot_be_has_no_times_and_loses_nothing() -> None:
    lines = ["2020-13-45 10:00:00 INFO bad date", "9999-01-01 00:00:00 INFO far"]
    found = list(events(lines, detect(lines, reading())))
    assert [(e.timestamp, e.message) for e in found] == [(None, line) for line in lines]


@pytest.mark.parametrize("behind", [0, 300])
@pytest.mark.parametrize(
    "message",
    ["Retry at 11:30:00 was refused", "11:30:00 INFO Retry", "03-17 11:30:00 INFO Retry",
     "Retry at 2021-05-05 11:30:00 was refused"],
)  # fmt: skip
def test_a_time_in_a_message_begins_no_event(message: str, behind: int) -> None:
    lines = ["2020-03-01 09:00:05 INFO a", "2020-03-01 09:00:06 ERROR job failed:", message, *ORDINARY[:behind]]
    form = detect(lines, reading())
    found = list(events(lines, form))
    assert [e.message for e in found[:2]] == ["a", f"job failed:\n{message}"]
    assert len(found) == 2 + behind
    # The same lines where the sample has none such.
    found = list(events(lines, detect(ORDINARY, reading())))
    assert [e.message for e in found[:2]] == ["a", f"job failed:\n{message}"]


def test_words_before_a_timestamp_are_kept() -> None:
    lines = [f"Retry at 11:30:{i:02d} was refused" for i in range(30)]
    first, *_ = events(lines, detect(lines, reading()))
    assert (first.metadata, first.message) == ({"prefix": "Retry at"}, "was refused")
    lines = ["ALERT 1117838570 2005.06.03 R02 word 2005-06-03-15.42.50.363779 R02 RAS KERNEL FATAL cache error"] * 9
    first, *_ = events(lines, detect(lines, reading()))
    assert (first.metadata["prefix"], first.message) == ("ALERT word", "cache error")


def test_times_that_cannot_be_stored() -> None:
    epoch = TimeReader(GRAMMAR["epoch"], reading())
    assert epoch.read("9999999999999999999", None, None) is None
    assert epoch.read("1672531200", "5", None) == 1_672_531_200_500_000_000
    assert epoch.read("1672531200000000001", None, None) == 1_672_531_200_000_000_001


def test_a_leap_second_is_the_second_before() -> None:
    assert read("2016-12-31T23:59:60Z INFO a: x") == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_named_zones_and_odd_offsets() -> None:
    iso = TimeReader(GRAMMAR["iso"], reading())
    noon = "2023-01-01 12:00:00"
    expected = datetime(2023, 1, 1, 12, tzinfo=timezone(timedelta(hours=-8)))
    assert iso.read(noon, None, "PST") == ns(expected)
    assert iso.read(noon, None, "+99:99") is None
    assert iso.read(noon, None, "XYZ") == ns(datetime(2023, 1, 1, 12, tzinfo=UTC))


def test_memory_of_known_texts_is_bounded() -> None:
    clock = TimeReader(GRAMMAR["iso"], reading())
    for i in range(20_000):
        clock.read(f"2023-01-{i // 3600 % 28 + 1:02d} {i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}", None, None)
    assert len(clock._known) <= 8192
