"""One log file read in batches of whole lines, through every kind of rotation.

- renamed (logrotate `create`): the old file is read to its end, then the new one from its start.
- copied and truncated (`copytruncate`): what the copy has and was not read yet is read from the copy.
- removed and made again, truncated in place: the new content is read from its start.
- all of these while nobody was following, several times too: the same, from the position that was kept.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from logstream.cli.failure import Failure
from logstream.cli.position import Position, begin
from logstream.cli.source import (
    FINGERPRINT_BYTES,
    CompressedSource,
    PlainSource,
    fingerprint,
    identity,
    open_source,
)

BATCH_BYTES = 1024 * 1024
BATCH_LINES = 10_000
MAX_LINE_BYTES = 8 * 1024 * 1024
"""A longer line is cut into pieces of this size: memory is bounded, nothing is dropped."""
ROTATION_GRACE = 1.0
"""Seconds without growth after which a renamed file counts as finished: its writer may not yet have moved."""
_ROTATED_NAME = re.compile(r"[.-][0-9][0-9TZ_.:-]*(\.log)?(\.gz|\.zst)?")
"""What rotation adds to a name: .1, .2.gz, -20260131. Only such files are taken for what came in between."""
_SURE_BYTES = 32
"""Fewer fingerprint bytes than this do not prove that two files are the same."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines, and the position whose plan is exactly this range."""

    data: bytes
    position: Position

    def lines(self) -> list[bytes]:
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines


