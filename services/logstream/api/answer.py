"""Answers of reads as JSON, compressed where they are large and the client can read it."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from starlette.responses import Response

from logstream.api.services import services_of
from logstream.auth.principal import Principal

COMPRESS_FROM_BYTES = 8 * 1024
_LEVEL = 1  # log lines shrink to about a tenth with it, at a third of the CPU of the usual 6

_T = TypeVar("_T")


async def json_answer(
    request: Request, principal: Principal, kind: str, read: Callable[[], Awaitable[_T]], body: Callable[[_T], bytes]
) -> Response:
    """What `read` finds, as `body` writes it: JSON, with gzip or without.

    It is written as a part of the read, whose turn bounds how many are, and in a thread: up to 64 MiB take seconds, and
    other requests share the event loop. Raises as `Reads.run`.
    """
    gzip = takes_gzip(request.headers.get("accept-encoding", ""))

    async def work() -> tuple[bytes, bool]:
        return await asyncio.to_thread(_written, body, await read(), gzip)

    content, compressed = await services_of(request).reads.run(request, principal, kind, work)
    headers = {"Vary": "Accept-Encoding"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type="application/json", headers=headers)


def _written(body: Callable[[_T], bytes], found: _T, gzip: bool) -> tuple[bytes, bool]:
    content = body(found)
    if gzip and len(content) >= COMPRESS_FROM_BYTES:
        return zlib.compress(content, _LEVEL, 16 + zlib.MAX_WBITS), True
    return content, False


def takes_gzip(accepted: str) -> bool:
    """Whether the `Accept-Encoding` of a client names gzip, or everything."""
    for part in accepted.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in {"gzip", "x-gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
