"""Points in time as people and programs write them, and as LogStream answers them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from logstream.errors import InvalidValue

MIN_NS = -2_208_988_800_000_000_000
"""1900-01-01T00:00:00Z: where ClickHouse's DateTime64 begins."""
MAX_NS = 9_223_372_036_854_775_807
"""2262-04-11T23:47:16.854775807Z: where Int64 nanoseconds end."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9})\d*)?(?:\s?([Zz]|[+-]\d{2}:?\d{2}))?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,9})?", re.ASCII)
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))


def parse_time(text: str, field: str) -> int:
    """`text` as nanoseconds since the epoch, UTC.

    RFC 3339 (a missing zone means UTC, a date alone its midnight), or the epoch in seconds, milliseconds,
    microseconds or nanoseconds, told apart by their size. Raises InvalidValue naming `field`.
    """
    text = text.strip()
    value = _parse(text)
    if value is None:
        raise InvalidValue(
            f"{field} must be RFC 3339 (2026-01-31T12:00:00Z) or the epoch in s, ms, µs or ns: {text[:64]!r}",
            field=field,
        )
    if not MIN_NS <= value <= MAX_NS:
        raise InvalidValue(
            f"{field} must lie between 1900-01-01 and 2262-04-11: {text[:64]!r}",
            field=field,
            limit="1900-01-01/2262-04-11",
        )
    return value


def _parse(text: str) -> int | None:
    if _NUMBER.fullmatch(text):
        try:
            number = Decimal(text)
        except InvalidOperation:
            return None
        factor = next((factor for limit, factor in _UNITS if abs(number) < limit), 1)
        return int(number * factor)
    found = _RFC3339.fullmatch(text)
    if found is None:
        # A "+" that was not percent-encoded arrives as a space: 12:00:00 02:00.
        found = _RFC3339.fullmatch(re.sub(r" (\d{2}:?\d{2})$", r"+\1", text)) if "T" in text.upper() else None
        if found is None:
            return None
    day, clock, fraction, zone = found.groups()
    offset = "+00:00" if zone is None or zone in "Zz" else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}")
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def format_time(ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, with 0, 3, 6 or 9 digits: as few as keep the value."""
    seconds, fraction = divmod(ns, 10**9)
    head = _second(seconds)
    if not fraction:
        return head + "Z"
    digits = f"{fraction:09d}"
    if digits.endswith("000"):
        digits = digits[:3] if digits.endswith("000000") else digits[:6]
    return f"{head}.{digits}Z"
