"""The answer of a `timechart` as a chart: a row for each time, a column of bars for each series. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from logstream.cli.bars import PALETTE, bar
from logstream.cli.output import LEVELS, clean, digits, number, paint
from logstream.clock import NS_PER_SECOND

_SEVERITY = tuple(reversed(LEVELS))
_MIN_COLUMN = 18
_MAX_ROWS = 400
_MAX_BAR = 60


@dataclass(frozen=True, slots=True)
class _Series:
    """names: what it is of, and of which function, as far as there are several. values: by time. most: of all series
    of its function, so that their bars can be compared.
    """

    names: tuple[str, ...]
    code: str
    values: Mapping[datetime, float]
    most: float


def timechart(answer: Mapping[str, Any], *, width: int, colour: bool) -> list[str] | None:
    """Lines of at most `width` cells; None for an answer that is no chart: rows that are not in the order of time, or
    no numbers.
    """
    columns: Sequence[Mapping[str, str]] = answer["columns"]
    rows: Sequence[Sequence[Any]] = answer["rows"]
    numbers = [index for index, column in enumerate(columns) if column["kind"] == "number"]
    groups = [index for index, column in enumerate(columns) if index and column["kind"] in {"text", "level"}]
    if not rows or not numbers or columns[0] != {"name": "timestamp", "kind": "time"}:
        return None
    if len(groups) + len(numbers) + 1 != len(columns):
        return None
    times = [_seconds(row[0]) for row in rows]
    if times != sorted(times):
        return None
    shown = _timeline(sorted(set(times)))
    series = _series(columns, rows, times, groups, numbers)
    form = "%Y-%m-%d %H:%M" if all(not at.second for at in times) else "%Y-%m-%d %H:%M:%S"
    stamp = len(shown[0].astimezone().strftime(form))
    fit = max(1, (width - stamp) // _MIN_COLUMN)
    left, series = series[fit:], series[:fit]
    room = min((width - stamp) // len(series) - 2, _MAX_BAR)
    head = " " * stamp
    lines = []
    if groups or len(series) > 1:
        # What is counted stands below whose it is.
        for names in zip(*(one.names for one in series), strict=True):
            titles = (
                paint(_fit(name, room), f"1;{one.code}", colour=colour) for name, one in zip(names, series, strict=True)
            )
            lines.append((head + "  " + "  ".join(titles)).rstrip())
    for at in shown:
        cells = [_cell(one, at, room, colour=colour) for one in series]
        lines.append((f"{at.astimezone().strftime(form)}  " + "  ".join(cells)).rstrip())
    if left:
        lines.append(f"and {len(left):,} more series; see all with -o csv")
    return lines


def _seconds(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _timeline(times: Sequence[datetime]) -> Sequence[datetime]:
    """The times, and those between them that had no lines, unless there are too many."""
    gaps = [round((b - a).total_seconds() * NS_PER_SECOND) for a, b in pairwise(times)]
    step = math.gcd(*gaps) if gaps else 0
    if not step or sum(gaps) // step >= _MAX_ROWS:
        return times
    return [times[0] + timedelta(seconds=index * step / NS_PER_SECOND) for index in range(sum(gaps) // step + 1)]


def _series(
    columns: Sequence[Mapping[str, str]],
    rows: Sequence[Sequence[Any]],
    times: Sequence[datetime],
    groups: Sequence[int],
    numbers: Sequence[int],
) -> list[_Series]:
    """Levels with the worst first, others with the largest."""
    values: dict[tuple[int, tuple[str, ...]], dict[datetime, float]] = {}
    for at, row in zip(times, rows, strict=True):
        key = tuple("-" if row[index] in (None, "") else str(row[index]) for index in groups)
        for index in numbers:
            if row[index] is not None:
                values.setdefault((index, key), {})[at] = row[index]
    most = {index: max((max(v.values()) for (i, _), v in values.items() if i == index), default=0) for index in numbers}
    by_level = [columns[index]["kind"] for index in groups] == ["level"]

    def rank(name: tuple[int, tuple[str, ...]]) -> tuple[int, float]:
        size = _SEVERITY.index(name[1][0]) if by_level and name[1][0] in LEVELS else -sum(values[name].values())
        return numbers.index(name[0]), size

    order = sorted(values, key=rank)
    if len(numbers) > 1:
        # The functions of one group side by side.
        first = {name[1]: place for place, name in reversed(list(enumerate(order)))}
        order.sort(key=lambda name: first[name[1]])
    found = []
    for place, (index, key) in enumerate(order):
        title = [columns[index]["name"]] if len(numbers) > 1 or not key else []
        names = tuple(map(clean, [*([" ".join(key)] if key else []), *title]))
        code = LEVELS.get(key[0]) if len(key) == 1 else None
        found.append(_Series(names, code or PALETTE[place % len(PALETTE)], values[(index, key)], float(most[index])))
    return found


def _fit(text: str, room: int) -> str:
    return text[: room - 1] + "…" if len(text) > room else text.ljust(room)


def _cell(series: _Series, at: datetime, room: int, *, colour: bool) -> str:
    places = digits(series.values.values())
    size = max(len(number(value, places)) for value in series.values.values())
    value = series.values.get(at)
    text = ("·" if value is None else number(value, places)).rjust(size)
    drawn = bar(value / series.most, max(room - size - 1, 1)) if value is not None and series.most > 0 else ""
    return f"{text} {paint(drawn, series.code, colour=colour)}{' ' * (room - size - 1 - len(drawn))}"
