"""Timestamps: what is accepted, to the nanosecond, and what is refused by which name."""

from array import array
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstream.collector.decode.timestamps import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    NS,
    TimestampError,
    check_future,
    parse,
    parse_column,
)

AT = 1_795_503_000 * NS  # 2026-11-24T06:50:00Z


def outcome(value: str | int) -> int | str:
    """The time, or the code of the reason."""
    try:
        return parse(value)
    except TimestampError as error:
        return error.code


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-24T06:50:00Z", AT),
        ("2026-11-24t06:50:00z", AT),
        ("2026-11-24 06:50:00Z", AT),
        ("2026-11-24 06:50:00 +00:00", AT),
        ("2026-11-24T06:50:00", AT),
        ("2026-11-24 06:50:00,123", AT + 123_000_000),
        ("2026-11-24T06:50:00.1Z", AT + 100_000_000),
        ("2026-11-24T06:50:00.123456789Z", AT + 123_456_789),
        ("2026-11-24T06:50:00.000000001Z", AT + 1),
        ("2026-11-24T08:50:00+02:00", AT),
        ("2026-11-24T01:20:00-05:30", AT),
        ("2026-11-24T08:50:00+0200", AT),
        ("2026-11-24T06:49:60Z", AT),
        ("1900-01-01T00:00:00Z", MIN_TIMESTAMP),
        ("2262-04-11T23:47:16.854775807Z", MAX_TIMESTAMP),
        (1_795_503_000, AT),
        (1_795_503_000_123, AT + 123_000_000),
        (1_795_503_000_123_456, AT + 123_456_000),
        (1_795_503_000_123_456_789, AT + 123_456_789),
        ("1795503000", AT),
        (" 1795503000123 ", AT + 123_000_000),
        ("1795503000.123456789", AT + 123_456_789),
        ("1795503000123.5", AT + 123_500_000),
        ("1.795503e9", AT),
        (0, 0),
        ("0", 0),
        (-1, -NS),
        ("-0.5", -NS // 2),
        (-2_208_988_800, MIN_TIMESTAMP),
        (9_223_372_036, 9_223_372_036 * NS),
    ],
)
def test_accepted(value: str | int, expected: int) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "", "yesterday", "2026-11-24", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-11-24T24:00:00Z",
        "2026-11-24T06:60:00Z", "2026-11-24T06:50:61Z", "2026-11-24T06:50Z", "2026-W48-2T06:50:00Z",
        "2026-11-24T06:50:00.1234567890Z", "2026-11-24T06:50:00+25:00", "2026-11-24T06:50:00.Z",
        "\u0662026-11-24T06:50:00Z", "NaN", "nan", "Infinity", "-inf", "true", "0x10", "1_000", "--1", "1" * 5000,
        "2026-11-24T06:50:00Z trailing", "2026-11-24T06:50:00Z\n",
    ],
)  # fmt: skip
def test_invalid(value: str) -> None:
    with pytest.raises(TimestampError) as error:
        parse(value)
    assert error.value.code == "invalid_timestamp"
    assert len(error.value.reason) < 250


@pytest.mark.parametrize(
    "value",
    [
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1899-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59Z",
        "2262-04-11T23:47:16.854775808Z", "1900-01-01T00:00:00+00:01", 9_300_000_000, -2_208_988_801, 10**19, -(10**19),
        10**40, "1e30", "1e999", "-9.9e99", "10000000000",
    ],
)  # fmt: skip
def test_out_of_range(value: str | int) -> None:
    with pytest.raises(TimestampError) as error:
        parse(value)
    assert error.value.code == "timestamp_out_of_range"


@given(
    st.datetimes(datetime(1900, 1, 2), datetime(2262, 4, 10)),  # noqa: DTZ001 (hypothesis wants them naive)
    st.integers(0, 999_999_999),
    st.integers(0, 9),
    st.integers(-14 * 60, 14 * 60),
)
def test_agrees_with_the_standard_library(moment: datetime, fraction: int, digits: int, offset: int) -> None:
    moment = moment.replace(microsecond=0)
    expected = int((moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset)))
    shown = f"{fraction:09d}"[:digits]
    text = local.strftime("%Y-%m-%dT%H:%M:%S") + ("." + shown if digits else "")
    text += f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    assert parse(text) == expected + int(shown.ljust(9, "0"))


