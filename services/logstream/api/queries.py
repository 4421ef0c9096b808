"""`/api/v1/queries`: reads under way, how far they are, and how to end one."""

import contextlib
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from logstream.api.deps import Caller
from logstream.api.error_body import errors
from logstream.api.running import Read, Reads
from logstream.api.services import services_of
from logstream.api.times import from_ns
from logstream.auth.principal import Principal
from logstream.auth.roles import Action, may, require
from logstream.errors import NotFound, StoreUnavailable
from logstream.storage.progress import Progress


class RunningQuery(BaseModel):
    id: str = Field(description="Chosen by the client with `X-Query-Id`, or made up.", examples=["dashboard-7"])
    kind: str = Field(description="What is read.", examples=["search"])
    stream: str = Field(examples=["default"])
    caller: str = Field(description="The name of the key, or the person's.", examples=["grafana"])
    caller_kind: str = Field(description="key, user or anonymous.", examples=["key"])
    state: str = Field(description="`waiting` for its turn, or `running`.", examples=["running"])
    started: datetime = Field(description="When it was asked for.")
    elapsed_seconds: float = Field(description="Since then.", examples=[1.5])
    rows_read: int = Field(description="In the store, so far.", examples=[1_250_000])
    rows_total: int | None = Field(
        description="Rows it will read, estimated; null while unknown.", examples=[5_000_000]
    )
    percent: float | None = Field(description="Of `rows_total`; null while unknown.", examples=[25.0])
    bytes_read: int = Field(description="Uncompressed, so far.", examples=[250_000_000])
    memory: int | None = Field(
        description="The most bytes held in the store at once; null where nothing runs.", examples=[8_000_000]
    )


class RunningQueries(BaseModel):
    queries: list[RunningQuery]


_Id = Annotated[str, Path(max_length=64, description="The id of a read.", examples=["dashboard-7"])]


def _shown(reads: Reads, read: Read, progress: dict[str, Progress]) -> RunningQuery:
    cost, now = read.cost, progress.get(read.cost.tag)
    statement = now or Progress()
    rows = cost.rows_read + statement.rows_read
    total = cost.rows_read + max(statement.rows_total, statement.rows_read) if statement.rows_total else None
    return RunningQuery(
        id=read.id,
        kind=read.kind,
        stream=read.stream,
        caller=read.principal.name,
        caller_kind=read.principal.kind,
        state="running" if read.running else "waiting",
        started=from_ns(read.started_ns),
        elapsed_seconds=round(reads.elapsed(read), 3),
        rows_read=rows,
        rows_total=total,
        percent=None if total is None else round(100 * rows / total, 1),
        bytes_read=cost.bytes_read + statement.bytes_read,
        memory=None if now is None else max(0, now.memory),
    )


def _sees(caller: Principal, read: Read) -> bool:
    mine = (read.principal.kind, read.principal.id) == (caller.kind, caller.id)
    return mine or may(caller, Action.ALL_READS, stream=read.stream)


def create_router() -> APIRouter:
    """Reads under way in this process."""
    router = APIRouter(prefix="/api/v1", tags=["search"])

    @router.get("/queries", summary="Reads under way", responses=errors(400, 401, 403, 503))
    async def queries(
        request: Request,
        caller: Caller,
        everybody: Annotated[
            bool,
            Query(
                alias="all",
                description="Everybody's, for admins; a stream's own key sees that stream's.",
                examples=[True],
            ),
        ] = False,
    ) -> RunningQueries:
        """The caller's own reads that wait or run in this process, oldest first."""
        reads = services_of(request).reads
        if everybody:
            require(caller, Action.ALL_READS, stream=caller.stream)
        found = [read for read in reads.all() if _sees(caller, read)] if everybody else reads.of(caller)
        progress: dict[str, Progress] = {}
        if any(read.running for read in found):
            with contextlib.suppress(StoreUnavailable):  # what is known here is worth showing just then
                progress = await reads.progress()
        return RunningQueries(queries=[_shown(reads, read, progress) for read in found])

    @router.delete("/queries/{id}", status_code=204, summary="Cancel a read", responses=errors(400, 401, 403, 404, 503))
    async def cancel(request: Request, caller: Caller, id: _Id) -> None:  # noqa: A002
        """The caller's own; failing that, for admins, the oldest of anybody's with this id. It ends in the store, too,
        and its client is answered 409 `cancelled`.
        """
        named = services_of(request).reads.named(id, caller)
        read = next((read for read in named if _sees(caller, read)), None)
        if read is None:
            raise NotFound("no such read is running", field="id")
        read.cancel()

    return router
