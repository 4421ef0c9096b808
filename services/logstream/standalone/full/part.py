"""One supervised process of the full installation. Standard library only."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from logstream.standalone.child import Child
from logstream.standalone.full.death import die_with


def _always_ready() -> str | None:
    return None


@dataclass(slots=True)
class Part(Child):
    """A child whose output is shown to people, and which says by `lacks` what it still waits for.

    lacks: None when it is ready, else the reason in words; asked often, and answers within seconds.
    It dies with the supervisor, whose only thread started it (PR_SET_PDEATHSIG): each of these processes loses
    nothing when it is killed.
    """

    lacks: Callable[[], str | None] = _always_ready
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 30.0
    is_ready: bool = False
    asked_at: float = 0.0
    complained_at: float = 0.0
    reason: str = field(default="", repr=False)

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the supervisor."""
        command, supervisor = self.command, os.getpid()
        self.process = subprocess.Popen(
            [command.executable, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=tuple(command.descriptors),
            env={**os.environ, **command.environment},
            start_new_session=True,
            # One thread, so that code between fork and exec is safe.
            preexec_fn=lambda: die_with(supervisor),  # noqa: PLW1509
        )
        self.started = self.complained_at = time.monotonic()
        self.is_ready = False
        self.kill_at = None
        self.unread.clear()

    def ask(self) -> bool:
        """Whether it has just become ready."""
        self.asked_at = time.monotonic()
        reason = self.lacks()
        if reason is not None:
            self.reason = reason
            return False
        self.is_ready = True
        self.ready()
        return True

    def stop(self) -> None:
        """Ask the process to stop, as it likes to be asked; `kill_at` says when its patience is over."""
        self.quiet()
        if self.process is not None and self.kill_at is None:
            self.process.send_signal(self.stop_signal)
            # One that stands still (SIGSTOP) would never hear of it.
            self.process.send_signal(signal.SIGCONT)
            self.kill_at = time.monotonic() + self.grace
