"""`/ws` and `/api/v1/tail`: live lines over WebSocket and Server-Sent Events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, WebSocket
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from logstream.api.error_body import ErrorBody, errors
from logstream.api.errors import close_code, close_reason
from logstream.api.parameters import Filter, Reader, Reading
from logstream.api.reads import LogEntry
from logstream.api.services import Services, services_of
from logstream.auth.principal import Principal
from logstream.errors import LogStreamError, RequestTimeout, ShuttingDown, Unauthenticated
from logstream.query.cursor import decode
from logstream.query.filter import LogFilter
from logstream.query.frames import Frame, Lines
from logstream.query.tail_client import TailClient

HEARTBEAT_SECONDS = 10.0
STALL_SECONDS = 60.0
"""A client that takes nothing for this long is let go; it comes back with its cursor."""
RECHECK_SECONDS = 2.0
"""A revoked key ends its tails within this time."""
_CLOSE_SECONDS = 5.0

_CursorText = Annotated[
    str | None,
    Query(max_length=20_000, description="The `cursor` of the last frame received: go on behind it.", examples=["AQ"]),
]


class TailFrame(BaseModel):
    """One frame; `type` says which of the other fields it has."""

    type: str = Field(description="records, gap, heartbeat or error.", examples=["records"])
    cursor: str | None = Field(None, description="Where to go on; of every frame but error.")
    records: list[LogEntry] | None = Field(None, description="records: the lines, oldest first.")
    dropped: int | None = Field(None, description="gap: lines that matched and are not sent; null: not known.")
    error: dict[str, object] | None = Field(None, description="error: the last frame; as in error answers.")


async def _open(
    services: Services, reading: Reading, logs: LogFilter, cursor: str | None = None, *, lossless: bool = False
) -> TailClient:
    position = decode(cursor, reading.stream) if cursor else None
    return await services.tail(reading.stream).open(logs, position, lossless=lossless)


async def _send_frames(client: TailClient, send: Callable[[Frame], Awaitable[None]]) -> LogStreamError:
    """Send until there is a reason to stop, and give the reason."""
    try:
        async with aclosing(client.frames(HEARTBEAT_SECONDS)) as frames:
            async for frame in frames:
                async with asyncio.timeout(STALL_SECONDS):
                    await send(frame)
    except LogStreamError as error:
        return error
    except TimeoutError:
        return RequestTimeout(f"nothing was taken for {STALL_SECONDS:g} s", limit=STALL_SECONDS)
    if client.overrun:
        return RequestTimeout("too slow: too many lines were waiting; /api/v1/tail sends gaps instead")
    return ShuttingDown("the server is stopping; come back with the cursor")


async def _revoked(services: Services, principal: Principal) -> LogStreamError:
    while services.gate.is_active(principal):
        await asyncio.sleep(RECHECK_SECONDS)
    return Unauthenticated("this key or login may no longer read")


async def _run(
    services: Services,
    reading: Reading,
    client: TailClient,
    send: Callable[[Frame], Awaitable[None]],
    left: Awaitable[None],
) -> LogStreamError | None:
    """Tail until something ends it; None when the client left. The client is closed then."""
    sending = asyncio.ensure_future(_send_frames(client, send))
    revoked = asyncio.ensure_future(_revoked(services, reading.principal))
    leaving = asyncio.ensure_future(left)
    tasks = (sending, revoked, leaving)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, revoked):
            if task.done() and not leaving.done():
                return task.result()
        return None
    finally:
        client.close()
        for pending in tasks:
            pending.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _over_websocket(
    websocket: WebSocket, reading: Reading, client: TailClient, render: Callable[[Frame], str | None]
) -> None:
    try:
        await websocket.accept()
    except BaseException:
        client.close()
        raise

    async def send(frame: Frame) -> None:
        text = render(frame)
        if text is not None:
            await websocket.send({"type": "websocket.send", "text": text})

    async def left() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    reason = await _run(services_of(websocket), reading, client, send, left())
    if reason is not None:
        code = 1012 if isinstance(reason, ShuttingDown) else close_code(reason)
        # It may have left in the same moment, or take nothing, not even this.
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await websocket.close(code, close_reason(reason.message))


class _EventStream(Response):
    """Frames as Server-Sent Events: `id` is the frame's cursor, `data` the frame."""

    def __init__(self, services: Services, reading: Reading, client: TailClient) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._services = services
        self._reading = reading
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        async def event(frame: Frame) -> None:
            await write(f"id: {frame.cursor}\ndata: {frame.text}\n\n")

        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await write("retry: 1000\n\n")
        except BaseException:
            self._client.close()
            raise
        reason = await _run(self._services, self._reading, self._client, event, left())
        if reason is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    error = msgspec.json.encode({"type": "error", **reason.body()}).decode()
                    await write(f"data: {error}\n\n")
                    await write("", more=False)


def create_router() -> APIRouter:
    """Live lines of one stream."""
    router = APIRouter(tags=["tail"])

    @router.websocket("/ws")
    async def ws(websocket: WebSocket, reading: Reader, asked: Filter) -> None:
        client = await _open(services_of(websocket), reading, asked, lossless=True)
        await _over_websocket(websocket, reading, client, lambda f: f.array if isinstance(f, Lines) else None)

    @router.websocket("/api/v1/tail")
    async def tail_websocket(websocket: WebSocket, reading: Reader, asked: Filter, cursor: _CursorText = None) -> None:
        client = await _open(services_of(websocket), reading, asked, cursor)
        await _over_websocket(websocket, reading, client, lambda frame: frame.text)

    @router.get(
        "/api/v1/tail",
        summary="Live lines as Server-Sent Events or, with an upgrade, over a WebSocket",
        response_class=Response,
        responses={
            200: {
                "content": {"text/event-stream": {}},
                "model": TailFrame,
                "description": "Events without end. `id` is the cursor, `data` a frame as described.",
            },
            **errors(400, 401, 403, 404, 429, 503),
        },
    )
    async def tail_events(
        request: Request,
        reading: Reader,
        asked: Filter,
        cursor: _CursorText = None,
        last_event_id: Annotated[
            str | None,
            Header(description="What browsers send when they reconnect; goes before `cursor`.", examples=["AQ"]),
        ] = None,
    ) -> Response:
        """Lines as they arrive, filtered on the server. See docs/tail.md for frames, gaps, cursors and close codes.

        The same address takes a WebSocket upgrade, with the same parameters; each message is then one frame.
        """
        services = services_of(request)
        client = await _open(services, reading, asked, last_event_id or cursor)
        return _EventStream(services, reading, client)

    @router.get(
        "/ws",
        status_code=426,
        summary="Live lines over a WebSocket, as JSON arrays",
        response_class=Response,
        responses={
            101: {"description": "Each message is a JSON array of entries as in `/logs`, oldest first."},
            426: {"model": ErrorBody, "description": "The request was no WebSocket upgrade."},
            **errors(400, 401, 403, 404, 429, 503),
        },
    )
    async def ws_plain(reading: Reader, asked: Filter) -> Response:
        """A client that is too slow is closed with 4408; `/api/v1/tail` declares gaps instead, and has cursors."""
        body = {"error": {"code": "upgrade_required", "message": "this address speaks WebSocket only"}}
        return JSONResponse(body, 426, {"Upgrade": "websocket"})

    return router