class LogFile:
    """A file being sent. Call `next` for the lines that are there, then `done` once they are acknowledged.

    follow: False ends with the file as it is. say: is told of what a person should know.
    """

    def __init__(
        self,
        path: Path,
        position: Position | None,
        *,
        follow: bool,
        from_end: bool = False,
        say: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.position = position
        self._follow = follow
        self._from_end = from_end
        self._say = say
        self._monotonic = monotonic
        self._source: PlainSource | CompressedSource | None = None
        self._leaving = False
        """The open file is no longer the one at `path`: finish it, then go back to `path`."""
        self._quiet_since: float | None = None
        self.finished = False

    def next(self) -> Chunk | None:
        """Lines to send now; None when there are none at the moment (`finished`: and never will be)."""
        if self._source is None and not self._open():
            return None
        if (chunk := self._read()) is not None:
            self._quiet_since = None
            return chunk
        return self._at_end()

    def done(self, chunk: Chunk) -> Position:
        """The chunk was acknowledged; the position to keep."""
        self.position = chunk.position.done()
        return self.position

    def progress(self) -> tuple[int, int]:
        return self._source.progress() if self._source is not None else (0, 0)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _open(self) -> bool:
        """Open what the position belongs to; False when it is not there (yet)."""
        if self.position is None:
            return self._open_new(from_end=self._from_end)
        if (source := self._open_same(self.path, self.position)) is not None:
            self._source, self._leaving = source, False
            return True
        return self._recover() or self._open_new()

    def _open_new(self, *, from_end: bool = False) -> bool:
        try:
            self._source = open_source(self.path)
        except FileNotFoundError:
            if not self._follow:
                raise Failure(f"there is no file {self.path}") from None
            return False
        except OSError as error:
            raise Failure(f"cannot read {self.path}: {error.strerror or error}") from error
        self.position = begin(identity(self._source))
        self._leaving = False
        size = self._source.size()
        if from_end and size:
            self.position = replace(self.position, offset=size)
        self._from_end = False
        return True

    def _open_same(
        self, path: Path, position: Position, *, copy: bool = False
    ) -> PlainSource | CompressedSource | None:
        """`path` opened, when it is the file of `position` (or, with `copy`, has its content)."""
        try:
            source = open_source(path)
        except OSError:
            return None
        found = identity(source)
        known = position.identity
        same_place = (found.device, found.inode) == (known.device, known.inode)
        same_start = fingerprint(source, known.length) == (known.length, known.fingerprint)
        size = source.size()
        enough = size is None or size >= max(position.offset, position.planned or 0)
        if same_start and enough and (same_place or (copy and known.length >= _SURE_BYTES)):
            return source
        source.close()
        return None

    def _recover(self) -> bool:
        """Look for the rest of the file of `position` under another name: renamed, copied or compressed."""
        position = self.position
        if position is None:
            return False
        known = position.identity
        siblings = self._siblings()
        renamed = [p for p in siblings if _place(p) == (known.device, known.inode)]
        others = sorted((p for p in siblings if p not in renamed), key=_modified, reverse=True)
        for candidate, copy in [*((p, False) for p in renamed), *((p, True) for p in others)]:
            if (source := self._open_same(candidate, position, copy=copy)) is not None:
                self.close()
                self._source, self._leaving = source, True
                return True
        self._say(
            f"{self.path} was replaced; if the earlier one went on after byte {position.offset}, that part is gone"
        )
        return False

    def _siblings(self) -> list[Path]:
        return [p for p in self.path.parent.glob(f"{_literal(self.path.name)}?*") if p.is_file()]

    def _move_on(self) -> None:
        """From a finished file to the oldest one that was rotated away after it, else to the one at `path`."""
        assert self._source is not None
        finished = self._source.stat()
        self.close()
        self.position, self._leaving, self._quiet_since = None, False, None
        current = _place(self.path)
        between = [
            p
            for p in self._siblings()
            if _ROTATED_NAME.fullmatch(p.name.removeprefix(self.path.name))
            and _modified(p) > finished.st_mtime_ns
            and _place(p) not in {current, (finished.st_dev, finished.st_ino)}
        ]
        for candidate in sorted(between, key=_modified):
            try:
                source = open_source(candidate)
            except OSError:
                continue
            self.position, self._source, self._leaving = begin(identity(source)), source, True
            return

    def _read(self) -> Chunk | None:
        source, position = self._source, self.position
        assert source is not None
        assert position is not None
        if position.planned is not None:
            # The range that was under way when the last run broke off: exactly that one again.
            data = source.read_at(position.offset, position.planned - position.offset)
            return Chunk(data, position)
        if self._rewritten(source, position):
            self.close()
            if not self._recover():
                if not self._follow:
                    # It may be the earlier content cut short: sending that again would double it.
                    raise Failure(f"{self.path} was changed while it was read; what it holds now is not sent")
                self._open_new()
            return self._read() if self._source is not None else None
        data = source.read_at(position.offset, BATCH_BYTES)
        end = _cut(data)
        if not end and len(data) == BATCH_BYTES:
            data = source.read_at(position.offset, MAX_LINE_BYTES)
            end = data.find(b"\n") + 1 or (MAX_LINE_BYTES if len(data) == MAX_LINE_BYTES else 0)
        if not end:
            return None
        self._learn(source)
        assert self.position is not None
        return Chunk(data[:end], self.position.plan(position.offset + end))

    def _rewritten(self, source: PlainSource | CompressedSource, position: Position) -> bool:
        """Whether an open file was truncated or written anew since it was last read."""
        if not isinstance(source, PlainSource):
            return False
        known = position.identity
        if (source.size() or 0) < position.offset:
            return True
        return fingerprint(source, known.length) != (known.length, known.fingerprint)

    def _learn(self, source: PlainSource | CompressedSource) -> None:
        """Lengthen the fingerprint while the file is still shorter than it could be."""
        if self.position is not None and isinstance(source, PlainSource):
            known = self.position.identity
            if known.length < FINGERPRINT_BYTES:
                length, digest = fingerprint(source)
                self.position = replace(self.position, identity=replace(known, length=length, fingerprint=digest))

    def _at_end(self) -> Chunk | None:
        """All whole lines are read: wait, or leave for the next file, or finish."""
        if self._follow and not self._leaving:
            if not self._replaced():
                return None
            self._leaving = True
        if self._follow and isinstance(self._source, PlainSource):
            now = self._monotonic()
            self._quiet_since = self._quiet_since if self._quiet_since is not None else now
            if now - self._quiet_since < ROTATION_GRACE:
                return None
        if (rest := self._rest()) is not None:
            return rest
        if self._leaving:
            self._move_on()
            return self.next()
        self.finished = not self._follow
        return None

    def _rest(self) -> Chunk | None:
        """What stands behind the last newline of a file that is finished."""
        assert self._source is not None
        assert self.position is not None
        data = self._source.read_at(self.position.offset, MAX_LINE_BYTES)
        return Chunk(data, self.position.plan(self.position.offset + len(data))) if data else None

    def _replaced(self) -> bool:
        """Whether another file stands at `path` now. Missing is not replaced: the writer is about to make it."""
        if not isinstance(self._source, PlainSource):
            return False
        stat = self._source.stat()
        place = _place(self.path)
        return place is not None and place != (stat.st_dev, stat.st_ino)


def _cut(data: bytes) -> int:
    """Where a batch of at most BATCH_LINES whole lines ends."""
    end = data.rfind(b"\n") + 1
    if data.count(b"\n") > BATCH_LINES:
        end = 0
        for _ in range(BATCH_LINES):
            end = data.find(b"\n", end) + 1
    return end


def _place(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
