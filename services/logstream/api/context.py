"""`GET /api/v1/context`: the lines around one line."""

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import Reader, empty_is
from logstream.api.search import PlacedLogEntry
from logstream.api.services import services_of
from logstream.errors import InvalidValue
from logstream.query.context import Context, ContextReader
from logstream.query.language.fields import parse_field
from logstream.query.language.nodes import Field as Name
from logstream.query.place import decode_id, entries
from logstream.stream import Stream

MAX_LINES = 500
DEFAULT_LINES = 50
MAX_FIELDS = 10


class ContextAnswer(BaseModel):
    before: list[PlacedLogEntry] = Field(description="Oldest first.")
    line: PlacedLogEntry
    after: list[PlacedLogEntry] = Field(description="Oldest first.")


def _fields(text: str | None) -> tuple[Name, ...]:
    if text is None:
        text = "service"
    names = [name for name in text.split(",") if name.strip()]
    if len(names) > MAX_FIELDS:
        raise InvalidValue(f"by may name {MAX_FIELDS} fields, not {len(names)}", field="by", limit=MAX_FIELDS)
    return tuple(dict.fromkeys(parse_field(name, parameter="by") for name in names))


def _lines(which: str) -> Any:
    return Query(ge=0, le=MAX_LINES, description=f"At most this many lines {which} it.", examples=[DEFAULT_LINES])


def _body(stream: Stream, found: Context) -> bytes:
    (line,) = entries([found.line], stream)
    before, after = entries(found.before, stream), entries(found.after, stream)
    return msgspec.json.encode({"before": before, "line": line, "after": after})


def create_router() -> APIRouter:
    """Context in one stream."""
    router = APIRouter(prefix="/api/v1", tags=["search"])

    @router.get(
        "/context",
        summary="The lines around one line",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}}, "model": ContextAnswer, "description": "The line between."},
            **errors(400, 401, 403, 404, 409, 413, 422, 429, 503),
        },
    )
    async def context(
        request: Request,
        reading: Reader,
        *,
        place: Annotated[
            str, Query(alias="id", max_length=64, description="Of a line that a search found.", examples=["Af8K"])
        ],
        before: Annotated[int, empty_is(DEFAULT_LINES), _lines("before")] = DEFAULT_LINES,
        after: Annotated[int, empty_is(DEFAULT_LINES), _lines("after")] = DEFAULT_LINES,
        by: Annotated[
            str | None,
            Query(
                max_length=2_048,
                description="Fields, separated by commas, whose values must be the line's; empty: all lines.",
                examples=["service,host"],
            ),
        ] = None,
    ) -> Response:
        """At most seven days away, in the order of a search turned round."""
        services = services_of(request)
        read = partial(
            ContextReader(services.store, services.limits).around,
            reading.stream,
            decode_id(place, reading.stream),
            before=before,
            after=after,
            by=_fields(by),
        )
        return await json_answer(request, reading.principal, "context", read, partial(_body, reading.stream))

    return router
