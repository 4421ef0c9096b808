"""Content encodings over HTTP: what is undone, what is refused, and that bombs stay small."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from backports import zstd
from tests.support.ingest import Ingest, ingest

from logstream.settings import IngestLimits

BODY = b'{"message":"compressed"}\n' * 50


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest(tmp_path, limits=IngestLimits(max_decompressed_bytes=4 << 20)) as running:
        yield running


async def test_encodings_are_undone(world: Ingest) -> None:
    sent: list[tuple[str, bytes]] = [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("zstd", zstd.compress(BODY)),
        ("zstd", zstd.compress(BODY[:100]) + zstd.compress(BODY[100:])),
        ("gzip, zstd", zstd.compress(gzip.compress(BODY))),
        ("identity, gzip", gzip.compress(BODY)),
    ]
    for encoding, body in sent:
        response = await world.post(body, content_encoding=encoding)
        assert (response.status_code, response.json()["accepted"]) == (202, 50), encoding
    assert len(await world.records()) == 50 * len(sent)


@pytest.mark.parametrize("encoding", ["br", "gzip, br", "gzip, gzip, gzip", "x"])
async def test_unknown_encodings_are_415(world: Ingest, encoding: str) -> None:
    response = await world.post(BODY, content_encoding=encoding)
    assert response.status_code == 415
    assert response.json()["error"]["field"] == "Content-Encoding"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
async def test_corrupt_and_truncated_streams_are_400(
    world: Ingest, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    import os

    whole = compress(os.urandom(200_000).hex().encode())
    for body in (b"", whole[:1], whole[:20], whole[:-1], whole[:-7], b"\0" + whole, BODY, whole + b"garbage"):
        response = await world.post(body, content_encoding=encoding)
        assert response.status_code == 400, body[:20]
        assert response.json()["error"]["field"] == "Content-Encoding"
    assert await world.messages() == []


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
async def test_bombs_are_413(world: Ingest, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(b"[" + b" " * (256 << 20) + b"]")
    assert len(bomb) < 300_000
    response = await world.post(bomb, content_encoding=encoding)
    assert response.status_code == 413
    assert response.json()["error"] == {
        "code": "too_large",
        "field": "max_decompressed_bytes",
        "limit": 4 << 20,
        "message": response.json()["error"]["message"],
    }
    twice = await world.post(gzip.compress(bomb), content_encoding=f"{encoding}, gzip")
    assert twice.status_code == 413


async def test_a_zstd_window_beyond_the_standard_is_400(world: Ingest) -> None:
    options = {zstd.CompressionParameter.window_log: 27}
    stream = zstd.ZstdCompressor(options=options)
    body = stream.compress(b" " * (1 << 20)) + stream.flush()
    response = await world.post(body, content_encoding="zstd")
    assert response.status_code == 400
