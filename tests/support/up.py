"""A real `logstream up` on free ports, and the real command line against it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0
COMMAND = [sys.executable, "-m", "logstream.cli"]


def eventually(check: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `check` holds."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Up:
    """`logstream up`; standard output and error go to files beside the data."""

    def __init__(self, folder: Path, *arguments: str, data: Path | None = None) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self._out = folder / f"up-{time.monotonic_ns()}.out"
        self._err = self._out.with_suffix(".err")
        ports = ["--collector-port", "0", "--api-port", "0", "--clickhouse-port", "0"]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--data", str(self.data), *ports, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def ready(self) -> "Up":
        """Wait for the banner."""
        eventually(lambda: "is ready" in self.out or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.err
        return self

    def ended(self) -> int:
        """The exit status of a run that ends by itself."""
        return self.process.wait(PATIENCE)

    def url(self, name: str) -> str:
        found = re.search(rf"^  {name} +(http://[^/\s]+)", self.out, re.MULTILINE)
        assert found is not None, self.out
        return found[1]

    def children(self) -> dict[str, int]:
        """Process ids of the engine and the app, those that are there."""
        found: dict[str, int] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    for name in ("engine", "app"):
                        ours = parent == self.process.pid or self.process.poll() is not None
                        if ours and f"logstream.standalone.{name}" in line and str(self.data) in line:
                            found[name] = int(folder.name)
        return found

    def kill_child(self, name: str) -> int:
        """SIGKILL; the process id of the one that takes its place."""
        killed = self.children()[name]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: self.children().get(name, killed) != killed, f"another {name}")
        return self.children()[name]

    def wait_until_it_answers(self) -> None:
        """Until everything that reads and writes is there again."""

        def answers() -> bool:
            for name in ("collector", "API"):
                try:
                    with urllib.request.urlopen(self.url(name) + "/readyz", timeout=5) as answer:
                        if answer.status != 200:
                            return False
                except OSError:
                    return False
            return True

        eventually(answers, "both answer /readyz")

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.sweep()

    def sweep(self) -> None:
        """Leave no process behind, whatever failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.children().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Cli:
    """The command line as a person at home in `home` uses it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        drop = ("LOGSTREAM_API_KEY", "LOGSTREAM_INGEST_URL", "LOGSTREAM_API_URL", "LOGSTREAM_CONTEXT")
        self.environment = {
            **{k: v for k, v in os.environ.items() if k not in drop},
            "LOGSTREAM_CONFIG": str(home / "config.toml"),
            "XDG_STATE_HOME": str(home / "state"),
            "TZ": "UTC",
            # As where nobody is looking, also when the tests themselves have a terminal of another width.
            "COLUMNS": "100",
        }

    def run(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            [*COMMAND, *arguments],
            check=False, env=self.environment, cwd=self.home, capture_output=True, timeout=PATIENCE, **given,
        )  # fmt: skip
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """What a command that succeeds prints."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """The JSON array a command prints."""
        rows: list[dict[str, Any]] = json.loads(self(*arguments, "-o", "json"))
        return rows

    @contextlib.contextmanager
    def background(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on until it is interrupted; its output is in `out` and `err` in the home folder."""
        with (self.home / "out").open("wb") as out, (self.home / "err").open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, *arguments], env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
