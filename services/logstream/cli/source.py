"""Where lines come from, addressed by byte offset: plain files and compressed ones.

A compressed file is known by its first bytes, not by its name; its offsets are those of the clear text.
"""

import gzip
import hashlib
import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from logstream.cli.failure import Failure

FINGERPRINT_BYTES = 1024
_SKIP = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Tells a file from others, also after it was renamed, copied or written anew in the same place.

    fingerprint: SHA-256 of the first `length` bytes of clear text, at most FINGERPRINT_BYTES.
    """

    device: int
    inode: int
    length: int
    fingerprint: str


class PlainSource:
    """A file read in place, which may grow.

    read_at: up to `size` bytes from `offset`, fewer only at the end. size: bytes there are now.
    progress: (bytes done, bytes in all) of the file as it lies on the disk.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.at = 0

    def stat(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, offset)
        self.at = offset + len(data)
        return data

    def size(self) -> int | None:
        return self.stat().st_size

    def progress(self) -> tuple[int, int]:
        return self.at, self.stat().st_size

    def close(self) -> None:
        self._file.close()


class CompressedSource:
    """A gzip or zstd file, read once from the front: as PlainSource, but `size` is not known (None)."""

    def __init__(self, raw: BinaryIO, clear: BinaryIO, path: Path) -> None:
        self._raw = raw
        self._clear = clear
        self._path = path
        self._at = 0
        self._window = b""

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            # What was read last can be asked for again: a batch ends before the part line at its end.
            while self._at < offset:
                self._forget(offset)
                if self._at < offset and not self._window and not self._fill(_SKIP):
                    return b""
            if self._at > offset:
                raise ValueError("a compressed file cannot be read backwards")
            while len(self._window) < size and self._fill(size - len(self._window)):
                pass
        except _damage() as error:
            raise Failure(f"{self._path} is damaged or not whole: {error}") from error
        return self._window[:size]

    def _forget(self, offset: int) -> None:
        step = min(offset - self._at, len(self._window))
        self._window = self._window[step:]
        self._at += step

    def _fill(self, size: int) -> bool:
        data = self._clear.read(size)
        self._window += data
        return bool(data)

    def stat(self) -> os.stat_result:
        return os.fstat(self._raw.fileno())

    def size(self) -> int | None:
        return None

    def progress(self) -> tuple[int, int]:
        return self._raw.tell(), self.stat().st_size

    def close(self) -> None:
        self._clear.close()
        self._raw.close()


def open_source(path: Path) -> PlainSource | CompressedSource:
    """Open a log file. Raises OSError, and Failure for a zstd file without the library that reads it."""
    file = path.open("rb", buffering=0)
    try:
        magic = os.pread(file.fileno(), 4, 0)
        if magic[:2] == b"\x1f\x8b":
            return CompressedSource(file, cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")), path)
        if magic == b"\x28\xb5\x2f\xfd":
            return CompressedSource(file, _zstd(file), path)
    except BaseException:
        file.close()
        raise
    return PlainSource(file)


def _damage() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    # Of zstd only where such a file was opened: the library need not be there.
    modules = (sys.modules.get(name) for name in ("compression.zstd", "backports.zstd"))
    zstd = (module.ZstdError for module in modules if module is not None)
    return (OSError, EOFError, ValueError, ArithmeticError, zlib.error, *zstd)


def _zstd(file: BinaryIO) -> BinaryIO:
    try:
        from compression.zstd import ZstdFile  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports.zstd import ZstdFile
        except ImportError as error:
            raise Failure(
                "zstd files need the package backports.zstd: pip install 'logstream-platform[all]'"
            ) from error
    return cast(BinaryIO, ZstdFile(file, mode="rb"))


def fingerprint(source: PlainSource | CompressedSource, length: int = FINGERPRINT_BYTES) -> tuple[int, str]:
    """(bytes, SHA-256 in hex) of the first `length` bytes, fewer when the file is shorter."""
    head = source.read_at(0, min(length, FINGERPRINT_BYTES))
    return len(head), hashlib.sha256(head).hexdigest()


def identity(source: PlainSource | CompressedSource) -> Identity:
    """What tells this file from others. `source` must not have been read past its beginning."""
    stat = source.stat()
    return Identity(stat.st_dev, stat.st_ino, *fingerprint(source))
