"""Around every request: its size, its metrics, and headers that every answer has. Raw ASGI."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logstream.api.errors import error_response
from logstream.errors import LogStreamError, RequestTimeout, TooLarge
from logstream.metrics import API_REQUESTS, API_SECONDS

MAX_BODY_BYTES = 64 * 1024
"""Bodies here are accounts and keys: small. Logs go to the collector."""
BODY_SECONDS = 15.0
NO_HEAD = frozenset({"/api/v1/tail", "/api/v1/export"})

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Bodies:
    """Reads a body before the application runs, up to MAX_BODY_BYTES within BODY_SECONDS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            refusal: LogStreamError = RequestTimeout(f"the body was not whole after {BODY_SECONDS:g} s")
            await error_response(refusal)(scope, receive, send)
            return
        except TooLarge as error:
            await error_response(error)(scope, receive, send)
            return
        if body is None:
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, replay, send)


async def _read(receive: Receive) -> bytes | None:
    """The body; None when the client left. Raises TooLarge."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"a body may have {MAX_BODY_BYTES} bytes", field="body", limit=MAX_BODY_BYTES)
        if not message.get("more_body", False):
            return b"".join(parts)


class Heads:
    """Answers HEAD as GET, whose body uvicorn leaves out; not where the answer is long or has no end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD" and scope["path"] not in NO_HEAD:
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class Observed:
    """Counts and times answers by route template, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message = {**message, "headers": headers + [h for h in _HEADERS if h[0] not in present]}
                route = getattr(scope.get("route"), "path", "unmatched")
                API_REQUESTS.labels(route, str(message["status"])).inc()
                API_SECONDS.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, observed)
