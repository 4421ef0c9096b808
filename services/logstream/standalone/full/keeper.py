"""Holds a foreign server (a Java or Postgres process), so that it never outlives whoever started it.

`python -m logstream.standalone.full.keeper [options] -- command…`: the first line on standard output is the
server's process id. The end of standard input, SIGTERM or SIGINT stop the server in good order, and by force after
the grace; the keeper's own death kills it (PR_SET_PDEATHSIG, which looks at the thread that started a process,
and this one has only one thread). Exits with the server's status. Standard library only.
"""

import argparse
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from logstream.standalone.full.death import die_with

GRACE = 30.0


def command(server: Sequence[str], *, stop_signal: signal.Signals = signal.SIGTERM, grace: float = GRACE) -> list[str]:
    """The arguments behind the interpreter that keep `server`; grace: seconds it has to stop."""
    return ["-m", __name__, "--stop-signal", str(int(stop_signal)), "--grace", f"{grace:g}", "--", *server]


class _Keeper:
    def __init__(self, server: Sequence[str], stop_signal: int, grace: float) -> None:
        self._stop_signal, self._grace = stop_signal, grace
        self._kill_at: float | None = None
        keeper = os.getpid()
        # One thread, so that code between fork and exec is safe.
        self._process = subprocess.Popen(
            server,
            stdin=subprocess.DEVNULL,
            stdout=2,
            preexec_fn=lambda: die_with(keeper),  # noqa: PLW1509
        )

    def run(self) -> int:
        """Until the server has ended; its status (128 + n after a signal n)."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        with contextlib.suppress(OSError):
            os.write(1, f"{self._process.pid}\n".encode())
        with selectors.DefaultSelector() as selector:
            selector.register(wake_read, selectors.EVENT_READ)
            selector.register(0, selectors.EVENT_READ)
            while (status := self._process.poll()) is None:
                for key, _ in selector.select(self._patience()):
                    if key.fd == wake_read:
                        if {signal.SIGTERM, signal.SIGINT} & set(os.read(wake_read, 512)):
                            self._stop()
                    elif not os.read(0, 4096):
                        selector.unregister(0)
                        self._stop()
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._process.kill()
        return status if status >= 0 else 128 - status

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            # A stopped (SIGSTOP) server would never hear of it.
            self._process.send_signal(self._stop_signal)
            self._process.send_signal(signal.SIGCONT)

    def _patience(self) -> float | None:
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=__doc__)
    parser.add_argument("--stop-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds")
    parser.add_argument("server", nargs="+")
    given = parser.parse_args(arguments)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return _Keeper(given.server, given.stop_signal, given.grace).run()


if __name__ == "__main__":
    sys.exit(main())
