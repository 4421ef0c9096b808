"""How far a file was sent, kept between runs.

Before a batch is sent, its end is written down (`planned`); after a break the very same range is sent again
under the same Idempotency-Key, so the server takes it once. Of a file that was sent to its end, this is kept too.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from logstream.cli.failure import Failure
from logstream.cli.files import write_private
from logstream.cli.source import Identity, fingerprint, open_source


@dataclass(frozen=True, slots=True)
class Position:
    """generation: random, new for each life of a file, so that equal lines at equal offsets of a file
    written anew are not taken for a repeat. offset: bytes acknowledged. planned: end of the range being sent.
    before: time of the last event acknowledged (nanoseconds since the epoch), for those behind it that have none.
    ended: size and last change (nanoseconds) that the file had on the disk when it was begun, once all of it is sent.
    """

    identity: Identity
    generation: str
    offset: int = 0
    planned: int | None = None
    before: int | None = None
    ended: tuple[int, int] | None = None

    def plan(self, end: int) -> "Position":
        return replace(self, planned=end, ended=None)

    def done(self) -> "Position":
        return self if self.planned is None else replace(self, offset=self.planned, planned=None)

    def key(self) -> str:
        """The Idempotency-Key of the planned range: the same range of the same file, the same key."""
        text = f"{self.generation}:{self.offset}-{self.planned}"
        return hashlib.sha256(text.encode()).hexdigest()[:48]


def begin(identity: Identity) -> Position:
    """The beginning of a file not seen before."""
    return Position(identity, secrets.token_hex(12))


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and last change of `path`, as in `Position.ended`; None when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def is_sent(path: Path, position: Position) -> bool:
    """Whether all of `path` as it is now was sent."""
    return position.ended is not None and position.ended == stamp(path) and _is_of(path, position)


def after_end(path: Path, position: Position) -> Position | None:
    """Where to go on in `path` from `position`: None, its beginning, where another file was sent to its end there."""
    return position if position.ended is None or _is_of(path, position) else None


def _is_of(path: Path, position: Position) -> bool:
    try:
        source = open_source(path)
    except OSError:
        return False
    try:
        known, stat, size = position.identity, source.stat(), source.size()
        return (
            (stat.st_dev, stat.st_ino) == (known.device, known.inode)
            and (size is None or size >= position.offset)
            and fingerprint(source, known.length) == (known.length, known.fingerprint)
        )
    finally:
        source.close()


class PositionFile:
    """One file's position on the disk, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, log: Path, destination: str, *, folder: Path | None = None) -> "PositionFile":
        """The place for `log` sent to `destination` (address and key: another platform begins anew).

        folder: None is logstream/send in the user's state folder.
        """
        name = hashlib.sha256(f"{os.path.abspath(log)}\0{destination}".encode()).hexdigest()[:24]
        if folder is None:
            folder = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "logstream" / "send"
        return cls(folder / f"{log.name[:64]}-{name}.json")

    def load(self) -> Position | None:
        """The stored position; None when there is none. Raises Failure for a file that is not one."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Position)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"cannot read the position in {self.path}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise Failure(
                f"{self.path} is not a position ({error}); remove it to send the file from its start"
            ) from error

    def save(self, position: Position) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.path, msgspec.json.encode(position))
        except OSError as error:
            raise Failure(
                f"cannot keep the position in {self.path} ({error.strerror}); choose another file with --state"
            ) from error

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
