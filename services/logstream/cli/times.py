"""Times as people type them: "15m", "2h", "7d" ago, or a date and time. Pure."""

import re
from datetime import UTC, datetime, timedelta

from logstream.cli.failure import Failure

_SPAN = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(text: str, option: str) -> timedelta:
    """ "90s", "15m", "1h", "7d", "2w". Raises Failure naming `option`."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise Failure(f"{option} must be a number and s, m, h, d or w, like 15m or 2h: '{text}'", status=2)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str, option: str, now: datetime) -> str:
    """A span ago, or a date with or without a time (local unless it names a zone), as RFC 3339 in UTC."""
    text = text.strip()
    if text.lower() == "now":
        return rfc3339(now)
    try:
        if _SPAN.fullmatch(text.lower()):
            return rfc3339(now - span(text, option))
        return rfc3339(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise Failure(
            f"{option} must be like 2026-01-31T12:00, 2026-01-31T12:00:00Z or 2h: '{text}'", status=2
        ) from error


def period(since: str | None, start: str | None, end: str | None, now: datetime) -> dict[str, str]:
    """--since, --from and --to as the API's start_time and end_time; empty: its default, the last hour."""
    if since is not None and start is not None:
        raise Failure("give --since or --from, not both", status=2)
    found: dict[str, str] = {}
    if since is not None:
        if since.lower() == "all":
            found["start_time"] = "1900-01-01T00:00:00Z"
        else:
            found["start_time"] = moment(since, "--since", now)
    if start is not None:
        found["start_time"] = moment(start, "--from", now)
    if end is not None:
        found["end_time"] = moment(end, "--to", now)
    return found


def rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
