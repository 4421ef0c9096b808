"""Whether a child that runs still answers. Standard library only, and never waits for the answer."""

import contextlib
import math
import os
import socket

from logstream.errors import StartupError

HANG_SECONDS = 60.0
"""Far beyond what a collection of garbage, a merge or a loaded machine takes: /livez and /ping ask nobody."""
VARIABLE = "LOGSTREAM_UP_HANG_SECONDS"
MIN_FAILURES = 3
"""In a row. After a supervisor that itself stood still one question alone has no answer in time."""

_QUESTIONS = 6
"""For each `hang_seconds`."""
_CONNECT_SECONDS = 0.5


class Pulse:
    """Asks `path` of the HTTP server at `address` again and again.

    hang_seconds: how long it may be silent. Nothing counts before the first answer, so that an address which
    cannot be reached from here is no hang. Times are monotonic seconds.
    """

    def __init__(self, address: tuple[str, int], path: str, hang_seconds: float) -> None:
        self._address = address
        self._request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
        self.hang_seconds = hang_seconds
        self._interval = hang_seconds / _QUESTIONS
        self._asked: socket.socket | None = None
        self._answered_at: float | None = None
        self._failures = 0
        self.due: float | None = None
        """When `hung` wants to be called; None: not at all."""

    def begin(self, now: float) -> None:
        """The child is ready: ask from `now` on."""
        self.stop()
        self.due = now

    def stop(self) -> None:
        """There is nobody to ask."""
        self._close()
        self.due, self._answered_at, self._failures = None, None, 0

    def hung(self, now: float) -> bool:
        """Take the last question's answer and ask the next one, when it is time; whether the child hangs."""
        if self.due is None or now < self.due:
            return False
        if self._asked is not None:
            self._judge(self._is_answered(self._asked), now)
            self._close()
        self.due = now + self._interval
        self._ask(now)
        silent = 0.0 if self._answered_at is None else now - self._answered_at
        return self._failures >= MIN_FAILURES and silent >= self.hang_seconds

    def _judge(self, is_answered: bool, now: float) -> None:
        if is_answered:
            self._answered_at, self._failures = now, 0
        elif self._answered_at is not None:
            self._failures += 1

    def _ask(self, now: float) -> None:
        try:
            self._asked = socket.create_connection(self._address, timeout=_CONNECT_SECONDS)
            self._asked.sendall(self._request)
            self._asked.setblocking(False)
        except (TimeoutError, ConnectionError):
            self._close()
            self._judge(False, now)
        except OSError:
            # Our own shortage, of descriptors or ports, says nothing of the child.
            self._close()

    def _is_answered(self, asked: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            # Whatever the status: a process that answers does not hang.
            return asked.recv(16).startswith(b"HTTP/")
        return False

    def _close(self) -> None:
        if self._asked is not None:
            self._asked.close()
            self._asked = None


def hang_seconds() -> float | None:
    """The setting: seconds of silence, None for never. Raises StartupError."""
    text = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(text) if text else HANG_SECONDS
    except ValueError:
        seconds = math.nan
    if seconds == 0:
        return None
    if not 1 <= seconds <= 86_400:
        raise StartupError(f"{VARIABLE} must be 1 to 86400 seconds, or 0 for never: '{text}'")
    return seconds


def reachable(host: str) -> str:
    """Where a server that listens on `host` answers on this machine."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 — not listened on
