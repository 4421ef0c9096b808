"""`logstream histogram`, `logstream stats`: how many logs there were over time."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
_LABEL = 40
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Of a stacked bar. fill: of its cells where there are no colours. code: its ANSI colour. count: in a bucket."""

    label: str
    fill: str
    code: str
    count: Callable[[Mapping[str, Any]], int]

    def cells(self, length: int, *, colour: bool) -> str:
        return paint(("█" if colour else self.fill) * length, self.code, colour=colour)


def stacked(answer: Mapping[str, Any], *, width: int, colour: bool) -> list[str]:
    """A line of at most `width` cells for each bucket, then what the parts mean and how many lines there are."""
    buckets: Sequence[Mapping[str, Any]] = answer["buckets"]
    parts = _parts(answer)
    stamps = _stamps(buckets, answer["step_seconds"])
    most = max(bucket["count"] for bucket in buckets)
    digits = len(f"{most:,}")
    room = max(10, width - len(stamps[0]) - digits - 4)
    lines = []
    for stamp, bucket in zip(stamps, buckets, strict=True):
        lengths = cells([part.count(bucket) for part in parts], most, room)
        drawn = "".join(part.cells(length, colour=colour) for part, length in zip(parts, lengths, strict=True))
        lines.append(f"{stamp}  {bucket['count']:>{digits},}  {drawn}".rstrip())
    if answer["by"]:
        sums = [(part, sum(map(part.count, buckets))) for part in parts]
        legend = [(part.cells(1, colour=colour), f" {part.label} {total:,}") for part, total in sums if total]
        lines += _legend(legend, width)
    lines.append(f"{answer['total']:,} logs, one bar per {_width(answer['step_seconds'])}")
    return lines


def _stamps(buckets: Sequence[Mapping[str, Any]], step: float) -> list[str]:
    times = [datetime.fromisoformat(bucket["timestamp"]).astimezone() for bucket in buckets]
    if step % 1:
        return [f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}" for at in times]
    return [at.strftime("%Y-%m-%d %H:%M" if step % 60 == 0 else "%Y-%m-%d %H:%M:%S") for at in times]


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


def _parts(answer: Mapping[str, Any]) -> list[_Part]:
    """From the left: levels the worst first, so that errors begin at one line; of other fields the most frequent
    values, then all others, then lines without the field.
    """
    series: list[str] = list(answer["series"])
    if not answer["by"]:
        return [_Part("", GLYPHS[0], PALETTE[0], lambda bucket: int(bucket["count"]))]
    if answer["by"] == "level":
        series.sort(key=lambda name: _SEVERITY.index(name) if name in _SEVERITY else len(_SEVERITY))
        return [_value(name, place, LEVELS.get(name)) for place, name in enumerate(series)]
    apart = series[:_SERIES]

    def others(bucket: Mapping[str, Any]) -> int:
        return int(bucket["count"] - bucket.get("missing", 0) - sum(bucket["values"].get(name, 0) for name in apart))

    return [
        *(_value(name, place, None) for place, name in enumerate(apart)),
        _Part("(other)", "-", "37", others),
        _Part(f"(no {output.clean(answer['by'])})", "·", "2", lambda bucket: int(bucket.get("missing", 0))),
    ]


def _value(name: str, place: int, code: str | None) -> _Part:
    label = output.clean(name)
    label = label[: _LABEL - 1] + "…" if len(label) > _LABEL else label
    at = place % len(GLYPHS)
    return _Part(label, GLYPHS[at], code or PALETTE[at], lambda bucket: int(bucket["values"].get(name, 0)))


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
