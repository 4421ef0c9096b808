"""One supervised process: started, watched, started again with a growing pause. Standard library only."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from logstream.standalone.pulse import Pulse

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 10.0
"""A child that ran this long begins again with the shortest pause when it dies."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: `arguments` behind the interpreter, what is added to the environment, and the
    descriptors the child inherits."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int]
    executable: str


@dataclass(slots=True)
class Child:
    """The process of `command`, or none while it waits to be started again at `next_start` (monotonic)."""

    command: Command
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    next_start: float = 0.0
    started: float = 0.0
    proved: bool = False
    """It has worked once. Until then an exit with status 1 is a reason to stop, not to try again."""
    failures: int = 0
    """Deaths in a row, each soon after the start."""
    kill_at: float | None = None
    pulse: Pulse | None = None
    """Tells when it hangs; None: nobody asks."""
    unread: bytearray = field(default_factory=bytearray)

    @property
    def name(self) -> str:
        return self.command.name

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the supervisor.

        Its standard input is a pipe that nobody else holds: it ends when the supervisor does, however it
        ends, and the child then stops by itself. Its standard output carries messages to the supervisor.
        """
        command = self.command
        self.process = subprocess.Popen(
            [command.executable, *command.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=tuple(command.descriptors),
            env={**os.environ, **command.environment},
            start_new_session=True,
        )
        self.started = time.monotonic()
        self.kill_at = None
        self.unread.clear()

    @property
    def output(self) -> IO[bytes]:
        if self.process is None or self.process.stdout is None:
            raise ValueError(f"{self.name} is not running")
        return self.process.stdout

    def messages(self, data: bytes) -> list[bytes]:
        """The whole lines that `data` completes."""
        self.unread += data
        *lines, rest = bytes(self.unread).split(b"\n")
        self.unread[:] = rest[-65_536:]
        return lines

    def ready(self) -> None:
        """It works now: from here on its pulse is taken."""
        self.proved = True
        if self.pulse is not None:
            self.pulse.begin(time.monotonic())

    def is_hung(self) -> bool:
        """Whether it has been silent for too long, and more than once."""
        return self.process is not None and self.pulse is not None and self.pulse.hung(time.monotonic())

    def quiet(self) -> None:
        """Take its pulse no longer, until it is ready again."""
        if self.pulse is not None:
            self.pulse.stop()

    def tell(self, line: str) -> None:
        """Send one line to the child's standard input; a child that has just died is no error."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.write(line.encode() + b"\n")

    def ended(self) -> int | None:
        """The exit status once the process has ended (negative: the signal), then it is forgotten."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None
        self.quiet()
        return int(status)

    def plan_restart(self) -> float:
        """Seconds until the next start: doubled with each early death, short again after a steady run."""
        if time.monotonic() - self.started >= STEADY_SECONDS:
            self.failures = 0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self.failures)
        self.failures += 1
        self.restarts += 1
        self.next_start = time.monotonic() + pause
        return pause

    def terminate(self, grace: float) -> None:
        """Ask the process to stop; `kill_at` says when its patience (`grace`, seconds) is over."""
        self.quiet()
        if self.process is not None:
            self.process.terminate()
            self.kill_at = time.monotonic() + grace

    def kill(self) -> None:
        self.quiet()
        if self.process is not None:
            self.process.kill()
            self.kill_at = None


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
