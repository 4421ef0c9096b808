"""`GET /api/v1/histogram`, `facets`, `fields` and `patterns`: what the lines of a period are like."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from logstream.api import analysis_answers as answers
from logstream.api.answer import json_answer
from logstream.api.error_body import errors
from logstream.api.parameters import Filter, Reader, Reading, empty_is
from logstream.api.services import services_of
from logstream.errors import InvalidValue
from logstream.query.discover import FieldReader
from logstream.query.facets import MAX_FIELDS, FacetReader
from logstream.query.filter import LogFilter
from logstream.query.histogram import HistogramReader, parse_step
from logstream.query.language import nodes
from logstream.query.pattern_report import PatternReader
from logstream.query.period import Period, period_of
from logstream.query.values import text_field

MAX_VALUES = 100
DEFAULT_VALUES = 10
MAX_PATTERNS = 1_000
DEFAULT_PATTERNS = 50

_T = TypeVar("_T")


_By = Annotated[
    str,
    Query(
        max_length=1_024,
        description="The field whose values are counted apart: the 20 most frequent. Empty: none.",
        examples=["service"],
    ),
]
_Step = Annotated[
    str | None,
    Query(
        max_length=32,
        description="Width of a bucket, as 30s, 5m, 1h; at most 2,000 buckets. By default a round one for about 60.",
        examples=["5m"],
    ),
]
_Fields = Annotated[
    list[str] | None,
    Query(
        description=f"Fields, separated by commas, at most {MAX_FIELDS}. By default service, level and up to eight "
        "metadata keys that are frequent in the newest lines and whose values repeat.",
        examples=["service,region"],
    ),
]
_Values = Annotated[
    int,
    empty_is(DEFAULT_VALUES),
    Query(ge=1, le=MAX_VALUES, description="At most this many values of a field.", examples=[DEFAULT_VALUES]),
]
_Patterns = Annotated[
    int,
    empty_is(DEFAULT_PATTERNS),
    Query(ge=1, le=MAX_PATTERNS, description="At most this many patterns.", examples=[DEFAULT_PATTERNS]),
]


def _fields(texts: list[str]) -> list[nodes.Field]:
    """Each once, in the order given. Raises InvalidValue."""
    names = [name for text in texts for part in text.split(",") if (name := part.strip())]
    fields = list(dict.fromkeys(text_field(name, parameter="fields") for name in names))
    if len(fields) > MAX_FIELDS:
        raise InvalidValue(f"fields may hold {MAX_FIELDS} names, not {len(fields)}", field="fields", limit=MAX_FIELDS)
    return fields


async def _answer(
    request: Request,
    reading: Reading,
    asked: LogFilter,
    *,
    kind: str,
    read: Callable[[Period], Awaitable[_T]],
    body: Callable[[Period, _T], Any],
) -> Response:
    """What `read` finds of the period asked for, as `body` states it."""
    services = services_of(request)
    period = period_of(asked, services.limits, services.clock.now_ns())
    return await json_answer(
        request, reading.principal, kind, partial(read, period), lambda found: msgspec.json.encode(body(period, found))
    )


def create_router() -> APIRouter:
    """Analysis of one stream. Without `start_time` it is about the hour before `end_time`, which is now by default."""
    router = APIRouter(prefix="/api/v1", tags=["analysis"])
    refusals = errors(400, 401, 403, 404, 413, 422, 429, 503)

    def documented(model: type, description: str) -> dict[int | str, dict[str, Any]]:
        answer = {"content": {"application/json": {}}, "model": model, "description": description}
        return {200: answer, **refusals}

    @router.get(
        "/histogram",
        summary="Count logs over time",
        response_class=Response,
        responses=documented(answers.HistogramAnswer, "Every bucket of the period, ascending."),
    )
    async def histogram(
        request: Request, reading: Reader, asked: Filter, by: _By = "level", step: _Step = None
    ) -> Response:
        """How many lines match all parameters in each bucket of time, by the values of a field."""
        services = services_of(request)
        field = text_field(by, parameter="by") if by.strip() else None
        width = parse_step(step) if step and step.strip() else None
        reader = HistogramReader(services.store, services.limits)
        return await _answer(
            request, reading, asked, kind="histogram",
            read=lambda period: reader.read(reading.stream, asked, period, by=field, step=width),
            body=lambda period, found: answers.histogram(period, by if field else "", found),
        )  # fmt: skip

    @router.get(
        "/facets",
        summary="Count the values of fields",
        response_class=Response,
        responses=documented(answers.FacetsAnswer, "The most frequent values of each field."),
    )
    async def facets(
        request: Request, reading: Reader, asked: Filter, fields: _Fields = None, limit: _Values = DEFAULT_VALUES
    ) -> Response:
        """Which values fields have in the lines that match all parameters, and how often."""
        services = services_of(request)
        wanted = _fields(fields or [])
        reader = FacetReader(services.store, services.limits)
        return await _answer(
            request, reading, asked, kind="facets",
            read=lambda period: reader.read(reading.stream, asked, period, fields=wanted, limit=limit),
            body=answers.facets,
        )  # fmt: skip

    @router.get(
        "/fields",
        summary="List fields",
        response_class=Response,
        responses=documented(answers.FieldsAnswer, "The line's own fields, then metadata keys by frequency."),
    )
    async def fields(request: Request, reading: Reader, asked: Filter) -> Response:
        """Which fields the newest lines that match all parameters have: kind, cardinality, examples."""
        services = services_of(request)
        reader = FieldReader(services.store, services.limits)
        return await _answer(
            request, reading, asked, kind="fields",
            read=lambda period: reader.read(reading.stream, asked, period), body=answers.fields,
        )  # fmt: skip

    @router.get(
        "/patterns",
        summary="List kinds of messages",
        response_class=Response,
        responses=documented(answers.PatternsAnswer, "The most frequent patterns first."),
    )
    async def patterns(
        request: Request, reading: Reader, asked: Filter, limit: _Patterns = DEFAULT_PATTERNS
    ) -> Response:
        """Which kinds of message the lines that match all parameters have, compared with the period before."""
        services = services_of(request)
        reader = PatternReader(services.store, services.limits, services.learning)
        return await _answer(
            request, reading, asked, kind="patterns",
            read=lambda period: reader.read(reading.stream, asked, period), body=partial(answers.patterns, limit),
        )  # fmt: skip

    return router
