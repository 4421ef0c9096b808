"""A real `logstream up-full` on free ports."""

import contextlib
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.support.up import COMMAND, eventually

PATIENCE = 180.0
"""Nine processes start side by side, on a machine that does other things too."""
_PORTS = ("collector", "api", "processor", "clickhouse", "kafka", "controller", "postgres")


class UpFull:
    """`logstream up-full`; standard output and error go to files beside the data."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.data = folder / "data"
        self._out = folder / f"full-{time.monotonic_ns()}.out"
        self._err = self._out.with_suffix(".err")
        ports = [word for name in _PORTS for word in (f"--{name}-port", "0")]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "up-full", "--data", str(self.data), *ports, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
            )  # fmt: skip
        self._seen: set[psutil.Process] = set()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def ready(self) -> "UpFull":
        """Wait for the banner."""
        eventually(lambda: "is ready\n" in self.out or self.process.poll() is not None, "ready", PATIENCE)
        assert self.process.poll() is None, self.err
        self.family()
        return self

    def ended(self) -> int:
        """The exit status of a run that ends by itself."""
        return self.process.wait(PATIENCE)

    def url(self, name: str) -> str:
        """Of a row of the banner, without a path."""
        found = re.search(rf"^  {name} +(http://[^/\s,]+)", self.out, re.MULTILINE)
        assert found is not None, self.out
        return found[1]

    def urls(self, name: str) -> list[str]:
        """Of all addresses in a row of the banner."""
        found = re.search(rf"^  {name} +(.*)$", self.out, re.MULTILINE)
        assert found is not None, self.out
        return re.findall(r"http://[^/\s,]+", found[1])

    def family(self) -> set[psutil.Process]:
        """Every process below the supervisor, those of before included."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def part(self, name: str) -> psutil.Process:
        """The process that was started last under this name, as the log tells."""
        pids = re.findall(rf"^logstream: {name} is process (\d+)$", self.err, re.MULTILINE)
        assert pids, self.err
        return psutil.Process(int(pids[-1]))

    def kill_part(self, name: str) -> None:
        """SIGKILL; returns when another one has taken its place and is ready."""
        told = self.err.count(f"logstream: {name} is ready\n")
        self.part(name).kill()
        eventually(lambda: self.err.count(f"logstream: {name} is ready\n") > told, f"another {name} is ready", PATIENCE)
        self.family()

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        self.family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.sweep()

    def left(self, seconds: float = 30.0) -> list[psutil.Process]:
        """Those of the family that are there even after some time."""
        _, alive = psutil.wait_procs(self.family(), timeout=seconds)
        return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]

    def sweep(self) -> None:
        """Leave no process behind, whatever failed."""
        family = self.family()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
