"""A file system of a test's own that can be filled up."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_STEP = 64 * 1024


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Write until no more than `leave` bytes are free."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (room := self.free() - leave) > 0:
                file.write(bytes(min(_STEP, room)))

    def empty(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """A tmpfs of that size at `path`, which is made. Skips the test without the right to mount; fails in CI."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a tmpfs cannot be mounted here, and CI must run this test")
        pytest.skip("NOT TESTED: a full disk needs the right to mount a tmpfs (run as root)")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