@given(st.text(max_size=40))
@example("2026-11-24T06:50:00Z\0")
def test_any_text_gives_a_time_or_a_reason(text: str) -> None:
    result = outcome(text)
    if isinstance(result, int):
        assert MIN_TIMESTAMP <= result <= MAX_TIMESTAMP
    else:
        assert result in ("invalid_timestamp", "timestamp_out_of_range")


@given(st.integers())
def test_any_number_gives_a_time_or_a_reason(number: int) -> None:
    result = outcome(number)
    if isinstance(result, int):
        assert result in (number * NS, number * 10**6, number * 1000, number)
        assert parse(str(number)) == result
    else:
        assert result == "timestamp_out_of_range"


def test_the_future_has_a_limit() -> None:
    check_future(AT, AT, 86_400)
    with pytest.raises(TimestampError, match="86400 seconds") as error:
        check_future(AT + 1, AT, 86_400)
    assert error.value.code == "timestamp_in_future"


def texts(template: str, n: int = 100) -> list[str]:
    return [template.format(m=i % 60, s=i * 7 % 60, f=i * 9_973_131 % 1_000_000_000) for i in range(n)]


@pytest.mark.parametrize(
    "template",
    [
        "2026-11-24T06:{m:02d}:{s:02d}.{f:09d}Z",
        "2026-11-24T06:{m:02d}:{s:02d}Z",
        "2026-11-24 06:{m:02d}:{s:02d}.{f:09d}Z",
        "1900-01-01T00:{m:02d}:{s:02d}.{f:09d}Z",
        "1969-12-31T23:{m:02d}:{s:02d}.{f:09d}Z",
        "2026-11-24T06:{m:02d}:{s:02d}.{f:09d}+02:00",
        "2026-11-{m:02d}T06:50:{s:02d}Z",
        "2262-04-11T23:{m:02d}:{s:02d}.{f:09d}Z",
        "2026-11-24T{m:02d}:50:00.{f:09d}Z",
        "2026-11-24T{s:02d}:50:00.{f:09d}Z",
        "2026-11-24T06:50:{s:02d}.{f}Z",
        "2026-11-24T06:50:00.{f:018d}Z",
    ],
)
def test_a_column_is_its_values(template: str) -> None:
    for values in (texts(template), [t[:23] + "Z" for t in texts(template)], [t[:22] + "Z" for t in texts(template)]):
        try:
            expected = [parse(v) for v in values]
        except TimestampError:
            with pytest.raises(TimestampError):
                parse_column(values, AT)
        else:
            assert list(parse_column(values, AT)) == expected


STAMP = st.one_of(
    st.none(),
    st.integers(-(10**19), 10**19),
    st.sampled_from(texts("2026-11-24T06:{m:02d}:{s:02d}.{f:09d}Z")),
    st.sampled_from(texts("2026-11-24T06:{m:02d}:{s:02d}Z")),
    st.from_regex(
        r"2026-1[0-3]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,10})?(Z|\+01:00)?", fullmatch=True
    ),
)


@given(st.one_of(st.lists(STAMP, max_size=4), STAMP.map(lambda v: [v] * 60)), st.data())
def test_any_column_is_its_values(values: list[str | int | None], data: st.DataObject) -> None:
    base: list[str | int | None] = [*texts("2026-11-24T06:{m:02d}:{s:02d}.{f:09d}Z", 50)]
    column = values if len(values) == 60 else data.draw(st.permutations(base + values))
    try:
        expected = [AT if v is None else parse(v) for v in column]
    except TimestampError:
        with pytest.raises(TimestampError):
            parse_column(column, AT)
    else:
        assert parse_column(column, AT) == array("q", expected)


@given(st.integers(0, 29), st.characters(max_codepoint=127), st.integers(0, 49))
def test_one_wrong_character_in_a_column(position: int, character: str, row: int) -> None:
    column: list[str | int | None] = [*texts("2026-11-24T06:{m:02d}:{s:02d}.{f:09d}Z", 50)]
    value = str(column[row])
    column[row] = value[:position] + character + value[position + 1 :]
    try:
        expected = [parse(v) for v in column if v is not None]
    except TimestampError:
        with pytest.raises(TimestampError):
            parse_column(column, AT)
    else:
        assert list(parse_column(column, AT)) == expected
