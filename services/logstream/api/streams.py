"""Streams over HTTP: what exists, how long it keeps logs, how much it takes, who may read; made and deleted."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from logstream.api.deps import Caller, allowed
from logstream.api.error_body import errors
from logstream.api.times import from_ns
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.principal import Principal, Quota
from logstream.auth.roles import Action, require
from logstream.auth.streams import MAX_RETENTION_DAYS, StreamInfo
from logstream.errors import InvalidValue

StreamName = Annotated[str, Path(max_length=64, description="The name of the stream.", examples=["default"])]
_Rate = Annotated[float | None, Field(description="Greater than 0; null: no limit.", examples=[20000])]
_Days = f"1 to {MAX_RETENTION_DAYS}."


class StreamQuota(BaseModel):
    """Sustained rates of all keys of the stream together; bursts of two seconds' worth are let through."""

    model_config = ConfigDict(extra="forbid")
    records_per_second: _Rate = None
    bytes_per_second: _Rate = None


class StreamBody(BaseModel):
    name: str = Field(examples=["default"])
    stream_id: str = Field(description="Never changes and never returns.", examples=["local-default-a7da3c71"])
    status: Literal["ready", "creating", "deleting"] = Field(
        description="creating: its topics and tables are still being made; deleting: still being removed."
    )
    retention_days: int = Field(description="Logs older than that are deleted.", examples=[30])
    dead_letter_days: int = Field(description="Dead letters older than that are deleted.", examples=[30])
    anonymous_reads: bool = Field(description="Whether anybody may read, without a key or a login.")
    quota: StreamQuota
    created_at: datetime


class StreamList(BaseModel):
    streams: list[StreamBody]


class NewStream(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "payments", "retention_days": 90, "quota": {"records_per_second": 20000}}
        },
    )
    name: str = Field(
        description="1 to 50 of a-z, 0-9 and '-'; begins with a letter, does not end with '-'.", examples=["payments"]
    )
    retention_days: int = Field(30, description=_Days, examples=[90])
    dead_letter_days: int = Field(30, description=_Days, examples=[30])
    anonymous_reads: bool = Field(False, description="Let anybody read, without a key or a login.")
    quota: StreamQuota = Field(default_factory=StreamQuota)


class StreamChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"retention_days": 14}})
    retention_days: int | None = Field(None, description=_Days, examples=[14])
    dead_letter_days: int | None = Field(None, description=_Days, examples=[30])
    anonymous_reads: bool | None = Field(None, description="Let anybody read, without a key or a login.")
    quota: StreamQuota | None = Field(None, description="Replaces the whole quota; for admins of all streams.")


def _body(info: StreamInfo, *, deleting: bool = False) -> StreamBody:
    return StreamBody(
        name=info.stream.name,
        stream_id=info.stream.stream_id,
        status="deleting" if deleting else "ready" if info.ready else "creating",
        retention_days=info.retention_days,
        dead_letter_days=info.dead_letter_days,
        anonymous_reads=info.anonymous_reads,
        quota=StreamQuota(
            records_per_second=info.quota.records_per_second, bytes_per_second=info.quota.bytes_per_second
        ),
        created_at=from_ns(info.created_at),
    )


def _quota(body: StreamQuota) -> Quota:
    return Quota(body.records_per_second, body.bytes_per_second)


def create_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["streams"], responses=errors(401, 403, 503))

    @router.get("/streams", summary="List streams")
    async def list_streams(caller: Annotated[Principal, Depends(allowed(Action.SEE_STREAMS))]) -> StreamList:
        """The streams that the caller may see, by name."""
        return StreamList(
            streams=[_body(info) for info in await accounts.streams.list() if caller.stream in (None, info.stream.name)]
        )

    @router.post("/streams", summary="Make a stream", status_code=201, responses=errors(400, 409))
    async def create_stream(
        body: NewStream, _: Annotated[Principal, Depends(allowed(Action.MAKE_STREAMS))]
    ) -> StreamBody:
        """With topics, tables, keys, quota and retention of its own; `ready` once Kafka and ClickHouse have them."""
        return _body(
            await accounts.streams.create(
                body.name,
                retention_days=body.retention_days,
                anonymous_reads=body.anonymous_reads,
                dead_letter_days=body.dead_letter_days,
                quota=_quota(body.quota),
            )
        )

    @router.get("/streams/{name}", summary="One stream", responses=errors(400, 404))
    async def get_stream(name: StreamName, caller: Caller) -> StreamBody:
        """How long it keeps logs, how much it takes and who may read."""
        require(caller, Action.SEE_STREAMS, stream=name)
        return _body(gate.info(name))

    @router.patch("/streams/{name}", summary="Change a stream", responses=errors(400, 404))
    async def change_stream(name: StreamName, body: StreamChange, caller: Caller) -> StreamBody:
        """Change retention, quota or anonymous reads; all hold at once."""
        require(caller, Action.CHANGE_STREAMS, stream=name)
        if body.quota is not None:
            # What bounds a stream is not for its own admin to lift.
            require(caller, Action.MAKE_STREAMS, stream=name)
        return _body(
            await accounts.update_stream(
                name,
                retention_days=body.retention_days,
                anonymous_reads=body.anonymous_reads,
                dead_letter_days=body.dead_letter_days,
                quota=None if body.quota is None else _quota(body.quota),
            )
        )

    @router.delete(
        "/streams/{name}", summary="Delete a stream with its logs", status_code=202, responses=errors(400, 404, 409)
    )
    async def delete_stream(
        name: StreamName,
        _: Annotated[Principal, Depends(allowed(Action.MAKE_STREAMS))],
        confirm: Annotated[
            str, Query(max_length=64, description="The name of the stream once more.", examples=["payments"])
        ] = "",
    ) -> StreamBody:
        """Its keys stop and its saved views go at once, and what waits in the log is not stored any more.

        Ten seconds later its topic, its dead-letter topic and its database, with every log and dead letter, are
        removed for good, and nothing of any other stream; what cannot be reached then is removed when it can. Until
        all is gone the name is not free.
        """
        if confirm != name:
            raise InvalidValue(
                f"this deletes all logs of the stream for good: repeat its name, ?confirm={name}", field="confirm"
            )
        return _body(await accounts.streams.delete(name), deleting=True)

    return router
