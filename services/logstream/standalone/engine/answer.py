"""One answer as ClickHouse writes it: headers, pieces of the result, and an exception in either place."""

import asyncio
import json
import secrets

from logstream.standalone.engine.coding import Coder
from logstream.standalone.engine.connection import Outcome
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.request import Statement
from logstream.web import Send

_HOLD_BYTES = 1024 * 1024
"""With wait_end_of_query this much is held back, so that an error may still set the status."""
_SLICE_BYTES = 512 * 1024
_LINGER_SECONDS = 0.25
"""Between an exception behind a result and the end of its connection: aiohttp forgets what it holds unread when a
connection breaks, and the exception with it."""
_CONTENT_TYPES = {"json": "application/json; charset=UTF-8", "csv": "text/csv; charset=UTF-8"}
_BINARY = frozenset({"native", "rowbinary", "parquet", "arrow", "arrowstream", "msgpack"})


async def send_text(send: Send, status: int, body: bytes) -> None:
    """A short answer that is no statement's."""
    headers = [(b"content-type", b"text/plain; charset=UTF-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Answer:
    """The status stays open until the first piece is known to be good.

    coder: compresses the result, None to send it as it is; to be set before anything is written.
    """

    def __init__(self, send: Send, timezone: str) -> None:
        self._send = send
        self._timezone = timezone
        self._statement: Statement | None = None
        self._started = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tag = secrets.token_hex(8)
        self.coder: Coder | None = None

    def begin(self, statement: Statement) -> None:
        """Say what is being answered."""
        self._statement = statement

    async def write(self, piece: memoryview) -> None:
        """A piece of the result, not used after the return. Waits while the client does not take it."""
        waits = self._statement is not None and self._statement.wait_end
        if waits and not self._started and self._held_bytes + len(piece) <= _HOLD_BYTES:
            self._held.append(bytes(piece))
            self._held_bytes += len(piece)
            return
        await self._release(Outcome())
        await self._write(piece)

    async def end(self, outcome: Outcome | None = None) -> None:
        """The rest of the result, and the end."""
        outcome = outcome or Outcome()
        if outcome.body:
            self._held.append(outcome.body)
        await self._release(outcome)
        tail = self.coder.flush() if self.coder is not None else b""
        await self._send({"type": "http.response.body", "body": tail, "more_body": False})

    async def fail(self, error: EngineError) -> None:
        """The exception: as the answer when nothing was sent yet.

        Else behind what was sent, and the answer breaks off without an end, so that no client takes the
        result for whole (ClickHouse `src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp`).
        """
        message = (error.text + "\n").encode()
        if not self._started:
            self.coder = None
            await self._start(error.status, Outcome(), code=error.code)
            await self._send({"type": "http.response.body", "body": message, "more_body": False})
            return
        tag = self._tag.encode()
        block = b"__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (tag, message, len(message), tag)
        await self._write(block)
        if self.coder is not None:
            await self._send({"type": "http.response.body", "body": self.coder.flush(), "more_body": True})
        await asyncio.sleep(_LINGER_SECONDS)

    async def _release(self, outcome: Outcome) -> None:
        if not self._started:
            await self._start(200, outcome)
        for piece in self._held:
            await self._write(piece)
        self._held.clear()

    async def _write(self, piece: bytes | memoryview) -> None:
        # In slices: the server copies what it is given, and a piece may be large.
        for at in range(0, len(piece), _SLICE_BYTES):
            part = piece[at : at + _SLICE_BYTES]
            if self.coder is not None:
                part = self.coder.compress(part)
            if part:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _start(self, status: int, outcome: Outcome, *, code: int | None = None) -> None:
        self._started = True
        headers = {
            "content-type": "text/plain; charset=UTF-8",
            "x-clickhouse-server-display-name": "logstream",
            "x-clickhouse-timezone": self._timezone,
            "x-clickhouse-summary": _summary(outcome),
            "x-clickhouse-exception-tag": self._tag,
        }
        if self._statement is not None:
            headers["x-clickhouse-query-id"] = self._statement.query_id
        if code is not None:
            headers["x-clickhouse-exception-code"] = str(code)
            if status == 401:
                headers["www-authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        else:
            headers.update(self._result_headers())
        # A header must stay one line whatever a client chose as its query id.
        encoded = [(n.encode(), "".join(v.splitlines()).encode("latin-1", "replace")) for n, v in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    def _result_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.coder is not None:
            headers["content-encoding"] = self.coder.name
        if self._statement is not None and self._statement.returns_rows:
            name = self._statement.format.lower()
            headers["x-clickhouse-format"] = self._statement.format
            headers["content-type"] = (
                "application/octet-stream" if name in _BINARY
                else _CONTENT_TYPES.get(name, "text/tab-separated-values; charset=UTF-8")
            )  # fmt: skip
        return headers


def _summary(outcome: Outcome) -> str:
    """X-ClickHouse-Summary; a streamed result's is sent before it is known, as zeros."""
    numbers = {
        "read_rows": outcome.rows_read, "read_bytes": outcome.bytes_read,
        "written_rows": outcome.rows_written, "written_bytes": outcome.bytes_written,
        "total_rows_to_read": 0, "result_rows": outcome.rows_written, "result_bytes": outcome.bytes_written,
        "elapsed_ns": int(outcome.seconds * 1e9),
    }  # fmt: skip
    return json.dumps({name: str(number) for name, number in numbers.items()}, separators=(",", ":"))
