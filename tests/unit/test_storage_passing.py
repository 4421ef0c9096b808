"""Answers passed on while they come: all of a whole one, and never an exception's text as data."""

from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from logstream.storage.passing import HELD_BYTES, PIECE_BYTES, whole

CODE = b"Code: 241. DB::Exception: Query memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"
BLOCK = b"__exception__\r\nabcdef0123456789\r\n%s\n%d abcdef0123456789\r\n__exception__\r\n" % (CODE, len(CODE) + 1)


async def chunks(parts: Iterable[bytes], breaks: bool) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if breaks:
        raise aiohttp.ClientPayloadError("not enough data")


async def read(parts: Iterable[bytes], *, breaks: bool = False) -> tuple[bytes, Exception | None]:
    found = b""
    try:
        async for piece in whole(chunks(parts, breaks)):
            found += piece
    except Exception as error:
        return found, error
    return found, None


PARTS = st.lists(st.binary(max_size=9) | st.sampled_from([bytes(PIECE_BYTES), b"x" * HELD_BYTES]), max_size=9)


@given(PARTS)
async def test_a_whole_answer_is_passed_on(parts: list[bytes]):
    assert await read(parts) == (b"".join(parts), None)


@given(PARTS, st.integers(1, 200), st.booleans())
async def test_an_exception_is_no_data_however_it_is_cut(parts: list[bytes], size: int, breaks: bool):
    block = [BLOCK[at : at + size] for at in range(0, len(BLOCK), size)]
    found, error = await read([*parts, *block], breaks=breaks)
    assert b"".join(parts).startswith(found)
    assert isinstance(error, DatabaseError)
    assert error.code == 241
    assert "MEMORY_LIMIT_EXCEEDED" in str(error)
    assert "__exception__" not in str(error)


@pytest.mark.parametrize(("tail", "code"), [(b"", None), (CODE, 241)])
async def test_an_answer_that_breaks_off_is_an_error(tail: bytes, code: int | None):
    found, error = await read([b"{}\n" * 300_000, tail], breaks=True)
    assert found != b"{}\n" * 300_000
    assert (b"{}\n" * 300_000).startswith(found)
    assert isinstance(error, OperationalError if code is None else DatabaseError)
    assert error.code == code


@pytest.mark.parametrize("tail", [b"", b" (version 25.8.1.1 (official build))\n", b"\n"])
async def test_the_text_alone_is_an_exception_at_the_end(tail: bytes):
    found, error = await read([b"{}\n", CODE, tail], breaks=True)
    assert found == b""
    assert isinstance(error, DatabaseError)
    assert (error.code, str(error)) == (241, (CODE + tail).strip().decode())


@pytest.mark.parametrize(
    "line",
    [
        b'{"message":"%s"}\n' % CODE,
        b'"%s"\n' % CODE,
        b'"a\n%s",info\n{"message":' % CODE,
        b'"%s' % CODE,
        b'"a\n%s",' % CODE,
    ],
)
async def test_a_line_that_quotes_one_is_not_why_an_answer_broke_off(line: bytes):
    _, error = await read([b"{}\n", line], breaks=True)
    assert isinstance(error, OperationalError)
    assert str(error).startswith("the answer broke off")


async def test_a_line_that_quotes_an_exception_is_data():
    line = b'{"message":"__exception__\\r\\nabc\\r\\nCode: 1. DB::Exception: no"}\n'
    assert await read([line]) == (line, None)
    csv = b'"' + BLOCK + b'"\n'
    assert await read([csv]) == (csv, None)
