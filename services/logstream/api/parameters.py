"""Query parameters of reads, the same for `/logs`, `/stats`, `/ws` and the tail."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BeforeValidator
from starlette.requests import HTTPConnection

from logstream.api.deps import Authorization, Ticket, gate_of
from logstream.auth.principal import Principal, Scope
from logstream.errors import InvalidValue
from logstream.query.analysis import Analysis
from logstream.query.filter import LogFilter
from logstream.query.language.parser import MAX_CHARACTERS
from logstream.query.time import parse_time
from logstream.record import LEVEL_LABELS, parse_level
from logstream.stream import Stream

MAX_NAMES = 100
MAX_SEARCH = 1_024

_Service = Annotated[
    list[str] | None,
    Query(description="Service names, exact, separated by commas.", examples=["payment,checkout"]),
]
_Level = Annotated[
    list[str] | None,
    Query(description="Levels, separated by commas: trace, debug, info, warn, error, fatal.", examples=["warn,error"]),
]
_Search = Annotated[
    str | None,
    Query(
        max_length=MAX_SEARCH,
        description="Substring of the message, whatever the case; no wildcards.",
        examples=["timed out"],
    ),
]
_Query = Annotated[
    str | None,
    Query(
        max_length=MAX_CHARACTERS,
        description="A filter in the query language (docs/query.md), without pipes.",
        examples=['level>=warn "timed out" -debug'],
    ),
]
_Pipes = Annotated[
    str | None,
    Query(
        max_length=MAX_CHARACTERS,
        description="A filter and pipes in the query language (docs/query.md).",
        examples=["level>=warn | stats count() by service"],
    ),
]
_Time = "RFC 3339 (without a zone: UTC), or the epoch in s, ms, µs or ns; inclusive."
_Start = Annotated[
    str | None, Query(max_length=64, description=f"Not before this: {_Time}", examples=["2026-01-31T12:00:00Z"])
]
_End = Annotated[
    str | None, Query(max_length=64, description=f"Not after this: {_Time}", examples=["2026-01-31T13:00:00Z"])
]
StreamName = Annotated[
    str | None,
    Query(max_length=50, description="The stream; by default the key's own, or `default`.", examples=["default"]),
]


async def _filter(
    *,
    service: _Service = None,
    level: _Level = None,
    search: _Search = None,
    query: _Query = None,
    start_time: _Start = None,
    end_time: _End = None,
) -> LogFilter:
    return log_filter(
        services=service or (),
        levels=level or (),
        search=search or "",
        query=query or "",
        start_time=start_time,
        end_time=end_time,
    )


Filter = Annotated[LogFilter, Depends(_filter)]
"""A dependency: what the caller asks for. Raises InvalidValue."""


async def _analysis(
    *,
    service: _Service = None,
    level: _Level = None,
    search: _Search = None,
    query: _Pipes = None,
    start_time: _Start = None,
    end_time: _End = None,
) -> Analysis:
    logs = log_filter(
        services=service or (), levels=level or (), search=search or "", start_time=start_time, end_time=end_time
    )
    return Analysis.of(query or "", logs)


Question = Annotated[Analysis, Depends(_analysis)]
"""A dependency: as `Filter`, where `query` may have pipes. Raises InvalidValue."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads which stream."""

    principal: Principal
    stream: Stream


async def _reading(
    connection: HTTPConnection, authorization: Authorization, ticket: Ticket = None, stream: StreamName = None
) -> Reading:
    gate = gate_of(connection)
    if authorization is None and ticket is None:
        name = stream or "default"
        return Reading(gate.anonymous(name), gate.stream(name).stream)
    principal = gate.authenticate(authorization, ticket=ticket)
    name = stream or principal.stream or "default"
    principal.require(Scope.READ, stream=name)
    return Reading(principal, gate.stream(name).stream)


Reader = Annotated[Reading, Depends(_reading)]
"""A dependency: the caller, who may read the stream. Raises Unauthenticated, Forbidden, NotFound, Unavailable."""


def log_filter(
    *,
    services: Iterable[str] = (),
    levels: Iterable[str] = (),
    search: str = "",
    query: str = "",
    start_time: str | None = None,
    end_time: str | None = None,
) -> LogFilter:
    """The filter that the texts describe; lists may also hold commas. Raises InvalidValue naming the parameter,
    QuerySyntaxError.
    """
    start = parse_time(start_time, "start_time") if start_time else None
    end = parse_time(end_time, "end_time") if end_time else None
    if start is not None and end is not None and start > end:
        raise InvalidValue("start_time must not lie after end_time", field="start_time", limit=end_time)
    return LogFilter.of(
        services=_names(services, "service"), levels=_levels(levels), search=search, query=query, start=start, end=end
    )


def empty_is(default: int) -> BeforeValidator:
    """`limit=` asks nothing, as `service=` and the others do."""
    return BeforeValidator(lambda text: default if text == "" else text)


def _names(values: Iterable[str], field: str) -> tuple[str, ...]:
    names = sorted({name for value in values for part in value.split(",") if (name := part.strip())})
    if len(names) > MAX_NAMES:
        raise InvalidValue(f"{field} may hold {MAX_NAMES} names, not {len(names)}", field=field, limit=MAX_NAMES)
    return tuple(names)


def _levels(values: Iterable[str]) -> tuple[int, ...]:
    found: set[int] = set()
    for name in _names(values, "level"):
        level = parse_level(name)
        if level is None:
            allowed = ", ".join(LEVEL_LABELS)
            raise InvalidValue(f"level must be of {allowed}: {name[:32]!r}", field="level", limit=allowed)
        found.add(int(level))
    return tuple(sorted(found))
