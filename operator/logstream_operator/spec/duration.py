"""Durations as Go and CEL write them: `90m`, `720h`, `1h30m`."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """Raises ValueError, which says how to write it: Go has no days."""
    if len(text) > 32 or not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text[:40]!r} is no duration: write hours, minutes or seconds, as 720h or 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def format_duration(value: timedelta) -> str:
    """The shortest form in whole units: 5400 s are `1h30m`. Fractions of a second stay."""
    rest = value.total_seconds()
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [
        f"{int(hours)}h" if hours else "",
        f"{int(minutes)}m" if minutes else "",
        f"{seconds:g}s" if seconds else "",
    ]
    return "".join(parts) or "0s"


def _read(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_read),
    Field(json_schema_extra={"type": "string", "pattern": PATTERN, "maxLength": 32, "format": None}),
]
"""In a resource: text of at most 32 characters."""
