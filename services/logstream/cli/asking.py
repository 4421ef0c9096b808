"""What the commands that read have in common: which logs, of which time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from logstream.cli.times import period

Since = Annotated[
    str | None, typer.Option("--since", help="From this long ago: 15m, 2h, 7d, or all. Default: the last hour.")
]
From = Annotated[str | None, typer.Option("--from", help="From this time: 2026-01-31T12:00 (local), …Z, or 2h.")]
To = Annotated[str | None, typer.Option("--to", help="To this time. Default: now.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="QUERY", help="What to look for, in the query language; see docs/query.md."),
]
Stream = Annotated[str | None, typer.Option("--stream", help="The stream. Default: the key's own, or `default`.")]

Params = dict[str, str | int]
_ECHO = 200


def question(
    words: Sequence[str] | None,
    services: Sequence[str] | None,
    levels: Sequence[str] | None,
    stream: str | None = None,
    *,
    since: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> Params:
    """The API's parameters for what is asked. The words, joined by blanks, are one query. Raises Failure."""
    found: Params = {}
    query = " ".join(words or ()).strip()
    if query:
        found["query"] = query
    if services:
        found["service"] = ",".join(services)
    if levels:
        found["level"] = ",".join(levels)
    if stream:
        found["stream"] = stream
    return {**found, **period(since, start, end, datetime.now(UTC))}


def nothing(params: Mapping[str, str | int], what: str = "nothing found") -> str:
    """The sentence for an empty answer: what was asked, so that a misunderstanding shows, and what to try."""
    query = str(params.get("query", ""))
    asked = [f"'{query}'" if len(query) <= _ECHO else f"'{query[:_ECHO]}…'"] if query else []
    asked += [f"{name} {params[name]}" for name in ("service", "level", "stream") if params.get(name)]
    said = f"{what} for {', '.join(asked)}" if asked else what
    if "start_time" in params or "end_time" in params or "timestamp" in query:
        return said
    return f"{said} in the last hour; look further back with --since 7d or --since all"
