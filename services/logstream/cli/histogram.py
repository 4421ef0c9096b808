"""`logstream histogram`, `logstream stats`: how many logs there were over time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.asking import From, Since, Stream, To, Words, nothing, question
from logstream.cli.bars import GLYPHS, PALETTE, bar, cells
from logstream.cli.client import rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Output, Services
from logstream.cli.output import LEVELS, paint
from logstream.cli.reading import read, reader

_SERIES = 7
_SEVERITY = tuple(reversed(LEVELS))


def histogram(
    words: Words = None,
    by: Annotated[
        str, typer.Option("--by", help="A field whose values are counted apart; '' for none.", metavar="FIELD")
    ] = "level",
    step: Annotated[
        str | None, typer.Option("--step", help="Width of a bar: 30s, 5m, 1h. Default: a round one for about 60 bars.")
    ] = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Count logs over time, by level or a field.

    The bars are stacked; what is there has at least one cell, as far as there are cells.

    Examples:

      logstream histogram

      logstream histogram 'service:payment' --since 24h

      logstream histogram 'level>=error' --by service --step 1h --since 7d

      logstream histogram timeout --by region -o json
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/histogram", {**params, "by": by, **({"step": step} if step else {})})
    buckets = rows_of(answer, "buckets")
    if form is not Format.TABLE:
        output.show(buckets, (), form, empty="")
    elif not answer["total"]:
        output.say(nothing(params, "nothing to count"))
    else:
        for line in stacked(answer, width=output.width(), colour=output.colourful()):
            output.write(line)


def stacked(answer: Mapping[str, Any], *, width: int, colour: bool) -> list[str]:
    """A line of at most `width` cells for each bucket, then what the parts mean and how many lines there are."""
    buckets: Sequence[Mapping[str, Any]] = answer["buckets"]
    parts = _parts(answer)
    times = [datetime.fromisoformat(bucket["timestamp"]).astimezone() for bucket in buckets]
    form = "%Y-%m-%d %H:%M" if answer["step_seconds"] % 60 == 0 else "%Y-%m-%d %H:%M:%S"
    most = max(bucket["count"] for bucket in buckets)
    digits = len(f"{most:,}")
    room = max(10, width - len(times[0].strftime(form)) - digits - 4)
    looks = {name: _look(name, place, answer["by"]) for place, name in enumerate(parts)}
    lines = []
    for at, bucket in zip(times, buckets, strict=True):
        lengths = cells([_count(bucket, name, parts) for name in parts], most, room)
        drawn = "".join(
            paint(("█" if colour else looks[name][0]) * length, looks[name][1], colour=colour)
            for name, length in zip(parts, lengths, strict=True)
        )
        lines.append(f"{at.strftime(form)}  {bucket['count']:>{digits},}  {drawn}".rstrip())
    sums = {name: sum(_count(bucket, name, parts) for bucket in buckets) for name in parts}
    if parts != [""]:
        marks = {name: paint("█" if colour else fill, code, colour=colour) for name, (fill, code) in looks.items()}
        lines += _legend(
            [(marks[name], f" {output.clean(name)} {sums[name]:,}") for name in parts if sums[name]], width
        )
    lines.append(f"{answer['total']:,} logs, one bar per {_width(answer['step_seconds'])}")
    return lines


def _legend(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Marks (a cell each) with their texts, as many a line as fit."""
    lines: list[str] = []
    used = width
    for mark, text in entries:
        size = 1 + len(text)
        if lines and used + 2 + size <= width:
            lines[-1] += f"  {mark}{text}"
            used += 2 + size
        else:
            lines.append(mark + text)
            used = size
    return lines


def _parts(answer: Mapping[str, Any]) -> list[str]:
    """The series that are drawn, from the left: levels the worst first, so that errors begin at one line."""
    series = list(answer["series"])
    if answer["by"] == "level":
        return sorted(series, key=lambda name: _SEVERITY.index(name) if name in _SEVERITY else len(_SEVERITY))
    if not answer["by"]:
        return [""]
    return [*series[:_SERIES], "(other)", f"(no {answer['by']})"]


def _count(bucket: Mapping[str, Any], name: str, parts: Sequence[str]) -> int:
    values: Mapping[str, int] = bucket["values"]
    if parts == [""]:
        return int(bucket["count"])
    if name == "(other)" and name == parts[-2]:
        return int(bucket.get("other", 0)) + sum(count for value, count in values.items() if value not in parts[:-2])
    if name.startswith("(no ") and name == parts[-1]:
        return int(bucket.get("missing", 0))
    return values.get(name, 0)


def _look(name: str, place: int, by: str) -> tuple[str, str]:
    """Its fill without colours, and its colour."""
    if name.startswith(("(other)", "(no ")):
        return ("·", "2") if name.startswith("(no ") else ("-", "37")
    return GLYPHS[place % len(GLYPHS)], (LEVELS.get(name) if by == "level" else None) or PALETTE[place % len(PALETTE)]


def _width(seconds: float) -> str:
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit and seconds % unit == 0:
            count = int(seconds // unit)
            return name if count == 1 else f"{count:,} {name}s"
    return f"{seconds:g} seconds"


def stats(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Count logs per minute, as a bar chart.

    Long times have coarser bars. `logstream histogram` counts by level or another field.

    Examples:

      logstream stats

      logstream stats error --since 24h

      logstream stats --service payment -o json
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        rows = rows_of(read(api, "/stats", params))
    if form is not Format.TABLE:
        output.show(rows, (), form, empty="")
    elif not rows:
        output.say(nothing(params, "nothing to count"))
    else:
        for line in chart(rows, colour=output.colourful()):
            output.write(line)


_STEPS = tuple(
    timedelta(minutes=m) for m in (1, 5, 10, 30, 60, 180, 360, 720, 1440, 10_080, 43_200, 525_600, 5_256_000)
)
_MAX_BARS = 60
_BAR = 50


def chart(rows: Sequence[Mapping[str, Any]], *, colour: bool) -> list[str]:
    """Counts per minute ({timestamp, count}) as at most 60 bars, then the total. Steps without logs are left out."""
    counts = {datetime.fromisoformat(str(row["timestamp"])): int(row["count"]) for row in rows}
    step = next((s for s in _STEPS if len({_floor(t, s) for t in counts}) <= _MAX_BARS), _STEPS[-1])
    bars: Counter[datetime] = Counter()
    for at, count in counts.items():
        bars[_floor(at, step)] += count
    most, digits = max(bars.values()), len(f"{max(bars.values()):,}")
    drawn = {at: paint(bar(count / most, _BAR), "36", colour=colour) for at, count in bars.items()}
    lines = [f"{at.astimezone():%Y-%m-%d %H:%M}  {bars[at]:>{digits},}  {drawn[at]}" for at in sorted(bars)]
    lines.append(f"{sum(bars.values()):,} logs, one bar per {_width(step.total_seconds())}")
    return lines


def _floor(at: datetime, step: timedelta) -> datetime:
    seconds = int(step.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)
