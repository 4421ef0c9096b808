"""A kept server as an object: start, wait until ready, stop, kill, freeze. For tests and benchmarks."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from logstream.errors import StartupError

START_SECONDS = 90.0
STOP_SECONDS = 60.0


class ServerProcess:
    """`arguments` behind the interpreter (`keeper.command`), everything it says appended to `log`.

    It ends with this process, however that ends.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> None:
        self._name = name
        self._arguments = arguments
        self._log = log
        self._is_ready = is_ready
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """The server's own process id. Raises ValueError when it was not started."""
        if self._keeper is None:
            raise ValueError(f"{self._name} is not running")
        return self._pid

    @property
    def is_running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start it and wait until it is ready. Raises StartupError with the end of its log."""
        if self.is_running:
            raise ValueError(f"{self._name} is already running")
        if self._keeper is not None:
            # It ended by itself.
            self._wait(STOP_SECONDS)
        with self._log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, start_new_session=True,
            )  # fmt: skip
        assert self._keeper.stdout is not None
        self._pid = int(self._keeper.stdout.readline() or 0)
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self._keeper.poll() is not None or time.monotonic() >= deadline:
                self.kill()
                raise StartupError(f"{self._name} did not start; its log ends with:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self, lines: int = 30) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop it in good order; does nothing when it does not run."""
        if self._keeper is not None:
            self._keeper.terminate()
            self._wait(timeout)

    def kill(self) -> None:
        """SIGKILL; returns when the server is gone."""
        if self._keeper is not None:
            self.signal(signal.SIGKILL)
            self._wait(STOP_SECONDS)

    def pause(self) -> None:
        """SIGSTOP to it and its children: it stands still when this returns, its connections stay open."""
        self._signal_all(signal.SIGSTOP)
        # The signal is only sent by then: a thread on another core may still answer somebody.
        deadline = time.monotonic() + STOP_SECONDS
        while not _stands_still(self.pid) and self.is_running and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT, to its children as well."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        for pid in (self.pid, *_descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def signal(self, number: int) -> None:
        """Send a signal to the server itself; one that has ended is no error."""
        # The keeper reaps the server and ends after it: while the keeper runs, the id is the server's.
        if self.is_running and self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _wait(self, timeout: float) -> None:
        keeper, self._keeper = self._keeper, None
        assert keeper is not None
        try:
            keeper.wait(timeout)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        finally:
            for pipe in (keeper.stdin, keeper.stdout):
                if pipe is not None:
                    pipe.close()


def _stands_still(pid: int) -> bool:
    """Whether every thread of `pid` is stopped by a signal."""
    states: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(task.read_text().rpartition(")")[2].split()[0])
    return set(states) == {"T"}


def _descendants(pid: int) -> list[int]:
    """Children of `pid`, their children and so on."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name stands in brackets and may hold anything; the parent is the second word behind it.
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    unseen = [pid]
    while unseen:
        unseen = [child for parent in unseen for child in children.get(parent, ())]
        found += unseen
    return found
