"""`/api/v1/query`: queries with pipes, answered as a table."""

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import MAX_NAMES, MAX_SEARCH, Question, Reader, Reading, empty_is, log_filter
from logstream.api.services import services_of
from logstream.errors import InvalidValue
from logstream.query.analysis import Analysis, AnalysisReader, Answer
from logstream.query.language.parser import MAX_CHARACTERS
from logstream.query.time import format_time

DEFAULT_LIMIT = 1_000


class ColumnEntry(BaseModel):
    name: str = Field(examples=["count()"])
    kind: str = Field(
        description="text, number, time (RFC 3339), level (its label) or map (an object of texts).", examples=["number"]
    )


class QueryAnswer(BaseModel):
    columns: list[ColumnEntry]
    rows: list[list[str | float | dict[str, str] | None]] = Field(
        description="A cell a column; null where there is nothing to compute of.", examples=[[["payment", 17]]]
    )
    truncated: bool = Field(description="There is more than `limit` rows, or more than was counted.")


_Name = Annotated[str, Field(max_length=1_024)]


class QueryBody(BaseModel):
    """The same as the parameters of the GET."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(
        "",
        max_length=MAX_CHARACTERS,
        description="A filter and pipes in the query language (docs/query.md).",
        examples=["level>=warn | stats count() by service"],
    )
    service: list[_Name] = Field([], max_length=MAX_NAMES, description="Service names, exact.", examples=[["payment"]])
    level: list[_Name] = Field([], max_length=MAX_NAMES, description="Levels.", examples=[["warn", "error"]])
    search: str = Field("", max_length=MAX_SEARCH, description="Substring of the message, whatever the case.")
    start_time: str | None = Field(None, max_length=64, examples=["2026-01-31T12:00:00Z"])
    end_time: str | None = Field(None, max_length=64, examples=["2026-01-31T13:00:00Z"])
    limit: int | None = Field(None, ge=1, description="At most this many rows.", examples=[DEFAULT_LIMIT])


def _body(answer: Answer) -> bytes:
    times = [place for place, column in enumerate(answer.columns) if column.kind == "time"]
    rows: list[list[Any]] = [list(row) for row in answer.rows]
    for place in times:
        for row in rows:
            if row[place] is not None:
                row[place] = format_time(row[place])
    columns = [{"name": column.name, "kind": column.kind} for column in answer.columns]
    return msgspec.json.encode({"columns": columns, "rows": rows, "truncated": answer.truncated})


def create_router(max_limit: int) -> APIRouter:
    """Queries with pipes. max_limit: rows one answer may have."""
    router = APIRouter(prefix="/api/v1", tags=["analysis"])
    default = min(DEFAULT_LIMIT, max_limit)
    responses: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/json": {}}, "model": QueryAnswer, "description": "A table."},
        **errors(400, 401, 403, 404, 409, 413, 422, 429, 503),
    }

    async def answer(request: Request, reading: Reading, asked: Analysis, limit: int) -> Response:
        services = services_of(request)
        reader = AnalysisReader(services.store, services.limits, services.learning, services.times)
        read = partial(reader.read, reading.stream, asked, limit=limit, now_ns=services.clock.now_ns())
        return await json_answer(request, reading.principal, "query", read, _body)

    @router.get("/query", summary="Ask a query with pipes", response_class=Response, responses=responses)
    async def query(
        request: Request,
        reading: Reader,
        asked: Question,
        limit: Annotated[
            int,
            empty_is(default),
            Query(ge=1, le=max_limit, description="At most this many rows.", examples=[default]),
        ] = default,
    ) -> Response:
        """What the pipes of `query` make of the lines found, as a table; without pipes the lines, newest first.

        Without `start_time`, of the hour before `end_time`, which is now; bounds that the query states count as these.
        """
        return await answer(request, reading, asked, limit)

    @router.post("/query", summary="Ask a query with pipes, in a body", response_class=Response, responses=responses)
    async def post(request: Request, reading: Reader, body: QueryBody) -> Response:
        """As the GET, for queries that one would rather not write into an address."""
        logs = log_filter(
            services=body.service,
            levels=body.level,
            search=body.search,
            start_time=body.start_time,
            end_time=body.end_time,
        )
        limit = default if body.limit is None else body.limit
        if limit > max_limit:
            raise InvalidValue(f"limit must be 1 to {max_limit}: {limit}", field="limit", limit=max_limit)
        return await answer(request, reading, Analysis.of(body.query, logs), limit)

    return router
