"""HTTP plumbing shared by the collector, the API and the embedded engine: raw ASGI on uvicorn."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import partial
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from logstream.errors import LogStreamError, RetryLater, StartupError, Unauthenticated, Unavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Serve = Callable[[App, asyncio.Event], Awaitable[None]]
"""Serves an application until the event is set, and returns when its requests are answered: `serve`, bound to a socket,
or somebody who has the socket and answers for the application until it is there."""

_MAX_HEADER_BYTES = 64 * 1024
"""Of one request's line and headers; more closes the connection with 431."""
_PREFLIGHT_SECONDS = b"86400"
_TLS_SHUTDOWN_SECONDS = 2.0

json_bytes = msgspec.json.Encoder().encode
"""A value as JSON."""


async def respond(
    send: Send,
    status: int,
    body: bytes,
    headers: Iterable[Header] = (),
    *,
    content_type: bytes = b"application/json",
) -> None:
    """Send a whole answer."""
    length: Header = (b"content-length", b"%d" % len(body))
    head = [length, *headers] if status == 204 else [(b"content-type", content_type), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def error_headers(error: LogStreamError) -> list[Header]:
    """The headers that belong to an error beside its body: `Retry-After`, `WWW-Authenticate`."""
    if isinstance(error, RetryLater):
        return [(b"retry-after", b"%d" % error.retry_after)]
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="logstream"')]
    return []


async def respond_error(send: Send, error: LogStreamError, headers: Iterable[Header] = ()) -> None:
    """Send `error` as `{"error": {"code", "message", …}}` with its status."""
    await respond(send, error.status, json_bytes(error.body()), [*error_headers(error), *headers])


class Cors:
    """Cross-origin headers (Fetch standard) for raw ASGI. Credentials are not allowed: keys are not cookies.

    origins: exact origins, or "*" for all.
    """

    def __init__(
        self,
        origins: Sequence[str],
        *,
        methods: Sequence[str],
        headers: Sequence[str],
        exposed: Sequence[str] = (),
    ) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)
        self._exposed: list[Header] = (
            [(b"access-control-expose-headers", ", ".join(exposed).encode())] if exposed else []
        )
        self._preflight: list[Header] = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", ", ".join(headers).encode()),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]

    def headers(self, origin: bytes) -> list[Header]:
        """For every answer to a request with an Origin header."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), *self._exposed]
        vary: Header = (b"vary", b"Origin")
        if origin in self._origins:
            return [(b"access-control-allow-origin", origin), vary, *self._exposed]
        return [vary]

    def preflight(self) -> list[Header]:
        """For the answer to a preflight request, beside `headers`."""
        return self._preflight


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 lets the system choose.

    Raises StartupError with one sentence when the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port or stop what uses it"
        ) from error
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process's own composition root decides when to stop.

    tls: a context that may change while it is used, and so cannot be made of uvicorn's own settings.
    """

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None, handshake_timeout: float) -> None:
        super().__init__(config)
        self._tls = tls
        self._handshake_timeout = handshake_timeout

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
            return

        def create_protocol() -> asyncio.Protocol:
            protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return protocol

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                create_protocol,
                sock=sock,
                ssl=self._tls,
                backlog=self.config.backlog,
                # Neither a client that says nothing nor one that does not say good-bye may stay for long.
                ssl_handshake_timeout=self._handshake_timeout,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS,
            )
            for sock in sockets or ()
        ]
        self.started = True


_TOO_MANY_HEADERS = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_NOT_HTTP_BODY = (
    b'{"error":{"code":"malformed","message":"this is not an HTTP request, or its address is longer than 65535 bytes"}}'
)
_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    % len(_NOT_HTTP_BODY)
) + _NOT_HTTP_BODY


def _protocol(header_timeout: float) -> type[HttpToolsProtocol]:
    class Protocol(HttpToolsProtocol):
        """Closes a connection whose request header is not whole in time (slow loris) or grows without end, and one
        whose request was answered before its body was whole, when the rest does not come in that time."""

        _deadline: asyncio.TimerHandle | None = None
        _rest: asyncio.TimerHandle | None = None
        _body_open = False
        _header_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._arm()

        def send_400_response(self, msg: str) -> None:
            """As every error is answered; uvicorn's own is plain text, also for an address that is too long."""
            self.transport.write(_NOT_HTTP)
            self.transport.close()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._deadline is not None:
                self._header_bytes += len(data)
                if self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
                    self.transport.write(_TOO_MANY_HEADERS)
                    self.transport.close()

        def _arm(self) -> None:
            self._header_bytes = 0
            self._deadline = self.loop.call_later(header_timeout, self._give_up)

        def _give_up(self) -> None:
            cycle: Any = self.cycle  # None before the first request
            if cycle is not None and not cycle.response_complete:
                # The next request has begun while this one is still being answered, which has no such limit.
                self._deadline = self.loop.call_later(header_timeout, self._give_up)
            elif not self.transport.is_closing():
                self.transport.close()

        def _disarm(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def on_message_begin(self) -> None:
            if self._deadline is None:
                self._arm()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._disarm()
            self._body_open = True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._body_open = False
            self._expect_no_rest()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._body_open and self._rest is None and not self.transport.is_closing():
                self._rest = self.loop.call_later(header_timeout, self.transport.close)

        def _expect_no_rest(self) -> None:
            if self._rest is not None:
                self._rest.cancel()
                self._rest = None

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._expect_no_rest()
            super().connection_lost(exc)

    return Protocol


async def serve(
    app: App,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    ready: Callable[[], None] | None = None,
    header_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    max_connections: int = 4096,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve `app` on `sock` until `stop` is set, then let requests under way finish (`shutdown_timeout` s).

    Past `max_connections` connections a request is answered 503. tls: None for plain HTTP; a handshake has
    `header_timeout` seconds.
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if len(server.server_state.connections) <= max_connections:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = Unavailable(f"more than {max_connections} connections", limit=max_connections)
            await respond_error(send, refusal, [(b"connection", b"close")])
        else:
            await send({"type": "websocket.close", "code": 1013})

    config = uvicorn.Config(
        limited,
        http=_protocol(header_timeout),
        ws="websockets-sansio",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # X-Forwarded-For from anybody would dodge the throttle per address.
        proxy_headers=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(shutdown_timeout),
        ws_max_size=64 * 1024,
        # Compressed for each client by itself, a tail's shared frames would cost more CPU than all the rest of it.
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
    )
    server = _Server(config, tls, header_timeout)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.005)
        if ready is not None:
            ready()
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    try:
        await server.serve(sockets=[sock])
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def serving(sock: socket.socket | Serve, *, header_timeout: float = 10.0) -> Serve:
    """`serve` on `sock`; or who serves in its place, as it is."""
    return partial(_serve_on, sock, header_timeout) if isinstance(sock, socket.socket) else sock


async def _serve_on(sock: socket.socket, header_timeout: float, app: App, stop: asyncio.Event) -> None:
    await serve(app, sock, stop, header_timeout=header_timeout)
