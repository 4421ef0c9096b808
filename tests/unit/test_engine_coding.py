"""Content codings: whatever was compressed comes back, and nothing grows without bound."""

import gzip
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from logstream.standalone.engine import coding
from logstream.standalone.engine.exceptions import EngineError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress,
    "identity": bytes, "": bytes,
}  # fmt: skip
REAL = [name for name in COMPRESS if name not in ("", "identity")]


@pytest.mark.parametrize("name", COMPRESS)
@given(data=st.binary(max_size=2000), at=st.integers(0, 2000))
def test_any_cut_decodes(name: str, data: bytes, at: int) -> None:
    body = COMPRESS[name](data)
    pieces = [piece for piece in (body[:at], body[at:]) if piece]
    assert b"".join(coding.decode(name.encode(), pieces, limit=10_000)) == data


@pytest.mark.parametrize("name", REAL)
def test_frames_follow_one_another(name: str) -> None:
    body = COMPRESS[name](b"one") + COMPRESS[name](b"two")
    assert b"".join(coding.decode(name.encode(), [body[:5], body[5:]], limit=100)) == b"onetwo"


@pytest.mark.parametrize("name", REAL)
def test_an_unfinished_body_is_refused(name: str) -> None:
    body = COMPRESS[name](b"x" * 1000)
    with pytest.raises(EngineError) as caught:
        coding.decode(name.encode(), [body[:-3]], limit=10_000)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", REAL)
def test_a_bomb_stops_at_the_limit(name: str) -> None:
    with pytest.raises(EngineError) as caught:
        coding.decode(name.encode(), [COMPRESS[name](bytes(50_000_000))], limit=3_000_000)
    assert caught.value.status == 413
    assert "3000000" in caught.value.text


@pytest.mark.parametrize("name", REAL)
def test_garbage_is_refused(name: str) -> None:
    with pytest.raises(EngineError) as caught:
        coding.decode(name.encode(), [b"this is not compressed at all"], limit=1000)
    assert caught.value.status == 400


def test_an_unknown_coding_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="snappy") as caught:
        coding.decode(b"snappy", [b"x"], limit=10)
    assert caught.value.status == 415


@pytest.mark.parametrize("name", REAL)
@given(pieces=st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_sent_compressed_can_be_read(name: str, pieces: list[bytes]) -> None:
    coder = coding.choose(name.encode())
    assert coder is not None
    assert coder.name == name
    body = b"".join([*map(coder.compress, pieces), coder.flush()])
    assert b"".join(coding.decode(name.encode(), [body] if body else [], limit=10_000)) == b"".join(pieces)


def test_the_cheapest_offered_coding_is_chosen() -> None:
    for offer, name in ((b"gzip, br, zstd", "zstd"), (b"deflate;q=0.5,GZIP", "gzip"), (b"lz4,zstd", "lz4")):
        coder = coding.choose(offer)
        assert coder is not None
        assert coder.name == name
    assert coding.choose(b"identity, br") is None
