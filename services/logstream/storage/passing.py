"""An answer of ClickHouse passed on while it comes, and never taken for whole when it is not.

An exception behind the first bytes is written into the answer, which then breaks off without its end: a block
`__exception__`, tag, text, length and tag, `__exception__` (older releases: the text alone; ClickHouse
`src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp`). So the last bytes are held back until it is known what they
are.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

HELD_BYTES = 64 * 1024
"""ClickHouse cuts the text of an exception at 16 KiB."""
PIECE_BYTES = 256 * 1024
_BLOCK = re.compile(rb"__exception__\r\n(\w+)\r\n(.*)\n\d+ \1\r\n__exception__\r\n\Z", re.DOTALL)
# The last line, or lines, to the end: log lines may well quote an exception.
_TEXT = re.compile(rb"(?:\A|\n)(Code: \d+\. DB::(?:(?!\nCode: ).)*\([A-Z_]+\)(?: \(version [^\n]*\))?\s*)\Z", re.DOTALL)
_CODE = re.compile(rb"Code: (\d+)\. ")


async def whole(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """`chunks` in pieces of about PIECE_BYTES; ends only when they were all.

    Raises DatabaseError for an exception of the engine, OperationalError for an answer that broke off otherwise.
    """
    held = bytearray()
    try:
        async for chunk in chunks:
            held += chunk
            if len(held) >= HELD_BYTES + PIECE_BYTES:
                yield bytes(memoryview(held)[:-HELD_BYTES])
                held = held[-HELD_BYTES:]
    except (aiohttp.ClientError, OSError) as error:
        found = _BLOCK.search(held) or _TEXT.search(held)
        if found is None:
            raise OperationalError(f"the answer broke off: {error}") from error
        raise _exception(found) from error
    if (found := _BLOCK.search(held)) is not None:
        raise _exception(found)
    if held:
        yield bytes(held)


def _exception(found: re.Match[bytes]) -> DatabaseError:
    text = found[2 if found.re is _BLOCK else 1].strip()
    code = _CODE.match(text)
    return DatabaseError(text.decode(errors="replace"), code=int(code[1]) if code else None)
