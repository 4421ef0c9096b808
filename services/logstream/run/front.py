"""What stands before a process's application: probes and metrics, from the first moment to the last.

The application comes when what it depends on was reached. Until then its port answers too, with 503 and the reason,
so that a process whose broker is away waits in sight instead of starting again and again.
"""

import asyncio
import socket
import ssl
from collections.abc import MutableMapping
from typing import Any

from logstream import __version__, web
from logstream.errors import NotFound, Unavailable
from logstream.metrics import exposition
from logstream.run.readiness import Readiness

_LIVE = web.json_bytes({"status": "ok", "version": __version__, "checks": {}})
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


class Probes:
    """`/livez`, `/readyz` and `/metrics` as an ASGI application; for a port of their own, nothing else.

    reasons: as `Readiness.answer`.
    """

    def __init__(self, readiness: Readiness, *, reasons: bool = True) -> None:
        self.readiness = readiness
        self._reasons = reasons

    async def __call__(self, scope: web.Scope, receive: web.Receive, send: web.Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif not await self.answer(scope, send):
            body = b'{"error":{"code":"not_found","message":"here are only /livez, /readyz and /metrics"}}'
            await web.respond(send, 404, body)

    async def answer(self, scope: web.Scope, send: web.Send) -> bool:
        """Answer a probe; False when the request is none."""
        if scope["type"] != "http" or scope["path"] not in _PROBES or scope["method"] not in ("GET", "HEAD"):
            return False
        # For HEAD uvicorn sends the header only.
        if scope["path"] == "/livez":
            # Asks nobody: it is the event loop's own sign of life.
            await web.respond(send, 200, _LIVE)
        elif scope["path"] == "/metrics":
            await web.respond(send, 200, exposition(), content_type=b"text/plain; version=0.0.4; charset=utf-8")
        else:
            is_ready, body = await self.readiness.answer(reasons=self._reasons)
            headers: list[web.Header] = [] if is_ready else [(b"retry-after", b"2")]
            await web.respond(send, 200 if is_ready else 503, web.json_bytes(body), headers)
        return True


class Front:
    """One port of a process. `serve` it from the start, `attach` the application when it is there.

    details: whether metrics, and the reasons why it is not ready, are told here to whoever asks: they name streams,
    what each sends, and servers.
    """

    def __init__(
        self,
        readiness: Readiness,
        *,
        header_timeout: float = 10.0,
        shutdown_timeout: float = 20.0,
        details: bool = True,
    ) -> None:
        self._details = details
        self._probes = Probes(readiness, reasons=details)
        self._readiness = readiness
        readiness.is_starting = True
        self._timeouts = header_timeout, shutdown_timeout
        self._app: web.App | None = None
        self._close = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def is_attached(self) -> bool:
        return self._app is not None

    async def serve(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Until `close`, or until the event given to `attach` is set; requests under way are answered first."""
        header_timeout, shutdown_timeout = self._timeouts
        try:
            await web.serve(
                self, sock, self._close, header_timeout=header_timeout, shutdown_timeout=shutdown_timeout, tls=tls
            )
        finally:
            self._closed.set()

    async def attach(self, app: web.App, stop: asyncio.Event) -> None:
        """Answer with `app` until `stop` is set; returns when the last of its requests was answered."""
        self._app = app
        self._readiness.is_starting = False
        closed = asyncio.create_task(self._closed.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((closed, stopped), return_when=asyncio.FIRST_COMPLETED)
            self._close.set()
            await closed
        finally:
            closed.cancel()
            stopped.cancel()

    def close(self) -> None:
        """Stop serving. Idempotent."""
        self._close.set()

    async def __call__(self, scope: web.Scope, receive: web.Receive, send: web.Send) -> None:
        if not self._details and scope["type"] == "http" and scope["path"] == "/metrics":
            await web.respond_error(send, NotFound("metrics are on the port that run.health_port names"))
            return
        if await self._probes.answer(scope, send):
            return
        if self._app is not None:
            await self._app(scope, receive, self._last(send) if self._readiness.is_stopping else send)
        elif scope["type"] == "http":
            missing = self._readiness.missing()
            reasons = "; ".join(f"{name}: {reason}" if self._details else name for name, reason in missing.items())
            refusal = Unavailable(f"starting; {reasons or 'almost there'}", retry_after=2)
            await web.respond_error(send, refusal, [(b"connection", b"close")])
        else:
            await send({"type": "websocket.close", "code": 1013})

    @staticmethod
    def _last(send: web.Send) -> web.Send:
        """Ends the connection with this answer, so that its client comes back to another process, not to a closed
        port."""

        async def last(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                kept = [(name, value) for name, value in headers if name.lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        return last
