"""Reading a request body and undoing its content encoding, both within bounds."""

import asyncio
import sys
import zlib
from abc import ABC, abstractmethod
from typing import Protocol

from logstream.collector.budget import Hold
from logstream.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedEncoding
from logstream.settings import IngestLimits
from logstream.web import Receive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Body = bytes | bytearray

MAX_ENCODINGS = 2
"""How often a body may have been encoded ("Content-Encoding: gzip, gzip"): each costs a pass."""

_STEP = 1024 * 1024
"""Bytes of output per step of decompression."""
_INLINE = 64 * 1024
"""A step over no more input and output than this is done at once; larger ones in a thread, which zlib and
zstd leave the interpreter free for."""
_FEED = 64 * 1024
"""Bytes of input given to a decompressor at once."""
_STREAMS_A_STEP = 256
"""How many pieces or streams without output one step goes through."""
_WINDOW_LOG_MAX = 23
"""RFC 9659: a zstd frame on HTTP needs a window of 8 MiB at most. Bounds the decoder's memory."""


class ClientGone(Exception):
    """The connection closed before the body was whole: there is nobody to answer."""


async def read(receive: Receive, declared: int | None, hold: Hold, limits: IngestLimits) -> Body:
    """The body as sent.

    declared: the value of Content-Length. Raises TooLarge, RequestTimeout, Unavailable (budget), ClientGone.
    """
    if declared is not None and declared > limits.max_body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_timeout_seconds):
            return await _read(receive, hold, limits)
    except TimeoutError:
        raise RequestTimeout(
            f"the body was not whole within {limits.body_timeout_seconds:g} seconds",
            field="body_timeout_seconds",
            limit=limits.body_timeout_seconds,
        ) from None


async def _read(receive: Receive, hold: Hold, limits: IngestLimits) -> Body:
    whole: bytearray | None = None
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        hold.grow(len(chunk))
        if hold.size > limits.max_body_bytes:
            raise _too_large(limits)
        more = message.get("more_body", False)
        if whole is None:
            if not more:
                return chunk
            whole = bytearray(chunk)
        else:
            whole += chunk
        if not more:
            return whole


def _too_large(limits: IngestLimits) -> TooLarge:
    return TooLarge(
        f"the body has more than {limits.max_body_bytes} bytes (max_body_bytes): send several requests",
        field="max_body_bytes",
        limit=limits.max_body_bytes,
    )


class _Stream(Protocol):
    """What zlib's and zstd's decompressors have in common here."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Decompressor(ABC):
    """One compressed stream after another, in steps of bounded work. Input is fed in pieces: what a decompressor
    does not use it copies, and a body of many tiny streams would be copied once for each of them."""

    def __init__(self, body: Body) -> None:
        self._rest = memoryview(body)
        self._fed: bytes = b""
        self._begun = False

    def step(self, limit: int) -> bytes:
        """The next output, no more than `limit` bytes; may be empty before the end."""
        for _ in range(_STREAMS_A_STEP):
            if not self._fed and len(self._rest):
                self._fed, self._rest = bytes(self._rest[:_FEED]), self._rest[_FEED:]
            out = self._decompress(limit)
            if out or self.finished:
                return out
        return b""

    @abstractmethod
    def _decompress(self, limit: int) -> bytes: ...

    @property
    def finished(self) -> bool:
        """Whether all of the body was read, and it ended with a whole stream."""
        return self._stream.eof and not self._fed and not len(self._rest)

    _stream: _Stream


class _Zlib(_Decompressor):
    """gzip (several members, RFC 1952) and deflate (with or without the zlib header, as clients differ)."""

    def __init__(self, body: Body, *, gzip: bool) -> None:
        super().__init__(body)
        self._gzip = gzip
        self._wbits = zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS if _has_zlib_header(body) else -zlib.MAX_WBITS
        self._stream = self._zlib = zlib.decompressobj(self._wbits)

    def _decompress(self, limit: int) -> bytes:
        if self._zlib.eof:
            self._stream = self._zlib = zlib.decompressobj(self._wbits)
        out = self._zlib.decompress(self._fed, limit)
        if self._zlib.eof:
            self._fed = self._zlib.unused_data
            if not self._gzip and (self._fed or len(self._rest)):
                raise zlib.error("bytes behind the end of the stream")
        else:
            self._fed = self._zlib.unconsumed_tail
            if not out and not self._fed and not len(self._rest):
                raise zlib.error("the stream is truncated")
        return out


def _has_zlib_header(data: Body) -> bool:
    # RFC 1950: compression method 8, and the first two bytes are a multiple of 31.
    return len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0


class _Zstd(_Decompressor):
    """zstd, several frames one after another (RFC 8878)."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._stream = self._zstd = self._new()

    @staticmethod
    def _new() -> "zstd.ZstdDecompressor":
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})

    def _decompress(self, limit: int) -> bytes:
        if self._zstd.eof:
            self._stream = self._zstd = self._new()
        # It keeps what it has not used, and says so: then it is given nothing.
        feed = self._fed if self._zstd.needs_input else b""
        out = self._zstd.decompress(feed, limit)
        if feed:
            self._fed = b""
        if self._zstd.eof:
            self._fed = self._zstd.unused_data + self._fed
        elif self._zstd.needs_input and not out and not self._fed and not len(self._rest):
            raise zstd.ZstdError("the stream is truncated")
        return out


