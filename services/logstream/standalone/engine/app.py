"""ClickHouse's HTTP interface as raw ASGI: requests in, statements run, answers out."""

import asyncio
import time
from collections.abc import Iterator

from logstream import metrics
from logstream.standalone.engine import coding, exceptions, form
from logstream.standalone.engine.answer import Answer, send_text
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.guard import Guard
from logstream.standalone.engine.pool import Lane, Lease
from logstream.standalone.engine.request import Kind, Statement, parse
from logstream.web import Receive, Scope, Send

_BODY_SECONDS = 120.0
# Only reading is cancelled when the client goes away; what changes data runs to its end, as in ClickHouse.
_CANCELLED = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", ""})


class Disconnected(Exception):
    """The client went away before its request was whole."""


class Application:
    """One instance serves one engine.

    inserts, reads: the connections. killer: one outside both, for cancelling. guard: who may ask.
    max_body_bytes: one body, as sent and decompressed. max_pending_bytes: all bodies being received or
    waiting for a connection.
    """

    def __init__(
        self,
        *,
        inserts: Lane,
        reads: Lane,
        killer: Lease,
        guard: Guard,
        timezone: str,
        max_body_bytes: int,
        max_pending_bytes: int,
    ) -> None:
        self._guard = guard
        self._inserts = inserts
        self._reads = reads
        self._killer = killer
        self._timezone = timezone
        self._max_body_bytes = max_body_bytes
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._running: dict[asyncio.Task[None], Statement] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/ping" or (path == "/" and scope["method"] in ("GET", "HEAD") and not scope["query_string"]):
            await send_text(send, 200, b"Ok.\n")
        elif path == "/metrics":
            await send_text(send, 200, metrics.exposition())
        elif path == "/":
            await self._request(scope, receive, send)
        else:
            await send_text(send, 404, f"There is no handle {path}\n".encode())

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send, self._timezone)
        body = _Body(self)
        started = time.monotonic()
        kind, status = "unread", "200"
        try:
            statement = await self._read(scope, receive, body)
            kind = statement.kind.value
            if statement.compress:
                answer.coder = coding.choose(dict(scope["headers"]).get(b"accept-encoding", b""))
            await self._run(statement, answer, receive)
        except Disconnected:
            status = "disconnected"
        except EngineError as error:
            status = str(error.status)
            await answer.fail(error)
        finally:
            body.release()
            metrics.ENGINE_QUERIES.labels(kind, status).inc()
            metrics.ENGINE_SECONDS.labels(kind).observe(time.monotonic() - started)

    async def _read(self, scope: Scope, receive: Receive, body: "_Body") -> Statement:
        headers = dict(scope["headers"])
        self._guard.check(headers, scope["query_string"])
        if int(headers.get(b"content-length", b"0")) > self._max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                pieces = await self._receive(receive, body)
        except TimeoutError:
            raise EngineError(
                exceptions.SOCKET_TIMEOUT, f"the body was not whole after {_BODY_SECONDS:.0f} s", "SOCKET_TIMEOUT"
            ) from None
        encoding = headers.get(b"content-encoding", b"")
        if encoding:
            pieces = await asyncio.to_thread(coding.decode, encoding, pieces, limit=self._max_body_bytes)
            body.take(sum(map(len, pieces)))
        content_type = headers.get(b"content-type", b"")
        fields: dict[str, str] = {}
        if form.is_form(content_type):
            fields, pieces = form.fields(content_type, pieces), []
        return parse(scope["method"], scope["query_string"], headers, pieces, fields)

    async def _receive(self, receive: Receive, body: "_Body") -> list[bytes]:
        """The whole body, or nothing: an INSERT whose body was cut off never begins."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece = message.get("body", b"")
            if piece:
                size += len(piece)
                if size > self._max_body_bytes:
                    raise self._too_large()
                body.take(len(piece))
                pieces.append(piece)
            if not message.get("more_body", False):
                return pieces

    def _too_large(self) -> EngineError:
        return EngineError(
            exceptions.QUERY_IS_TOO_LARGE,
            f"request body is larger than {self._max_body_bytes} bytes",
            "QUERY_IS_TOO_LARGE",
        )

    def cancel_reads(self) -> None:
        """Cancel what reads; each is answered with QUERY_WAS_CANCELLED."""
        for work, statement in self._running.items():
            if statement.verb in _CANCELLED:
                work.cancel()

    async def settle(self) -> None:
        """Wait until no statement runs or waits."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self, statement: Statement, answer: Answer, receive: Receive) -> None:
        work = asyncio.create_task(self._lease_and_execute(statement, answer))
        self._running[work] = statement
        work.add_done_callback(self._running.pop)
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and statement.verb in _CANCELLED:
                work.cancel()
                await asyncio.wait({work})
                raise Disconnected
            await asyncio.wait({work})
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            gone.cancel()
        if work.cancelled():
            raise EngineError(exceptions.QUERY_WAS_CANCELLED, "Query was cancelled", "QUERY_WAS_CANCELLED")
        work.result()

    async def _lease_and_execute(self, statement: Statement, answer: Answer) -> None:
        lane = self._inserts if statement.kind is Kind.INSERT else self._reads
        async with lane.lease() as lease:
            try:
                await _execute(statement, answer, lease)
            except asyncio.CancelledError:
                await self._kill(lease)
                raise

    async def _kill(self, lease: Lease) -> None:
        """Stop what runs on `lease`; comes back when its connection is free again."""
        pause = 0.02
        while lease.busy:
            # Again and again: the statement may not have been registered when the first KILL came.
            await self._killer.call(self._killer.connection.kill, lease.connection.name)
            await lease.idle(pause)
            pause = min(1.0, pause * 2)
        if lease.connection.piping:
            await self._killer.call(self._killer.connection.kill, lease.connection.name)
        await lease.call(lease.connection.abandon)


async def _execute(statement: Statement, answer: Answer, lease: Lease) -> None:
    connection = lease.connection
    answer.begin(statement)
    if statement.kind in (Kind.STREAM, Kind.PIPE):
        pieces = connection.stream(statement) if statement.kind is Kind.STREAM else connection.pipe(statement)
        while (piece := await lease.call(_next, pieces)) is not None:
            await answer.write(piece)
        await answer.end()
    elif statement.kind is Kind.INSERT:
        await answer.end(await lease.call(connection.insert, statement))
    else:
        await answer.end(await lease.call(connection.run, statement))


def _next(pieces: Iterator[memoryview]) -> memoryview | None:
    return next(pieces, None)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Body:
    """Bytes of one request's body, counted against the limit of all."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._bytes = 0

    def take(self, size: int) -> None:
        if self._app._pending_bytes + size > self._app._max_pending_bytes:
            raise EngineError(
                exceptions.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"bodies of requests under way hold more than {self._app._max_pending_bytes} bytes",
                "TOO_MANY_SIMULTANEOUS_QUERIES",
            )
        self._app._pending_bytes += size
        self._bytes += size

    def release(self) -> None:
        self._app._pending_bytes -= self._bytes
        self._bytes = 0
