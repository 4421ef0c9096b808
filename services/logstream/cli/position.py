"""How far a file was sent, kept between runs.

Before a batch is sent, its end is written down (`planned`); after a break the very same range is sent again
under the same Idempotency-Key, so the server takes it once.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from logstream.cli.failure import Failure
from logstream.cli.files import write_private
from logstream.cli.source import Identity


@dataclass(frozen=True, slots=True)
class Position:
    """generation: random, new for each life of a file, so that equal lines at equal offsets of a file
    written anew are not taken for a repeat. offset: bytes acknowledged. planned: end of the range being sent."""

    identity: Identity
    generation: str
    offset: int = 0
    planned: int | None = None

    def plan(self, end: int) -> "Position":
        return replace(self, planned=end)

    def done(self) -> "Position":
        return self if self.planned is None else replace(self, offset=self.planned, planned=None)

    def key(self) -> str:
        """The Idempotency-Key of the planned range: the same range of the same file, the same key."""
        text = f"{self.generation}:{self.offset}-{self.planned}"
        return hashlib.sha256(text.encode()).hexdigest()[:48]


def begin(identity: Identity) -> Position:
    """The beginning of a file not seen before."""
    return Position(identity, secrets.token_hex(12))


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
