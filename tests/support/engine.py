"""The embedded engine as a process of its own, for tests that need the real thing."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


class EngineProcess:
    """One engine on one data folder; the address stays the same over restarts.

    path: the data folder. arguments: further ones of `python -m logstream.standalone.engine`.
    """

    module = "logstream.standalone.engine"

    def __init__(self, path: Path, *arguments: str) -> None:
        self.path = path
        self._arguments = arguments
        self._port = 0
        self._log = path.parent / f"{path.name}.log"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None, "the engine is not running"
        return self._process.pid

    def log(self) -> str:
        """What the engine wrote on standard error, all starts together."""
        return self._log.read_text()

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it answers `/ping`."""
        command = [
            sys.executable, "-m", self.module, "--path", str(self.path),
            "--port", str(self._port), "--stop-on-stdin-eof", *self._arguments,
        ]  # fmt: skip
        with self._log.open("a") as log:
            # The pipe on standard input ends the engine even when the test run itself is killed.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the engine did not start:\n{self.log()}")
        self._port = int(self.url.rpartition(":")[2])
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(self.url + "/ping", timeout=5) as response:
                    assert response.read() == b"Ok.\n"
                    return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self, number: int | None = signal.SIGTERM, timeout: float = 60.0) -> int:
        """Send a signal, or None to end its standard input, and wait for the end; the exit status."""
        assert self._process is not None, "the engine is not running"
        process, self._process = self._process, None
        if number is not None:
            process.send_signal(number)
        elif process.stdin is not None:
            process.stdin.close()
        try:
            return process.wait(timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Start again on the same data and address; stops it first when it runs."""
        if self._process is not None:
            self.stop()
        self.start()

    def close(self) -> None:
        """Stop it when it runs."""
        if self._process is not None:
            self.stop()
