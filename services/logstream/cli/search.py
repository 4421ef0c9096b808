"""`logstream search`, `logstream stats`: what is stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.client import Api, rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Output, Services, api_target
from logstream.cli.times import period

Since = Annotated[
    str | None, typer.Option("--since", help="From this long ago: 15m, 2h, 7d, or all. Default: the last hour.")
]
From = Annotated[str | None, typer.Option("--from", help="From this time: 2026-01-31T12:00 (local), …Z, or 2h.")]
To = Annotated[str | None, typer.Option("--to", help="To this time. Default: now.")]
Words = Annotated[list[str] | None, typer.Argument(help="Text the message must contain, whatever the case.")]


def filters(
    words: Sequence[str] | None, services: Sequence[str] | None, levels: Sequence[str] | None
) -> dict[str, str]:
    """The API's parameters for what to look for."""
    found: dict[str, str] = {}
    if words:
        found["search"] = " ".join(words)
    if services:
        found["service"] = ",".join(services)
    if levels:
        found["level"] = ",".join(levels)
    return found


def search(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")] = 100,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Find logs; the newest stands last, json and ndjson have it first.

    Examples:

      logstream search timed out

      logstream search --service payment --level error --since 24h

      logstream search refused --from 2026-01-31T12:00 --to 2026-01-31T13:00 -o ndjson
    """
    params: dict[str, str | int] = {
        **filters(words, service, level), **period(since, start, end, datetime.now(UTC)), "limit": limit,
    }  # fmt: skip
    with Api(api_target(context, api_key, api_url)) as api:
        entries = rows_of(api.get("/logs", params))
    if form is not Format.TABLE:
        output.show(entries, (), form, empty="")
        return
    colour, breaks = output.colourful(), output.in_terminal()
    for entry in reversed(entries):
        output.write(output.log_line(entry, colour=colour, breaks=breaks))
    if not entries:
        span = "" if since or start or end else " in the last hour; look further back with --since 7d or --since all"
        output.say(f"nothing found{span}")
    elif len(entries) == limit:
        output.say(f"only the newest {limit} are shown; see more with --limit")


def stats(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Count logs per minute, as a bar chart (coarser for long times).

    Examples:

      logstream stats

      logstream stats error --since 24h

      logstream stats --service payment -o json
    """
    params = {**filters(words, service, level), **period(since, start, end, datetime.now(UTC))}
    with Api(api_target(context, api_key, api_url)) as api:
        rows = rows_of(api.get("/stats", params))
    if form is not Format.TABLE:
        output.show(rows, (), form, empty="")
        return
    if not rows:
        output.say("nothing to count" + ("" if since or start or end else " in the last hour; try --since 7d"))
        return
    for line in chart(rows, colour=output.colourful()):
        output.write(line)


_STEPS = tuple(
    timedelta(minutes=m) for m in (1, 5, 10, 30, 60, 180, 360, 720, 1440, 10_080, 43_200, 525_600, 5_256_000)
)
_MAX_BARS = 60
_WIDTH = 50
_EIGHTHS = " ▏▎▍▌▋▊▉"


def chart(rows: Sequence[Mapping[str, Any]], *, colour: bool) -> list[str]:
    """Counts per minute ({timestamp, count}) as at most 60 bars, then the total. Steps without logs are left out."""
    counts = {datetime.fromisoformat(str(row["timestamp"])): int(row["count"]) for row in rows}
    step = next((s for s in _STEPS if len({_floor(t, s) for t in counts}) <= _MAX_BARS), _STEPS[-1])
    bars: Counter[datetime] = Counter()
    for at, count in counts.items():
        bars[_floor(at, step)] += count
    most, width = max(bars.values()), len(f"{max(bars.values()):,}")
    lines = [
        f"{at.astimezone():%Y-%m-%d %H:%M}  {bars[at]:>{width},}  "
        + (f"\033[36m{_bar(bars[at] / most)}\033[0m" if colour else _bar(bars[at] / most))
        for at in sorted(bars)
    ]
    each = "minute" if step == _STEPS[0] else str(step).removesuffix(":00").replace(", 0:00", "")
    lines.append(f"{sum(bars.values()):,} logs, one bar per {each}")
    return lines


def _floor(at: datetime, step: timedelta) -> datetime:
    seconds = int(step.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def _bar(share: float) -> str:
    whole, part = divmod(round(share * _WIDTH * 8), 8)
    return ("█" * whole + _EIGHTHS[part].strip()) or "▏"