def encodings(header: bytes) -> list[str]:
    """The encodings of a Content-Encoding header in the order in which they were applied, without identity.

    Raises UnsupportedEncoding.
    """
    names = [name for part in header.decode("latin-1").split(",") if (name := part.strip().lower())]
    names = [name for name in names if name != "identity"]
    for name in names:
        if name not in ("gzip", "x-gzip", "deflate", "zstd"):
            raise UnsupportedEncoding(
                f"Content-Encoding {name[:32]!a} is not known; use gzip, zstd, deflate or none",
                field="Content-Encoding",
            )
    if len(names) > MAX_ENCODINGS:
        raise UnsupportedEncoding(
            f"the body was encoded {len(names)} times, more than {MAX_ENCODINGS}",
            field="Content-Encoding",
            limit=MAX_ENCODINGS,
        )
    return names


async def decompress(body: Body, header: bytes, hold: Hold, limits: IngestLimits) -> Body:
    """The body without its content encodings.

    header: Content-Encoding. Raises UnsupportedEncoding, BadRequest (corrupt or truncated), TooLarge,
    Unavailable (budget).
    """
    for name in reversed(encodings(header)):
        encoded = len(body)
        body = await _decompress(body, name, hold, limits)
        hold.shrink(encoded)
    return body


async def _decompress(body: Body, name: str, hold: Hold, limits: IngestLimits) -> Body:
    out: bytearray | None = None
    try:
        stream = _Zstd(body) if name == "zstd" else _Zlib(body, gzip=name != "deflate")
        inline = len(body) <= _INLINE
        while True:
            if inline:
                piece = stream.step(_INLINE)
                inline = False  # what has a second step may have many
            else:
                piece = await asyncio.to_thread(stream.step, _STEP)
            hold.grow(len(piece))
            size = len(piece) + (len(out) if out is not None else 0)
            if size > limits.max_decompressed_bytes:
                raise TooLarge(
                    f"the decompressed body has more than {limits.max_decompressed_bytes} bytes "
                    "(max_decompressed_bytes): send several requests",
                    field="max_decompressed_bytes",
                    limit=limits.max_decompressed_bytes,
                )
            if out is None and stream.finished:
                return piece
            if out is None:
                out = bytearray(piece)
            else:
                out += piece
            if stream.finished:
                return out
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise BadRequest(f"the body is not valid {name}: {error}", field="Content-Encoding") from None
