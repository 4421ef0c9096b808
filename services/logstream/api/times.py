"""Times at the API's edge: ISO 8601 there, nanoseconds since the epoch inside."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_ns(ns: int) -> datetime:
    """UTC, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def optional_from_ns(ns: int | None) -> datetime | None:
    return None if ns is None else from_ns(ns)


def to_ns(time: datetime) -> int:
    """`time` must know its offset from UTC."""
    return (time - _EPOCH) // _MICROSECOND * 1000
