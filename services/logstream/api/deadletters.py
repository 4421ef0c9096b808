"""Dead letters: accepted lines that ClickHouse will never take, read from the log's dead-letter topic."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.auth.principal import Principal
from logstream.auth.roles import Action, require
from logstream.bus import header
from logstream.bus.header import MalformedRecord
from logstream.bus.protocol import Bus, Message, Offsets
from logstream.errors import InvalidValue, NotFound, OffsetOutOfRange
from logstream.query.time import MAX_NS, MIN_NS, format_time
from logstream.stream import Stream

MAX_PAGE = 100
_PARTITION = 0  # the topic of dead letters has one partition
_READ_BYTES = 1024 * 1024
_ID = re.compile(r"0-(\d{1,19})", re.ASCII)

_IdText = Annotated[str, Path(max_length=32, description="As in the list.", examples=["0-17"])]


class DeadLetter(BaseModel):
    id: str = Field(examples=["0-17"])
    stream: str = Field(examples=["default"])
    key_id: str = Field(description="The API key it was sent with.", examples=["k7f3q"])
    incarnation: int = Field(description="Of the log it stood in.")
    partition: int
    offset: int
    row: int | None = Field(description="Its row in the log's record; null when the whole record cannot be read.")
    rows: int = Field(description="How many lines it is.", examples=[1])
    received_at: str = Field(examples=["2026-01-31T12:00:00.5Z"])
    died_at: str = Field(examples=["2026-01-31T12:00:01Z"])
    reason: str = Field(description="What ClickHouse said.")
    clickhouse_code: int = Field(description="ClickHouse's exception code; 0 when it was not asked.", examples=[117])
    record: dict[str, Any] | None = Field(description="The line, where it can be read.")
    raw: str | None = Field(None, description="The bytes in base64; only of a single letter, not in the list.")


class DeadLetterPage(BaseModel):
    deadletters: list[DeadLetter] = Field(description="Newest first.")
    next: str | None = Field(description="For the parameter `before`: the next page; null on the last one.")


def _stream(request: Request, caller: Principal, name: str | None) -> Stream:
    name = name or caller.stream or "default"
    require(caller, Action.SEE_DEAD_LETTERS, stream=name)
    return gate_of(request).stream(name).stream


async def _offsets(bus: Bus, stream: Stream) -> Offsets:
    try:
        return await bus.offsets(stream.dead_letter_topic, _PARTITION)
    except NotFound:  # the processor makes the topic when it first runs
        return Offsets(0, 0)


def _parse_id(text: str, field: str) -> int:
    found = _ID.fullmatch(text)
    if found is None:
        raise InvalidValue(f"{field} must be the id of a dead letter, such as 0-17: {text!r}", field=field)
    return int(found[1])


def _times(letter: Mapping[str, Any]) -> dict[str, str]:
    names = [name for name in ("received_at", "died_at", "timestamp") if isinstance(letter.get(name), int)]
    return {name: format_time(min(max(letter[name], MIN_NS), MAX_NS)) for name in names}


def _letter(message: Message, *, raw: bool) -> dict[str, Any]:
    identity = f"{message.partition}-{message.offset}"
    try:
        _, payload = header.decode(message.value)
        letter: dict[str, Any] = msgspec.json.decode(payload)
    except (MalformedRecord, msgspec.DecodeError) as error:
        return {"id": identity, "reason": f"this letter cannot be read: {error}", "rows": 1, "record": None}
    letter.pop("version", None)
    if not raw:
        letter.pop("raw", None)
    if letter.get("record"):
        letter["record"] |= _times(letter["record"])
    return {"id": identity, **letter, **_times(letter)}


async def _newest(bus: Bus, stream: Stream, before: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """At most `limit` letters below the offset `before`, newest first, and where the next page begins."""
    offsets = await _offsets(bus, stream)
    end = min(before, offsets.end)
    at = start = max(offsets.beginning, end - limit)
    found: list[dict[str, Any]] = []
    while at < end:
        try:
            messages = await bus.read(stream.dead_letter_topic, _PARTITION, at, max_bytes=_READ_BYTES)
        except OffsetOutOfRange as error:
            if error.beginning <= at:
                break
            at = error.beginning
            continue
        if not messages:
            break
        found += [_letter(message, raw=False) for message in messages if message.offset < end]
        at = messages[-1].offset + 1
    return found[::-1], start if start > offsets.beginning else None


def create_router() -> APIRouter:
    """Looking at dead letters."""
    router = APIRouter(prefix="/api/v1", tags=["dead letters"])

    @router.get(
        "/deadletters",
        summary="List dead letters, newest first",
        responses={200: {"model": DeadLetterPage}, **errors(400, 401, 403, 404, 503)},
    )
    async def deadletters(
        request: Request,
        caller: Caller,
        stream: StreamName = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.", examples=[50])] = 50,
        before: Annotated[
            str | None, Query(max_length=32, description="The `next` of the page before.", examples=["0-17"])
        ] = None,
    ) -> Response:
        """Lines that were accepted and that ClickHouse refused for good, with the reason."""
        which = _stream(request, caller, stream)
        offset = _parse_id(before, "before") if before else MAX_NS
        letters, following = await _newest(services_of(request).bus, which, offset, limit)
        page = {"deadletters": letters, "next": None if following is None else f"{_PARTITION}-{following}"}
        return Response(msgspec.json.encode(page), media_type="application/json")

    @router.get(
        "/deadletters/{id}",
        summary="One dead letter, with its bytes",
        responses={200: {"model": DeadLetter}, **errors(400, 401, 403, 404, 503)},
    )
    async def deadletter(request: Request, caller: Caller, id: _IdText, stream: StreamName = None) -> Response:  # noqa: A002
        """As in the list, and the bytes that ClickHouse refused."""
        which = _stream(request, caller, stream)
        offset = _parse_id(id, "id")
        bus = services_of(request).bus
        offsets = await _offsets(bus, which)
        if not offsets.beginning <= offset < offsets.end:
            raise NotFound(f"there is no dead letter '{id}'", field="id")
        try:
            messages = await bus.read(which.dead_letter_topic, _PARTITION, offset, max_bytes=1)
        except OffsetOutOfRange:
            messages = ()
        if not messages:
            raise NotFound(f"there is no dead letter '{id}'", field="id")
        return Response(msgspec.json.encode(_letter(messages[0], raw=True)), media_type="application/json")

    return router
