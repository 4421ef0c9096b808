"""Streams over HTTP: what exists, how long it keeps logs, who may read."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from logstream.api.deps import Caller, allowed
from logstream.api.error_body import errors
from logstream.api.times import from_ns
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.principal import Principal
from logstream.auth.roles import Action, require
from logstream.auth.streams import MAX_RETENTION_DAYS, StreamInfo

StreamName = Annotated[str, Path(max_length=64, description="The name of the stream.", examples=["default"])]


class StreamBody(BaseModel):
    name: str = Field(examples=["default"])
    stream_id: str = Field(description="Never changes and never returns.", examples=["local-default-a7da3c71"])
    retention_days: int = Field(description="Logs older than that are deleted.", examples=[30])
    anonymous_reads: bool = Field(description="Whether anybody may read, without a key or a login.")
    created_at: datetime


class StreamList(BaseModel):
    streams: list[StreamBody]


class StreamChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"retention_days": 14}})
    retention_days: int | None = Field(None, description=f"1 to {MAX_RETENTION_DAYS}.", examples=[14])
    anonymous_reads: bool | None = Field(None, description="Let anybody read, without a key or a login.")


def _body(info: StreamInfo) -> StreamBody:
    return StreamBody(
        name=info.stream.name,
        stream_id=info.stream.stream_id,
        retention_days=info.retention_days,
        anonymous_reads=info.anonymous_reads,
        created_at=from_ns(info.created_at),
    )


def create_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["streams"], responses=errors(401, 403, 503))

    @router.get("/streams", summary="List streams")
    async def list_streams(caller: Annotated[Principal, Depends(allowed(Action.SEE_STREAMS))]) -> StreamList:
        """The streams that the caller may see, by name."""
        return StreamList(
            streams=[_body(info) for info in await accounts.streams.list() if caller.stream in (None, info.stream.name)]
        )

    @router.get("/streams/{name}", summary="One stream", responses=errors(400, 404))
    async def get_stream(name: StreamName, caller: Caller) -> StreamBody:
        """How long it keeps logs and who may read."""
        require(caller, Action.SEE_STREAMS, stream=name)
        return _body(gate.stream(name))

    @router.patch("/streams/{name}", summary="Change a stream", responses=errors(400, 404))
    async def change_stream(name: StreamName, body: StreamChange, caller: Caller) -> StreamBody:
        """Change retention or anonymous reads; both hold at once."""
        require(caller, Action.CHANGE_STREAMS, stream=name)
        return _body(
            await accounts.update_stream(name, retention_days=body.retention_days, anonymous_reads=body.anonymous_reads)
        )

    return router
