"""`GET /logs` and `GET /stats`."""

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import Filter, Reader, empty_is
from logstream.api.services import services_of
from logstream.query.entry import render_all
from logstream.query.logs import MinuteCount
from logstream.query.period import begun
from logstream.query.time import format_time
from logstream.settings import ApiSettings

DEFAULT_LIMIT = 100


class LogEntry(BaseModel):
    timestamp: str = Field(
        description="RFC 3339, UTC, up to nine digits of a second.", examples=["2026-01-31T12:00:00.123456789Z"]
    )
    service: str = Field(examples=["payment"])
    level: str = Field(description="trace, debug, info, warn, error or fatal.", examples=["error"])
    message: str = Field(examples=["card declined"])
    metadata: dict[str, str] = Field(examples=[{"user_id": "42", "http.status": "402"}])
    trace_id: str | None = Field(None, description="Only where the line has one.")
    span_id: str | None = Field(None, description="Only where the line has one.")


class MinuteEntry(BaseModel):
    timestamp: str = Field(description="Where the minute begins, RFC 3339, UTC.", examples=["2026-01-31T12:00:00Z"])
    count: int = Field(examples=[1_250])


def _minutes(found: list[MinuteCount]) -> bytes:
    return msgspec.json.encode([{"timestamp": format_time(minute.start), "count": minute.count} for minute in found])


def create_router(settings: ApiSettings) -> APIRouter:
    """Search and statistics of one stream."""
    router = APIRouter(tags=["search"])
    refusals = errors(400, 401, 403, 404, 413, 422, 429, 503)
    max_limit = settings.max_limit

    @router.get(
        "/logs",
        summary="Search logs, newest first",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}}, "model": list[LogEntry], "description": "The newest lines."},
            **refusals,
        },
    )
    async def logs(
        request: Request,
        reading: Reader,
        asked: Filter,
        limit: Annotated[
            int,
            empty_is(DEFAULT_LIMIT),
            Query(ge=1, le=max_limit, description="At most this many lines.", examples=[DEFAULT_LIMIT]),
        ] = DEFAULT_LIMIT,
    ) -> Response:
        """Lines that match all parameters. Without `start_time`, the hour before `end_time`, which is now."""
        services = services_of(request)
        now = services.clock.now_ns()
        bounded = begun(asked, services.limits, now)
        read = partial(services.reader.logs, reading.stream, bounded, limit=limit, now_ns=now)
        return await json_answer(request, reading.principal, "logs", read, render_all)

    @router.get(
        "/stats",
        summary="Count logs per minute",
        response_class=Response,
        responses={
            200: {
                "content": {"application/json": {}},
                "model": list[MinuteEntry],
                "description": "Ascending; minutes without lines are left out.",
            },
            **refusals,
        },
    )
    async def stats(
        request: Request,
        reading: Reader,
        asked: Filter,
        limit: Annotated[
            int,
            empty_is(max_limit),
            Query(ge=1, le=max_limit, description="At most this many minutes, the newest.", examples=[60]),
        ] = max_limit,
    ) -> Response:
        """How many lines match all parameters in each minute. Without `start_time`, the hour before `end_time`."""
        services = services_of(request)
        now = services.clock.now_ns()
        bounded = begun(asked, services.limits, now)
        read = partial(services.reader.stats, reading.stream, bounded, limit=limit)
        return await json_answer(request, reading.principal, "stats", read, _minutes)

    return router
