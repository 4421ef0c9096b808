"""Timestamps as people send them, to nanoseconds since the epoch.

Accepted: RFC 3339 (any offset; a space for the T, a comma for the point, no offset meaning UTC; 0 to 9
fractional digits) and the epoch in seconds, milliseconds, microseconds or nanoseconds, as number or as
string, told apart by magnitude. Between them lies a factor of 1,000 and the years 1900–2262 reach 9.3e9
seconds at most, so |x| < 1e11 is read as seconds, < 1e14 as milliseconds, < 1e17 as microseconds.
"""

import re
from array import array
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

NS = 1_000_000_000
MIN_TIMESTAMP = -2_208_988_800 * NS
"""1900-01-01T00:00:00Z: the first moment of ClickHouse's DateTime64."""
MAX_TIMESTAMP = (1 << 63) - 1
"""2262-04-11T23:47:16.854775807Z: the last moment in nanoseconds of Int64."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(?:([Zz])|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_EPOCH = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COLUMN_ROWS = 48
"""From this many rows on, the vectorised parser costs less than one call a row."""


class TimestampError(ValueError):
    """A timestamp that cannot be had. `code` is stable, `reason` a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def parse(value: str | int) -> int:
    """Nanoseconds since the epoch, UTC.

    Raises TimestampError: `invalid_timestamp` for what is none, `timestamp_out_of_range` outside 1900–2262.
    """
    if isinstance(value, int):
        return _in_range(_scaled(value), value)
    match = _RFC3339.fullmatch(value)
    if match is None:
        return _parse_epoch(value)
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        if year == "0000":
            raise _out_of_range(value) from None
        raise _invalid(value) from None
    h, m, s = int(hour), int(minute), int(second)
    # RFC 3339 writes a leap second as :60; it counts as the first moment of the next minute.
    if h > 23 or m > 59 or s > 60:
        raise _invalid(value)
    seconds = days * 86_400 + h * 3600 + m * 60 + s
    if sign:
        oh, om = int(off_hours), int(off_minutes)
        if oh > 23 or om > 59:
            raise _invalid(value)
        offset = oh * 3600 + om * 60
        seconds += offset if sign == "-" else -offset
    return _in_range(seconds * NS + (int(fraction.ljust(9, "0")) if fraction else 0), value)


def _parse_epoch(text: str) -> int:
    stripped = text.strip()
    if not _EPOCH.fullmatch(stripped):
        raise _invalid(text)
    try:
        return _in_range(_scaled(int(stripped)), text)
    except ValueError as error:
        if isinstance(error, TimestampError):
            raise
    try:
        number = Decimal(stripped)
    except InvalidOperation:
        raise _invalid(text) from None
    if abs(number) >= 10**20:
        raise _out_of_range(text)
    return _in_range(int((number * _unit(number)).to_integral_value(ROUND_FLOOR)), text)


_UNITS = ((10**11, NS), (10**14, 1_000_000), (10**17, 1_000))


def _unit(number: int | Decimal) -> int:
    """Nanoseconds in one of the unit that a number of this magnitude is in."""
    for limit, unit in _UNITS:
        if -limit < number < limit:
            return unit
    return 1


def _scaled(number: int) -> int:
    return number * _unit(number)


def _in_range(nanoseconds: int, value: str | int) -> int:
    if MIN_TIMESTAMP <= nanoseconds <= MAX_TIMESTAMP:
        return nanoseconds
    raise _out_of_range(value)


def _invalid(value: str | int) -> TimestampError:
    return TimestampError(
        "invalid_timestamp",
        f"timestamp is neither RFC 3339 (2026-11-24T06:50:00.123Z) nor an epoch number: {_shown(value)}",
    )


def _out_of_range(value: str | int) -> TimestampError:
    return TimestampError(
        "timestamp_out_of_range", f"timestamp is outside 1900-01-01 to 2262-04-11 UTC: {_shown(value)}"
    )


def _shown(value: str | int) -> str:
    text = "a huge number" if isinstance(value, int) and abs(value) >= 10**30 else str(value)
    return ascii(text if len(text) <= 64 else text[:61] + "...")


