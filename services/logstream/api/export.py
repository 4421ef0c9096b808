"""`GET /api/v1/export`: every line that is asked for, as a file that is sent while it is read."""

import asyncio
import contextlib
import re
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from logstream.api.answer import takes_gzip
from logstream.api.error_body import errors
from logstream.api.parameters import Filter, Reader, Reading
from logstream.api.services import Services, services_of
from logstream.clock import NS_PER_SECOND
from logstream.errors import LogStreamError, ReadCancelled, TooMany
from logstream.logs import get_logger
from logstream.query.export import FORMATS, ExportReader, Format, FormatName, Order
from logstream.query.period import begun, start_of
from logstream.settings import ApiSettings

STALL_SECONDS = 60.0
"""A client that takes nothing for this long is let go."""
_GZIP_LEVEL = 1

_log = get_logger("api")


class Exports:
    """How many exports run; one holds a connection of the store for as long as its client takes.

    limit: altogether. per_key: of one caller.
    """

    def __init__(self, limit: int, per_key: int) -> None:
        self._limit = limit
        self._per_key = per_key
        self._running: Counter[str] = Counter()

    @contextmanager
    def one(self, key: str) -> Iterator[None]:
        """Around an export of the caller `key` (`Read.key`). Raises TooMany."""
        if self._running[key] >= self._per_key:
            raise _too_many("exports of this caller", "exports_per_key", self._per_key)
        if self._running.total() >= self._limit:
            raise _too_many("exports", "exports", self._limit)
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            self._running += Counter()  # forgets callers without any


def _too_many(what: str, field: str, limit: int) -> TooMany:
    return TooMany(f"{limit} {what} are running, which is the limit", retry_after=10, field=field, limit=limit)


class _Export(Response):
    """A file in pieces. An error before the first is answered as every error; behind it the answer breaks off."""

    def __init__(
        self,
        services: Services,
        request: Request,
        reading: Reading,
        exports: Exports,
        *,
        file: Format,
        filename: str,
        gzip: bool,
        read: Callable[[], AsyncGenerator[bytes]],
    ) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"', "X-Accel-Buffering": "no"}
        if file.compressible:
            headers["Vary"] = "Accept-Encoding"
        if gzip:
            headers["Content-Encoding"] = "gzip"
        super().__init__(media_type=file.media_type, headers=headers)
        del self.headers["content-length"]
        self._services = services
        self._request = request
        self._reading = reading
        self._exports = exports
        self._compress = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS) if gzip else None
        self._read = read
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        work = asyncio.create_task(self._run(send))
        leaving = asyncio.create_task(left())
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ReadCancelled("the client left")
            work.result()
        except LogStreamError as error:
            if not self._started:
                raise
            # Without an end: a client that was sent chunks knows that this is not the whole file.
            if not leaving.done():
                _log.warning("export broken off", stream=self._reading.stream.name, reason=error.message)
        finally:
            for task in (work, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _run(self, send: Send) -> None:
        turn = self._services.reads.turn(self._request, self._reading.principal, "export")
        # Counted when its turn has come: while it waits it holds no connection.
        async with turn as read:
            with self._exports.one(read.key):
                await self._pieces(send)

    async def _pieces(self, send: Send) -> None:
        async with aclosing(self._read()) as pieces:
            async for piece in pieces:
                await self._start(send)
                await self._send(send, await self._coded(piece), more=True)
            await self._start(send)
            await self._send(send, self._compress.flush() if self._compress else b"", more=False)

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _coded(self, piece: bytes) -> bytes:
        # In a thread: other requests share the event loop.
        return await asyncio.to_thread(self._compress.compress, piece) if self._compress else piece

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        if not body and more:
            return
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError as error:
            raise ReadCancelled(f"the client took nothing for {STALL_SECONDS:g} s") from error


def _stamp(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).strftime("%Y%m%dT%H%M%SZ")


def create_router(settings: ApiSettings) -> APIRouter:
    """Export of one stream."""
    router = APIRouter(prefix="/api/v1", tags=["search"])
    exports = Exports(settings.max_exports, settings.max_exports_per_key)
    content = {file.media_type.partition(";")[0]: {"schema": {"type": "string"}} for file in FORMATS.values()}

    @router.get(
        "/export",
        summary="Export logs as NDJSON, CSV or Parquet",
        response_class=Response,
        responses={
            200: {"content": content, "description": "A file, sent while it is read."},
            **errors(400, 401, 403, 404, 409, 413, 422, 429, 503),
        },
    )
    async def export(
        request: Request,
        reading: Reader,
        asked: Filter,
        file: Annotated[
            FormatName, Query(alias="format", description="What the file is.", examples=["ndjson"])
        ] = "ndjson",
        order: Annotated[
            Order,
            Query(description="Oldest (asc) or newest (desc) first; any: as stored, the fastest.", examples=["asc"]),
        ] = "any",
    ) -> Response:
        """All lines that match, without a limit. Without `start_time`, the hour before `end_time`, which is now.

        An answer that breaks off without its end (HTTP/1.1: the last chunk is missing) is not whole.
        """
        services = services_of(request)
        now = services.clock.now_ns()
        logs = begun(asked, services.limits, now)
        first, last = start_of(asked, now), now if asked.end is None else asked.end
        name = re.sub(r"[^A-Za-z0-9._-]", "_", reading.stream.name)
        chosen = FORMATS[file]
        return _Export(
            services,
            request,
            reading,
            exports,
            file=chosen,
            filename=f"{name}_{_stamp(first)}_{_stamp(last)}.{file}",
            gzip=chosen.compressible and takes_gzip(request.headers.get("accept-encoding", "")),
            read=lambda: ExportReader(services.store, services.limits).read(
                reading.stream, logs, file=chosen, order=order
            ),
        )

    return router
