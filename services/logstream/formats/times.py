"""Grammars of timestamps, and their way to nanoseconds since the epoch. Pure; nothing here raises on any text.

Every expression takes time linear in the text: repetitions are bounded or possessive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from logstream.clock import NS_PER_SECOND
from logstream.formats.model import Reading

MAX_TIMESTAMP = 9_223_372_036_000_000_000 - NS_PER_SECOND
"""The latest time that is stored, 2262-04-11."""
MIN_TIMESTAMP = -2_208_988_800 * NS_PER_SECOND
_SLACK = 86_400
"""Seconds that a date may lie after the reference: clocks and time zones differ by so much."""
_CACHED = 8192
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MON = r"(?P<mon>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_HMS = r"(?P<H>[0-2]?\d):(?P<M>[0-5]\d):(?P<S>[0-6]\d)"
_AMPM = r"(?: ?(?P<ampm>[AaPp][Mm])\b)?+"
_WEEKDAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"

_ABBREVIATIONS = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
}  # fmt: skip
_FRACTION = r"(?:[.,](?P<f>\d{1,9}+)\d*+)?+"
_ZONE = r"(?: ?(?P<z>Z|[+-]\d\d:?\d\d|UTC|GMT|WET|E[SD]T|C[SD]T|M[SD]T|P[SD]T|CES?T|EES?T)(?![A-Za-z0-9]))?+"


@dataclass(frozen=True, slots=True)
class TimeGrammar:
    """One way of writing a point in time; `pattern` has named groups for its parts.

    fraction: the expression of what follows the seconds, with the group f. milliseconds: the digits of
    the fraction are a number of milliseconds, whose leading zeros may be missing.
    """

    name: str
    pattern: str
    fraction: str = _FRACTION
    zone: str = _ZONE
    milliseconds: bool = False

    def fragment(self) -> str:
        """For use inside a larger expression: groups t (the text), f (digits of the fraction) and z (the zone)."""
        return f"(?P<t>{_unnamed(self.pattern)}){self.fraction}{self.zone}"


def _unnamed(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "?:", pattern)


GRAMMARS: tuple[TimeGrammar, ...] = (
    # 2015-10-18 18:01:47,978 · 2005-06-03-15.42.50.363779 · 2023/01/02 03:04:05 · 2023-01-02T03:04:05+02:00
    # Also dates that cannot be, 0000-00-00: a clock that is wrong begins events all the same.
    TimeGrammar(
        "iso",
        r"(?P<Y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})[Tt _@-]"
        r"(?P<H>[0-2]?\d)[:.](?P<M>[0-5]\d)[:.](?P<S>[0-6]\d)",
    ),
    # 20171223-22:15:29:606, the numbers sometimes without their leading zeros: 20171224-0:7:2:44
    TimeGrammar(
        "compact",
        r"(?P<Y>(?:19|20)\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)[T -](?P<H>[0-2]?\d):(?P<M>[0-5]?\d):(?P<S>[0-6]?\d)",
        fraction=r":(?P<f>\d{1,3}+)",
        milliseconds=True,
    ),
    # 20230102T030405Z · 20230102 03:04:05.678
    TimeGrammar(
        "basic",
        r"(?P<Y>(?:19|20)\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)[T -](?P<H>[0-2]\d):?(?P<M>[0-5]\d):?(?P<S>[0-6]\d)(?!\d)",
    ),
    # 081109 203615 · 081109 20:36:15
    TimeGrammar(
        "short", r"(?P<y>\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d) {1,2}(?P<H>[0-2]?\d):?(?P<M>[0-5]\d):?(?P<S>[0-6]\d)(?!\d)"
    ),
    # 17/06/09 20:10:40 · 04/30/2023 8:10:40 PM · 30.04.2023, 20:10:40
    TimeGrammar("slashed", rf"(?P<a>\d{{1,2}})[/.-](?P<b>\d{{1,2}})[/.-](?P<c>\d{{4}}|\d\d),?[ T]{_HMS}{_AMPM}"),
    # Sun Dec 04 04:47:44.123456 2005
    TimeGrammar(
        "asctime",
        rf"(?:{_WEEKDAY},? )?{_MON} {{1,2}}(?P<d>[0-3]?\d) {_HMS}(?:\.(?P<F>\d{{1,9}}))?"
        r"(?: (?P<Z>[A-Z]{3,4}))? (?P<Y>(?:19|20)\d\d)(?!\d)",
        fraction="(?P<f>)",
    ),
    # Jun 14 15:16:01 · Jun 14 2023 15:16:01 · Jun 14, 2023 3:16:01 PM
    TimeGrammar("syslog", rf"{_MON} {{1,2}}(?P<d>[0-3]?\d)(?:,? (?P<Y>(?:19|20)\d\d))?,? {_HMS}{_AMPM}"),
    # 10/Oct/2000:13:55:36 -0700 · 10-Oct-2000 13:55:36.123 · Tue, 10 Oct 2000 13:55:36
    TimeGrammar(
        "day-month",
        rf"(?:{_WEEKDAY},? )?(?P<d>[0-3]?\d)[ /-]{_MON}[ /-](?P<Y>(?:19|20)\d\d)[: ]{_HMS}",
    ),
    # 03-17 16:13:38.811 · 10.30 16:49:06
    TimeGrammar("month-day", rf"(?P<a>\d\d)[-./](?P<b>\d\d) {_HMS}"),
    # seconds, milli-, micro- or nanoseconds since 1970
    TimeGrammar("epoch", r"(?P<E>\d{10}(?:\d{3}){0,3})(?!\d)", zone="(?P<z>(?!))?"),
    TimeGrammar("klog", rf"(?P<m>[01]\d)(?P<d>[0-3]\d) {_HMS}"),
    TimeGrammar("clock", _HMS),
)
GRAMMAR = {g.name: g for g in GRAMMARS}

DayOrder = str
"""How three numbers of a date stand: ymd, dmy or mdy."""


def day_order(texts: Sequence[str], reading: Reading) -> DayOrder:
    """The order that all of `texts` (of the grammar slashed or month-day) can be read in.

    Two-digit years may come first. Where several orders fit, the one whose first number changes least is taken
    to begin with the year; otherwise `reading.day_first` decides, and month first without it.
    """
    parts = [(int(m[1]), int(m[2]), m[3]) for t in texts if (m := _THREE.match(t))]
    preferred = "dmy" if reading.day_first else "mdy"
    if not parts:
        return preferred
    possible = [order for order in (preferred, "dmy", "mdy") if all(_fits(p, order) for p in parts)]
    if all(c is not None and len(c) == 2 for _, _, c in parts):
        year_now = datetime.fromtimestamp(reading.reference_ns // NS_PER_SECOND, UTC).year % 100
        year_first = all(1 <= b <= 12 and 1 <= int(c or 0) <= 31 for _, b, c in parts)
        # The last number goes through the days of a month, or stands still as a year does.
        plausible = all((year_now - a) % 100 <= 40 for a, _, _ in parts)
        steady = len({a for a, _, _ in parts}) <= len({c for _, _, c in parts})
        if year_first and (not possible or (reading.day_first is None and plausible and steady)):
            return "ymd"
    return possible[0] if possible else preferred


_THREE = re.compile(r"(\d{1,2})[/.-](\d{1,2})(?:[/.-](\d{4}|\d\d))?")


def _fits(parts: tuple[int, int, str | None], order: DayOrder) -> bool:
    first, second, _ = parts
    month, day = (second, first) if order == "dmy" else (first, second)
    return 1 <= month <= 12 and 1 <= day <= 31


class TimeReader:
    """Texts of one grammar to nanoseconds. Keeps the last few thousand: lines of a second share their text."""

    def __init__(self, grammar: TimeGrammar, reading: Reading, order: DayOrder = "mdy") -> None:
        self._regex = re.compile(grammar.pattern, re.IGNORECASE)
        self._reading = reading
        self._order = order
        self._milliseconds = grammar.milliseconds
        self._known: dict[tuple[str, str | None], int | None] = {}
        latest = min(max(reading.reference_ns // NS_PER_SECOND + _SLACK, _SLACK), MAX_TIMESTAMP // NS_PER_SECOND)
        self._latest = latest

    def read(self, text: str, fraction: str | None, zone: str | None) -> int | None:
        """Nanoseconds since the epoch, None when there is no such date or it cannot be stored."""
        key = (text, zone)
        try:
            ns = self._known[key]
        except KeyError:
            if len(self._known) >= _CACHED:
                self._known.clear()
            ns = self._known[key] = self._slow(text, zone)
        if fraction and ns is not None:
            if self._milliseconds:
                return ns + int(fraction) * 1_000_000
            return ns + int(fraction) * _POWER[len(fraction)]
        return ns

    def _slow(self, text: str, zone: str | None) -> int | None:
        found = self._regex.match(text)
        if found is None:
            return None
        parts = {name: value for name, value in found.groupdict().items() if value}
        try:
            ns = self._epoch(parts["E"]) if "E" in parts else self._civil(parts, zone)
        except (ValueError, OverflowError, KeyError):
            return None
        return ns if MIN_TIMESTAMP <= ns <= MAX_TIMESTAMP else None

    def _epoch(self, digits: str) -> int:
        return int(digits) * int(10 ** (19 - len(digits)))

    def _civil(self, parts: dict[str, str], zone_text: str | None) -> int:
        hour, minute, second = int(parts["H"]), int(parts["M"]), min(int(parts["S"]), 59)
        if ampm := parts.get("ampm"):
            hour = hour % 12 + (12 if ampm in {"PM", "pm", "Pm", "pM"} else 0)
        zone = _zone(zone_text or parts.get("Z")) or self._reading.zone
        time = (hour, minute, second)
        ns = self._dated(self._date(parts), time, zone) * NS_PER_SECOND
        if fraction := parts.get("F"):
            ns += int(fraction) * _POWER[len(fraction)]
        return ns

    def _date(self, parts: dict[str, str]) -> tuple[int | None, int | None, int | None]:
        """Year, month and day, as far as they are written."""
        if "a" in parts:
            first, second, third = int(parts["a"]), int(parts["b"]), parts.get("c")
            if self._order == "ymd" and third:
                return _century(first, self._latest), second, int(third)
            year = None if third is None else int(third) if len(third) == 4 else _century(int(third), self._latest)
            return (year, second, first) if self._order == "dmy" else (year, first, second)
        month = _MONTHS.index(parts["mon"].lower()) + 1 if "mon" in parts else int(parts["m"]) if "m" in parts else None
        day = int(parts["d"]) if "d" in parts else None
        if "y" in parts:
            return _century(int(parts["y"]), self._latest), month, day
        return (int(parts["Y"]) if "Y" in parts else None), month, day

    def _dated(self, day: tuple[int | None, int | None, int | None], time: tuple[int, int, int], zone: tzinfo) -> int:
        year, month, dom = day
        if year is not None and month is not None and dom is not None:
            return _seconds(year, month, dom, time, zone)
        local = datetime.fromtimestamp(self._latest - _SLACK, zone)
        if month is None or dom is None:
            at = _seconds(local.year, local.month, local.day, time, zone)
            return at if at <= self._latest - _SLACK else at - 86_400
        if self._reading.year is not None:
            return _seconds(self._reading.year, month, dom, time, zone)
        # Back to the leap year before last at most: 29 February has no date in between.
        for candidate in range(local.year + 1, local.year - 9, -1):
            try:
                at = _seconds(candidate, month, dom, time, zone)
            except ValueError:
                continue
            if at <= self._latest:
                return at
        raise ValueError("no such day")


def _seconds(year: int, month: int, day: int, time: tuple[int, int, int], zone: tzinfo) -> int:
    hour, minute, second = time
    if zone is UTC:
        if hour > 23:
            raise ValueError("no such hour")
        days = date(year, month, day).toordinal() - _EPOCH_ORDINAL
        return days * 86_400 + hour * 3600 + minute * 60 + second
    return int(datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp())


def _century(year: int, latest: int) -> int:
    """The latest year with these two digits that is not after the reference."""
    now = datetime.fromtimestamp(latest, UTC).year
    return now - (now - year) % 100


def _zone(text: str | None) -> tzinfo | None:
    if not text:
        return None
    if text[0] in "+-":
        minutes = int(text[1:3]) * 60 + int(text[-2:])
        return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
    hours = _ABBREVIATIONS.get(text.upper())
    return None if hours is None else UTC if hours == 0 else timezone(timedelta(hours=hours))


_POWER: tuple[int, ...] = tuple(int(10 ** (9 - n)) for n in range(10))
