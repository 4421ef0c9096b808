"""HTTP content codings of bodies and answers, bounded."""

import importlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.exceptions import EngineError

_PIECE = 1024 * 1024


class Coder(Protocol):
    """Compresses a stream piece by piece."""

    name: str

    def compress(self, data: bytes | memoryview) -> bytes: ...

    def flush(self) -> bytes: ...


def _zstd() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


class _Zlib:
    def __init__(self, name: str) -> None:
        self.name = name
        # Level 1: the answer mostly travels over loopback.
        self._compressor = zlib.compressobj(1, wbits=31 if name == "gzip" else 15)

    def compress(self, data: bytes | memoryview) -> bytes:
        return self._compressor.compress(data)

    def flush(self) -> bytes:
        return self._compressor.flush()


class _Zstd:
    name = "zstd"

    def __init__(self) -> None:
        self._compressor = _zstd().ZstdCompressor(level=1)

    def compress(self, data: bytes | memoryview) -> bytes:
        return bytes(self._compressor.compress(data))

    def flush(self) -> bytes:
        return bytes(self._compressor.flush())


class _Lz4:
    name = "lz4"

    def __init__(self) -> None:
        self._compressor = importlib.import_module("lz4.frame").LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes | memoryview) -> bytes:
        begin = b"" if self._begun else bytes(self._compressor.begin())
        self._begun = True
        return begin + bytes(self._compressor.compress(data))

    def flush(self) -> bytes:
        begin = b"" if self._begun else bytes(self._compressor.begin())
        return begin + bytes(self._compressor.flush())


def choose(accept_encoding: bytes) -> Coder | None:
    """The cheapest coding the client takes of lz4, zstd, gzip and deflate; None for an answer as it is."""
    offered = {part.split(b";")[0].strip().lower() for part in accept_encoding.split(b",")}
    for name, make in ((b"lz4", _Lz4), (b"zstd", _Zstd)):
        if name in offered:
            try:
                return make()
            except ImportError:
                continue
    for text in ("gzip", "deflate"):
        if text.encode() in offered:
            return _Zlib(text)
    return None


def decode(encoding: bytes, pieces: Sequence[bytes], *, limit: int) -> list[bytes]:
    """The body without its coding, in pieces.

    Raises EngineError: 415 for an unknown coding, 413 past `limit` bytes, 400 for a damaged or unfinished body.
    """
    name = encoding.decode("ascii", "replace").strip().lower()
    if name in ("", "identity"):
        return list(pieces)
    out: list[bytes] = []
    size = 0
    try:
        for piece in _decoded(name, pieces):
            size += len(piece)
            if size > limit:
                raise EngineError(
                    exceptions.QUERY_IS_TOO_LARGE,
                    f"request body is larger than {limit} bytes when decompressed",
                    "QUERY_IS_TOO_LARGE",
                )
            out.append(piece)
    except EngineError:
        raise
    except ImportError:
        raise _unknown(name) from None
    except Exception as error:
        raise EngineError(
            exceptions.INCORRECT_DATA, f"request body cannot be decompressed as {name}: {error}", "INCORRECT_DATA"
        ) from None
    return out


def _unknown(name: str) -> EngineError:
    return EngineError(
        exceptions.UNSUPPORTED_MEDIA_TYPE, f"Unknown Content-Encoding: {name!r}", "UNSUPPORTED_MEDIA_TYPE"
    )


def _decoded(name: str, pieces: Sequence[bytes]) -> Iterable[bytes]:
    if name in ("gzip", "deflate"):
        return _members(lambda: zlib.decompressobj(wbits=47), pieces)
    if name == "lz4":
        return _members(importlib.import_module("lz4.frame").LZ4FrameDecompressor, pieces)
    if name == "zstd":
        return _members(_zstd().ZstdDecompressor, pieces)
    if name == "br":
        return _brotli(importlib.import_module("brotli").Decompressor(), pieces)
    raise _unknown(name)


def _members(make: Any, pieces: Sequence[bytes]) -> Iterable[bytes]:
    """Frames one after another (clickhouse-connect sends one a block); output at most 1 MiB a piece."""
    decoder = make()
    begun = False
    for piece in pieces:
        data: bytes = piece
        while data or (begun and not _wants_input(decoder)):
            if decoder.eof:
                decoder, begun = make(), False
            begun = True
            output = decoder.decompress(data, _PIECE)
            if output:
                yield output
            if decoder.eof:
                data = decoder.unused_data
                begun = False
            else:
                data = getattr(decoder, "unconsumed_tail", b"")
                if not data and _wants_input(decoder):
                    break
    if begun and not decoder.eof:
        raise ValueError("it ends too early")


def _wants_input(decoder: Any) -> bool:
    return bool(getattr(decoder, "needs_input", True))


def _brotli(decoder: Any, pieces: Sequence[bytes]) -> Iterable[bytes]:
    """Needs brotli 1.2, the first whose output can be limited."""
    for piece in pieces:
        output = decoder.process(piece, output_buffer_limit=_PIECE)
        while output:
            yield output
            output = b"" if decoder.is_finished() else decoder.process(b"", output_buffer_limit=_PIECE)
    if not decoder.is_finished():
        raise ValueError("it ends too early")
