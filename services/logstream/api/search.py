"""`GET /api/v1/search`: lines newest first, in pages."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import Filter, Reader, empty_is
from logstream.api.reads import DEFAULT_LIMIT, LogEntry
from logstream.api.services import services_of
from logstream.query.page import decode
from logstream.query.period import start_of
from logstream.query.place import entries
from logstream.query.search import Page, SearchReader
from logstream.settings import ApiSettings
from logstream.stream import Stream

MAX_CURSOR = 12_000
"""Characters: a log of 1024 partitions."""


class PlacedLogEntry(LogEntry):
    id: str = Field(description="The line's place, for `/api/v1/context`; opaque.", examples=["Af8K"])


class SearchPage(BaseModel):
    logs: list[PlacedLogEntry] = Field(description="Newest first.")
    next: str | None = Field(description="The `cursor` of the next page; null: this was the last.")


def _body(stream: Stream, found: Page) -> bytes:
    following = found.next.encode() if found.next is not None else None
    return msgspec.json.encode({"logs": entries(found.lines, stream), "next": following})


def create_router(settings: ApiSettings) -> APIRouter:
    """Search of one stream."""
    router = APIRouter(prefix="/api/v1", tags=["search"])
    max_limit = settings.max_limit

    @router.get(
        "/search",
        summary="Search logs page by page",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}}, "model": SearchPage, "description": "A page."},
            **errors(400, 401, 403, 404, 409, 413, 422, 429, 503),
        },
    )
    async def search(
        request: Request,
        reading: Reader,
        asked: Filter,
        limit: Annotated[
            int,
            empty_is(DEFAULT_LIMIT),
            Query(ge=1, le=max_limit, description="At most this many lines a page.", examples=[DEFAULT_LIMIT]),
        ] = DEFAULT_LIMIT,
        cursor: Annotated[
            str | None,
            Query(
                max_length=MAX_CURSOR,
                description="`next` of the page before; the other parameters as there. Empty: the first page.",
                examples=[""],
            ),
        ] = None,
    ) -> Response:
        """Pages answer from what was stored when the first one was read: they neither skip nor repeat lines while
        others arrive. Without `start_time`, the hour before `end_time`, which is now.
        """
        services = services_of(request)
        now = services.clock.now_ns()
        page = decode(cursor, reading.stream, asked) if cursor else None
        if page is None:
            start = start_of(asked, now)
            services.limits.check(replace(asked, start=start), now)
        else:
            start = page.start
            services.limits.check(replace(asked, start=start, end=page.after.timestamp), now)
        read = partial(
            SearchReader(services.store, services.bus, services.limits).search,
            reading.stream,
            asked,
            limit=limit,
            now_ns=now,
            start=start,
            cursor=page,
        )
        return await json_answer(request, reading.principal, "search", read, partial(_body, reading.stream))

    return router
