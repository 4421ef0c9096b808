"""`GET /logs` and `GET /stats`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import Response

from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import Filter, Reader
from logstream.api.services import services_of
from logstream.clock import NS_PER_SECOND
from logstream.errors import TooMany
from logstream.query.entry import render_all
from logstream.query.filter import LogFilter
from logstream.query.time import format_time
from logstream.settings import ApiSettings

DEFAULT_LIMIT = 100
DEFAULT_SPAN_SECONDS = 3600
MAX_RUNNING = 4
"""Reads that run side by side: ingestion and merges keep the rest of the engine's connections and its memory."""
MAX_WAITING = 64

_T = TypeVar("_T")


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


class _Queue:
    """Lets MAX_RUNNING reads run and MAX_WAITING wait."""

    def __init__(self) -> None:
        self._running = asyncio.Semaphore(MAX_RUNNING)
        self._waiting = 0

    async def run(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """What `read()` gives, when its turn comes. Raises TooMany."""
        if self._waiting >= MAX_WAITING:
            raise TooMany(f"{MAX_WAITING} reads are waiting already", field="reads", limit=MAX_WAITING)
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            return await read()
        finally:
            self._running.release()


def _empty_is(default: int) -> BeforeValidator:
    """`limit=` asks nothing, as `service=` and the others do."""
    return BeforeValidator(lambda text: default if text == "" else text)


def _bounded(logs: LogFilter, now_ns: int) -> LogFilter:
    """`logs` with a beginning: by default an hour before its end."""
    if logs.start is not None:
        return logs
    end = now_ns if logs.end is None else logs.end
    return replace(logs, start=end - DEFAULT_SPAN_SECONDS * NS_PER_SECOND)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _while_connected(request: Request, read: Coroutine[Any, Any, _T]) -> _T | None:
    """What `read` gives; cancelled, and None, when the client leaves before."""
    reading = asyncio.create_task(read)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        for task in (reading, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def create_router(settings: ApiSettings) -> APIRouter:
    """Search and statistics of one stream."""
    router = APIRouter(tags=["search"])
    queue = _Queue()
    refusals = errors(400, 401, 403, 404, 413, 429, 503)
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
            _empty_is(DEFAULT_LIMIT),
            Query(ge=1, le=max_limit, description="At most this many lines.", examples=[DEFAULT_LIMIT]),
        ] = DEFAULT_LIMIT,
    ) -> Response:
        """Lines that match all parameters. Without `start_time`, the hour before `end_time`, which is now."""
        services = services_of(request)
        now = services.clock.now_ns()
        read = partial(services.reader.logs, reading.stream, _bounded(asked, now), limit=limit, now_ns=now)
        found = await _while_connected(request, queue.run(read))
        return await json_answer(request, render_all(found or ()))

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
            _empty_is(max_limit),
            Query(ge=1, le=max_limit, description="At most this many minutes, the newest.", examples=[60]),
        ] = max_limit,
    ) -> Response:
        """How many lines match all parameters in each minute. Without `start_time`, the hour before `end_time`."""
        services = services_of(request)
        read = partial(services.reader.stats, reading.stream, _bounded(asked, services.clock.now_ns()), limit=limit)
        found = await _while_connected(request, queue.run(read))
        body = [{"timestamp": format_time(minute.start), "count": minute.count} for minute in found or ()]
        return await json_answer(request, msgspec.json.encode(body))

    return router