def check_future(nanoseconds: int, latest: int, max_future_seconds: float) -> None:
    """Raises TimestampError `timestamp_in_future` when `nanoseconds` is past `latest`, the clock plus the limit."""
    if nanoseconds > latest:
        raise TimestampError(
            "timestamp_in_future",
            f"timestamp is more than {max_future_seconds:g} seconds (max_future_seconds) ahead of the clock",
        )


def parse_column(values: Sequence[str | int | None], now: int) -> "array[int]":
    """`parse` of every value, None meaning `now`. Raises TimestampError when any cannot be had."""
    if len(values) >= _COLUMN_ROWS:
        column = _parse_uniform(values)
        if column is not None:
            return column
    seconds = _Seconds()
    return array("q", [now if v is None else seconds.parse(v) for v in values])


class _Seconds:
    """`parse` that remembers the whole seconds it has seen: neighbours in a batch share them."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def parse(self, value: str | int) -> int:
        if isinstance(value, str) and len(value) > 20 and value[19] == "." and value[-1] == "Z":
            fraction = value[20:-1]
            if len(fraction) <= 9 and fraction.isdigit() and fraction.isascii():
                base = self._known.get(value[:19])
                if base is None:
                    base = self._known[value[:19]] = parse(value[:19])
                return _in_range(base + int(fraction) * 10 ** (9 - len(fraction)), value)
        return parse(value)


_TIME_WEIGHTS = np.array([36_000, 3600, 600, 60, 10, 1], dtype=np.int64)
_FRACTION_WEIGHTS = np.array([10 ** (8 - i) for i in range(9)], dtype=np.int64)


def _parse_uniform(values: Sequence[str | int | None]) -> "array[int] | None":
    """All values at once when they are RFC 3339 in UTC of one shape and one day, as one program writes them."""
    first = values[0]
    if not isinstance(first, str) or not 20 <= len(first) <= 30:
        return None
    length, rows = len(first), len(values)
    try:
        if set(map(len, values)) != {length}:  # type: ignore[arg-type]
            return None
        joined = "".join(values).encode("ascii")  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        return None
    table = np.frombuffer(joined, dtype=np.uint8).reshape(rows, length)
    # Everything but the digits of time and fraction is the same in each row, and the first row is checked by
    # the scalar parser, so only digits are left to be looked at.
    constant = np.concatenate((table[:, :11], table[:, 13:14], table[:, 16:17], table[:, 19:20], table[:, -1:]), axis=1)
    if first[-1] != "Z" or (length > 20 and first[19] != ".") or not bool((constant == constant[0]).all()):
        return None
    try:
        midnight = parse(first[:11] + "00:00:00Z")
        parse(first)
    except TimestampError:
        return None
    digits: npt.NDArray[np.uint8] = table - np.uint8(48)
    clock = digits[:, [11, 12, 14, 15, 17, 18]]
    if int(digits[:, 11:13].max()) > 9 or not _clock_is_valid(clock):
        return None
    result = clock.astype(np.int64) @ _TIME_WEIGHTS
    result *= NS
    result += midnight
    if length > 21:
        fraction = digits[:, 20:-1]
        if int(fraction.max()) > 9:
            return None
        result += fraction.astype(np.int64) @ _FRACTION_WEIGHTS[: length - 21]
    if midnight > MAX_TIMESTAMP - 86_401 * NS or midnight < MIN_TIMESTAMP:
        return None
    column = array("q")
    column.frombytes(result.tobytes())
    return column


def _clock_is_valid(clock: "npt.NDArray[np.uint8]") -> bool:
    """Rows of six digits HHMMSS; a leap second is left to the scalar parser."""
    high = clock.max(axis=0)
    if int(high.max()) > 9 or int(high[0]) > 2 or int(high[2]) > 5 or int(high[4]) > 5:
        return False
    return int(high[0]) < 2 or bool((clock[:, 0].astype(np.uint8) * 10 + clock[:, 1] <= 23).all())
