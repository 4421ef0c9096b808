"""Where an export goes: a file that has its name only when it is whole, or standard output."""

import codecs
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import typer

from logstream.cli import output
from logstream.cli.failure import Failure


class Sink(Protocol):
    def write(self, piece: bytes) -> None:
        """Raises Failure."""


class StdoutSink:
    """Bytes as they are; in a terminal as text that cannot steer it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if output.in_terminal() else None

    def write(self, piece: bytes) -> None:
        """Ends the command quietly when its reader has gone."""
        if self._decoder is not None:
            text = self._decoder.decode(piece)
            piece = "\n".join(output.clean(line) for line in text.split("\n")).encode()
        try:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            output.hush()
            raise typer.Exit(0) from None
        except OSError as error:
            raise Failure(f"cannot write to standard output: {error.strerror or error}") from error


class _File:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.file = os.fdopen(descriptor, "wb")

    def write(self, piece: bytes) -> None:
        try:
            self.file.write(piece)
        except OSError as error:
            raise Failure(f"cannot write {self._path}: {error.strerror or error}; no file was kept") from error


@contextlib.contextmanager
def part_file(path: Path, *, replace: bool) -> Iterator[Sink]:
    """`path`.part, which becomes `path`, durably, when the block is left in order, and is deleted otherwise.

    replace: `path` may exist. Raises Failure.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise Failure(f"{path} is not a file; to write elsewhere, redirect: logstream export - > …", status=2)
    if path.exists() and not replace:
        raise Failure(f"{path} exists; replace it with --force", status=2)
    part = path.with_name(path.name + ".part")
    sink = _File(part, _locked(part))
    try:
        # Another export may have made it since.
        if path.exists() and not replace:
            raise Failure(f"{path} exists; replace it with --force", status=2)
        # What an export that was killed has left.
        sink.file.truncate(0)
        yield sink
        _finish(sink, part, path)
    except BaseException:
        if not sink.file.closed and _is_at(sink.file.fileno(), part):
            part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            sink.file.close()
        raise


def _locked(part: Path) -> int:
    """The file at `part`, open and held alone."""
    while True:
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError as error:
            raise Failure(f"there is no folder {part.parent}; make it first") from error
        except OSError as error:
            raise Failure(f"cannot write {part}: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, its export may have finished it and given it its name.
            if _is_at(descriptor, part):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise Failure(f"another export is writing {part}") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _finish(sink: _File, part: Path, path: Path) -> None:
    try:
        sink.file.flush()
        os.fsync(sink.file.fileno())
        part.replace(path)
        sink.file.close()
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}; no file was kept") from error
