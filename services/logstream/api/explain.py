"""`GET /api/v1/explain`: how the store answers a query."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from logstream.api.error_body import errors
from logstream.api.parameters import Question, Reader
from logstream.api.query import DEFAULT_LIMIT
from logstream.api.services import services_of
from logstream.query.explain import Explained, Explainer, Selected


class SelectedCount(BaseModel):
    selected: int = Field(description="Left to read.", examples=[3])
    initial: int = Field(description="There were.", examples=[40])


class UsedIndex(BaseModel):
    source: str = Field(description="`logs`, or the projection that is read in its place.", examples=["logs"])
    type: str = Field(description="MinMax, Partition, PrimaryKey or Skip.", examples=["Skip"])
    name: str | None = Field(description="Of a skip index.", examples=["message_words"])
    description: str | None = Field(description="Of a skip index.", examples=["tokenbf_v1 GRANULARITY 1"])
    keys: list[str] = Field(examples=[["service"]])
    condition: str | None = Field(description="What is asked of the keys; null where nothing is.")
    parts: SelectedCount
    granules: SelectedCount = Field(description="Of up to 8,192 rows.")


class Measurement(BaseModel):
    rows: int = Field(description="Of the answer.", examples=[100])
    rows_read: int = Field(examples=[16_384])
    bytes_read: int = Field(description="Uncompressed.", examples=[2_100_000])
    milliseconds: float = Field(description="In the store.", examples=[8.4])
    memory: int | None = Field(
        description="The most bytes the store held for it; null when it was over too soon to see.",
        examples=[12_000_000],
    )


class Explanation(BaseModel):
    sql: str = Field(description="With the places of its parameters, `{name:Type}`.")
    parameters: dict[str, object] = Field(description="Their values.")
    indexes: list[UsedIndex] = Field(description="In the order the store asks them.")
    projections: list[str] = Field(description="Read in place of the table.")
    parts: SelectedCount = Field(description="What all indexes together leave.")
    granules: SelectedCount = Field(description="What all indexes together leave, of up to 8,192 rows each.")
    rows: int = Field(description="That will be read, estimated from the granules.", examples=[16_384])
    measured: Measurement | None = Field(description="With `analyze=true`; else null.")


def _count(counts: Selected) -> SelectedCount:
    return SelectedCount(selected=counts.selected, initial=counts.initial)


def _answer(found: Explained) -> Explanation:
    measured = found.measured
    return Explanation(
        sql=found.sql,
        parameters=dict(found.parameters),
        indexes=[
            UsedIndex(
                source=index.source,
                type=index.type,
                name=index.name,
                description=index.description,
                keys=list(index.keys),
                condition=index.condition,
                parts=_count(index.parts),
                granules=_count(index.granules),
            )
            for index in found.indexes
        ],
        projections=found.projections,
        parts=_count(found.parts),
        granules=_count(found.granules),
        rows=found.rows,
        measured=measured
        and Measurement(
            rows=measured.rows,
            rows_read=measured.rows_read,
            bytes_read=measured.bytes_read,
            milliseconds=measured.milliseconds,
            memory=measured.memory,
        ),
    )


_Analyze = Annotated[bool, Query(description="Run it, too, and say what that cost.", examples=[True])]


def create_router(max_limit: int) -> APIRouter:
    """Explaining queries. max_limit: rows one answer may have."""
    router = APIRouter(prefix="/api/v1", tags=["analysis"])
    default = min(DEFAULT_LIMIT, max_limit)

    @router.get(
        "/explain", summary="How the store answers a query", responses=errors(400, 401, 403, 404, 413, 422, 429, 503)
    )
    async def explain(
        request: Request,
        reading: Reader,
        asked: Question,
        limit: Annotated[
            int, Query(ge=1, le=max_limit, description="Of the query's answer.", examples=[default])
        ] = default,
        analyze: _Analyze = False,
    ) -> Explanation:
        """The SQL of a query, the indexes that are used, and how much is read. Without `start_time` it is about the
        hour before `end_time`, which is now by default."""
        services = services_of(request)
        explainer = Explainer(services.store, services.limits, services.times)
        now = services.clock.now_ns()
        read = partial(explainer.explain, reading.stream, asked, limit=limit, now_ns=now, analyze=analyze)
        return _answer(await services.reads.run(request, reading.principal, "explain", read))

    return router
