"""ClickHouse's HTTP interface as raw ASGI."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Iterator

from logstream import metrics
from logstream.standalone.engine import coding, exceptions
from logstream.standalone.engine.connection import Connection, Outcome
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.pool import Lane, Lease
from logstream.standalone.engine.request import Kind, Statement, parse
from logstream.web import Receive, Scope, Send

_HOLD_BYTES = 1024 * 1024
_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", ""})


class Disconnected(Exception):
    """The client went away before its request was whole."""


class Application:
    """One instance serves one engine.

    inserts, reads: the connections. killer: a lease outside both, for cancelling. max_body_bytes: one body, as
    sent and decompressed. max_pending_bytes: all bodies being received or waiting for a connection.
    """

    def __init__(
        self, *, inserts: Lane, reads: Lane, killer: Lease, timezone: str, max_body_bytes: int, max_pending_bytes: int
    ) -> None:
        self._inserts = inserts
        self._reads = reads
        self._killer = killer
        self._timezone = timezone
        self._max_body_bytes = max_body_bytes
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/ping" or (path == "/" and scope["method"] in ("GET", "HEAD") and not scope["query_string"]):
            await _answer(send, 200, b"Ok.\n")
        elif path == "/metrics":
            await _answer(send, 200, metrics.exposition())
        elif path == "/":
            await self._request(scope, receive, send)
        else:
            await _answer(send, 404, f"There is no handle {path}\n".encode())

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = _Held(self)
        answer = _Answer(send, self._timezone)
        started = time.monotonic()
        kind, status = "unread", "200"
        try:
            statement = await self._read(scope, receive, held)
            kind = statement.kind.value
            headers = dict(scope["headers"])
            if statement.compress:
                answer.coder = coding.choose(headers.get(b"accept-encoding", b""))
            await self._run(statement, answer, receive)
        except Disconnected:
            status = "disconnected"
        except EngineError as error:
            status = str(error.status)
            await answer.fail(error)
        finally:
            held.release()
            metrics.ENGINE_QUERIES.labels(kind, status).inc()
            metrics.ENGINE_SECONDS.labels(kind).observe(time.monotonic() - started)

    async def _read(self, scope: Scope, receive: Receive, held: "_Held") -> Statement:
        headers = dict(scope["headers"])
        pieces = await self._body(headers, receive, held)
        encoding = headers.get(b"content-encoding", b"")
        if encoding:
            limit = self._max_body_bytes
            pieces = await asyncio.to_thread(lambda: coding.decode(encoding, pieces, limit=limit))
            held.take(sum(map(len, pieces)))
        return parse(scope["method"], scope["query_string"], headers, pieces, {})

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, held: "_Held") -> list[bytes]:
        """The whole body, or nothing: an insert whose body was cut off never begins."""
        declared = headers.get(b"content-length", b"0")
        if int(declared) > self._max_body_bytes:
            raise self._too_large()
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
                held.take(len(piece))
                pieces.append(piece)
            if not message.get("more_body", False):
                return pieces

    def _too_large(self) -> EngineError:
        return EngineError(
            exceptions.QUERY_IS_TOO_LARGE,
            f"request body is larger than {self._max_body_bytes} bytes",
            "QUERY_IS_TOO_LARGE",
        )

    async def _run(self, statement: Statement, answer: "_Answer", receive: Receive) -> None:
        lane = self._inserts if statement.kind is Kind.INSERT else self._reads
        async with lane.lease() as lease:
            work = asyncio.create_task(_execute(statement, answer, lease))
            gone = asyncio.create_task(_disconnect(receive))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and statement.verb in _READS:
                    await self._cancel(work, lease)
                await work
            except asyncio.CancelledError:
                await self._cancel(work, lease)
                raise
            finally:
                gone.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await gone

    async def _cancel(self, work: "asyncio.Task[None]", lease: Lease) -> None:
        """Stop what runs on `lease` and come back when its thread is free."""
        work.cancel()
        while lease.busy is not None and not lease.busy.done():
            # The statement may not have been registered yet when the first KILL comes.
            await self._killer.call(self._killer.connection.kill, [lease.connection.name])
            await asyncio.wait({lease.busy}, timeout=0.05)
        with contextlib.suppress(asyncio.CancelledError, EngineError):
            await work


class _Held:
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


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _execute(statement: Statement, answer: "_Answer", lease: Lease) -> None:
    connection: Connection = lease.connection
    answer.begin(statement)
    if statement.kind is Kind.STREAM:
        pieces = connection.stream(statement)
        try:
            while (piece := await lease.call(_next, pieces)) is not None:
                await answer.write(piece)
        finally:
            if lease.busy is not None and not lease.busy.done():
                await asyncio.wait({lease.busy})
            await lease.call(pieces.close)  # type: ignore[attr-defined]
        await answer.end(Outcome())
        return
    run = connection.insert if statement.kind is Kind.INSERT else connection.run
    await answer.end(await lease.call(run, statement))


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/html; charset=UTF-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Answer:
    """An answer that keeps its status open until the first piece is known to be good."""

    def __init__(self, send: Send, timezone: str) -> None:
        self._send = send
        self._timezone = timezone
        self._statement: Statement | None = None
        self._started = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tag = ""
        self.coder: coding.Coder | None = None

    def begin(self, statement: Statement) -> None:
        self._statement = statement

    async def write(self, piece: bytes) -> None:
        assert self._statement is not None
        if not self._started and self._statement.wait_end and self._held_bytes + len(piece) <= _HOLD_BYTES:
            self._held.append(piece)
            self._held_bytes += len(piece)
            return
        if not self._started:
            await self._start(200, Outcome())
        for part in (*self._held, piece):
            await self._body(part)
        self._held.clear()

    async def end(self, outcome: Outcome) -> None:
        pieces = [*self._held, outcome.body]
        if not self._started:
            await self._start(200, outcome)
        for piece in pieces:
            if piece:
                await self._body(piece)
        tail = self.coder.flush() if self.coder else b""
        await self._send({"type": "http.response.body", "body": tail, "more_body": False})

    async def fail(self, error: EngineError) -> None:
        """The exception: as the answer when nothing was sent, else behind what was, and the connection breaks."""
        self.coder, coder = (None, self.coder) if not self._started else (self.coder, self.coder)
        message = (error.text + "\n").encode()
        if not self._started:
            await self._start(error.status, Outcome(), code=error.code)
            await self._send({"type": "http.response.body", "body": message, "more_body": False})
            return
        block = b"__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (
            self._tag.encode(), message, len(message), self._tag.encode(),
        )  # fmt: skip
        await self._body(block)
        if coder is not None:
            await self._send({"type": "http.response.body", "body": coder.flush(), "more_body": True})

    async def _body(self, piece: bytes) -> None:
        data = self.coder.compress(piece) if self.coder else piece
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _start(self, status: int, outcome: Outcome, *, code: int | None = None) -> None:
        self._started = True
        self._tag = secrets.token_hex(8)
        summary = {
            "read_rows": outcome.rows_read, "read_bytes": outcome.bytes_read,
            "written_rows": outcome.rows_written, "written_bytes": outcome.bytes_written,
            "total_rows_to_read": "0", "result_rows": outcome.rows_written, "result_bytes": outcome.bytes_written,
            "elapsed_ns": int(outcome.seconds * 1e9),
        }  # fmt: skip
        headers = {
            "content-type": "text/tab-separated-values; charset=UTF-8",
            "x-clickhouse-server-display-name": "logstream",
            "x-clickhouse-timezone": self._timezone,
            "x-clickhouse-summary": json.dumps({k: str(v) for k, v in summary.items()}, separators=(",", ":")),
            "x-clickhouse-exception-tag": self._tag,
        }
        if self._statement is not None:
            headers["x-clickhouse-query-id"] = self._statement.query_id
            if self._statement.kind is not Kind.INSERT and self._statement.verb in _READS:
                headers["x-clickhouse-format"] = self._statement.format
        if code is not None:
            headers["x-clickhouse-exception-code"] = str(code)
            headers["content-type"] = "text/plain; charset=UTF-8"
        elif self.coder is not None:
            headers["content-encoding"] = self.coder.name
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})
