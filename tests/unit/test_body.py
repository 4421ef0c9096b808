"""Reading bodies and undoing encodings, without a network."""

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from logstream.collector.body import ClientGone, decompress, encodings, read
from logstream.collector.budget import Budget, Hold
from logstream.errors import BadRequest, RequestTimeout, TooLarge, Unavailable, UnsupportedEncoding
from logstream.settings import IngestLimits
from logstream.web import Receive

LIMITS = IngestLimits(max_body_bytes=2000, max_decompressed_bytes=300_000, body_timeout_seconds=0.05)


def hold(limit: int = 10**9) -> Hold:
    return Hold(Budget(limit))


def sender(*chunks: bytes, end: bool = True) -> Receive:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1 or not end}
        for i, chunk in enumerate(chunks)
    ]

    async def receive() -> MutableMapping[str, Any]:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    return receive


async def test_chunks_are_joined() -> None:
    held = hold()
    assert bytes(await read(sender(b"ab", b"", b"cd"), None, held, LIMITS)) == b"abcd"
    assert held.size == 4


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLarge, match="max_body_bytes"):
        await read(sender(), 2001, hold(), LIMITS)


async def test_a_body_that_grows_over_the_limit() -> None:
    with pytest.raises(TooLarge):
        await read(sender(b"x" * 1500, b"x" * 501), None, hold(), LIMITS)


async def test_a_body_that_stops_coming() -> None:
    with pytest.raises(RequestTimeout, match=r"0\.05 seconds"):
        await read(sender(b"x", end=False), None, hold(), LIMITS)


async def test_a_client_that_goes() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read(receive, None, hold(), LIMITS)


async def test_the_budget_bounds_what_is_held_and_is_given_back() -> None:
    budget = Budget(1000)
    first, second = Hold(budget), Hold(budget)
    await read(sender(b"x" * 600), None, first, LIMITS)
    with pytest.raises(Unavailable) as error:
        await read(sender(b"x" * 600), None, second, LIMITS)
    assert (error.value.field, error.value.limit) == ("max_pending_bytes", 1000)
    first.release()
    second.release()
    assert budget.used == 0
    await read(sender(b"x" * 600), None, second, LIMITS)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


COMPRESSORS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"zstd", zstd.compress),
]


@pytest.mark.parametrize(("name", "compress"), COMPRESSORS)
@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 299_999, 300_000])
async def test_round_trip(name: bytes, compress: Callable[[bytes], bytes], size: int) -> None:
    for data in (b"a" * size, random.Random(size).randbytes(size)):
        assert bytes(await decompress(compress(data), name, hold(), LIMITS)) == data


@pytest.mark.parametrize(("name", "compress"), COMPRESSORS)
async def test_one_byte_too_many_and_bombs(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    for size in (300_001, 50_000_000):
        held = hold()
        with pytest.raises(TooLarge, match="max_decompressed_bytes"):
            await decompress(compress(b"a" * size), name, held, LIMITS)
        assert held.size <= 300_000 + 1024 * 1024


@pytest.mark.parametrize(("name", "compress"), COMPRESSORS)
async def test_a_stream_cut_at_any_byte(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(random.Random(1).randbytes(300))
    for end in range(len(whole)):
        with pytest.raises(BadRequest):
            await decompress(whole[:end], name, hold(), LIMITS)


@given(st.sampled_from([b"gzip", b"deflate", b"zstd"]), st.binary(max_size=100), st.integers(0, 60))
@settings(max_examples=200)
def test_any_bytes(name: bytes, data: bytes, at: int) -> None:
    whole = dict(COMPRESSORS)[name](b"some text, some text")
    for body in (data, whole[:at] + data + whole[at + 1 :]):
        try:
            asyncio.run(decompress(body, name, hold(), LIMITS))
        except (BadRequest, TooLarge):
            continue


def test_names_of_encodings() -> None:
    assert encodings(b"identity") == encodings(b"") == []
    assert encodings(b" GZIP ,identity, zstd") == ["gzip", "zstd"]
    for header in (b"br", b"gzip, compress", b"gzip,gzip,gzip", b"\xff"):
        with pytest.raises(UnsupportedEncoding):
            encodings(header)


async def test_encodings_are_undone_in_reverse() -> None:
    body = zstd.compress(gzip.compress(b"text"))
    assert bytes(await decompress(body, b"gzip, zstd", hold(), LIMITS)) == b"text"
    with pytest.raises(BadRequest):
        await decompress(body, b"zstd, gzip", hold(), LIMITS)
