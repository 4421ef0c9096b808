"""Numbers, durations and byte sizes: as literals of a query, and as values of a field on either side.

Values are IEEE doubles on both sides, correctly rounded, so the two agree to the bit. A plain number has no unit and
is comparable with numbers and with byte sizes, not with durations: nobody knows whether it counts ms or s.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
NUMBER = re.compile(rf"[+-]?{_NUMBER}(?:[eE][+-]?[0-9]+)?", re.ASCII)
_DURATION_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9,
}  # fmt: skip
"""Nanoseconds. Both signs for micro (U+00B5 and U+03BC) are in use."""
_SIZE_UNITS = {"b": 1} | {
    f"{prefix}{infix}b": base ** (power + 1)
    for power, prefix in enumerate("kmgtp")
    for infix, base in (("", 1000), ("i", 1024))
}
"""Bytes; compared without case."""

# The same texts are regular expressions of RE2 in the engine and of `re` here: only what means the same in both.
_DURATION_PART = rf"({_NUMBER}) ?(ns|us|µs|μs|ms|s|m|h|d)"
_DURATION = rf"^(?:{_NUMBER} ?(?:ns|us|µs|μs|ms|s|m|h|d) ?)+$"
_SIZE = rf"^({_NUMBER}) ?((?i:[kmgtp]?i?b))$"

_duration = re.compile(_DURATION.replace("$", r"\Z"), re.ASCII)
_duration_part = re.compile(_DURATION_PART, re.ASCII)
_size = re.compile(_SIZE.replace("$", r"\Z"), re.ASCII)


class Kind(StrEnum):
    """What a literal's unit makes of it. DURATION is kept in nanoseconds, SIZE in bytes."""

    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Quantity:
    kind: Kind
    value: float


def parse_literal(text: str) -> Quantity | None:
    """`text` as a number (250, -1.5, 1e6), duration (1.5s, 1h30m) or size (10KiB); None when it is none of them."""
    for kind, parse in ((Kind.NUMBER, number), (Kind.DURATION, duration), (Kind.SIZE, size)):
        value = parse(text)
        if value is not None:
            return Quantity(kind, value) if math.isfinite(value) else None
    return None


def number(text: str) -> float | None:
    """None when `text` is no finite number."""
    if not NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def duration(text: str) -> float | None:
    """Whole nanoseconds; None when `text` is no duration."""
    if not _duration.match(text):
        return None
    return sum(_whole(float(n) * _DURATION_UNITS[unit]) for n, unit in _duration_part.findall(text))


def size(text: str) -> float | None:
    """Bytes; a number without unit counts bytes, too. None when `text` is neither."""
    found = _size.match(text)
    if found is None:
        return number(text)
    factor = _SIZE_UNITS.get(found[2].lower())
    return None if factor is None else float(found[1]) * factor


def _whole(value: float) -> float:
    return float(round(value)) if math.isfinite(value) else value


def reader(kind: Kind) -> Callable[[str], float | None]:
    """What reads a field's text as a quantity of `kind`."""
    return {Kind.NUMBER: number, Kind.DURATION: duration, Kind.SIZE: size}[kind]


def to_sql(text: str, kind: Kind, bind: Callable[[object, str], str]) -> str:
    """The SQL expression text `text` as a Nullable(Float64), as `reader(kind)` reads it. bind: makes a parameter."""
    plain = f"toFloat64OrNull({text})"
    finite = f"if(isFinite(assumeNotNull({plain})), {plain}, NULL)"
    if kind is Kind.NUMBER:
        return finite
    if kind is Kind.DURATION:
        units, factors = _table(_DURATION_UNITS, bind)
        total = (
            f"arraySum(part -> round(toFloat64OrZero(part[1]) * transform(part[2], {units}, {factors}, 0.)), "
            f"extractAllGroupsVertical({text}, {bind(_DURATION_PART, 'String')}))"
        )
        return f"if(match({text}, {bind(_DURATION, 'String')}), {total}, NULL)"
    units, factors = _table(_SIZE_UNITS, bind)
    parts = f"extractGroups({text}, {bind(_SIZE, 'String')})"
    factor = f"transform(lower({parts}[2]), {units}, {factors}, 0.)"
    return f"if({factor} > 0, toFloat64OrZero({parts}[1]) * {factor}, {finite})"


def _table(units: dict[str, int], bind: Callable[[object, str], str]) -> tuple[str, str]:
    return bind(list(units), "Array(String)"), bind([float(f) for f in units.values()], "Array(Float64)")
