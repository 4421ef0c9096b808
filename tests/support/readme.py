"""Running a document's console blocks against a platform of their own."""

import base64
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks import harness

_TAIL_SECONDS = 3
_TIME = r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d\\\.\d{3}"
"""A time as `re.escape` leaves it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command and the lines it should print."""

    command: str
    output: tuple[str, ...]


def steps(text: str) -> list[Step]:
    """The commands (`$ …`) of all `console` blocks, each with the lines below it."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.S | re.M):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], ()))
            elif found and block.startswith("$ "):
                found[-1] = Step(found[-1].command, (*found[-1].output, line))
    return found


class Platform:
    """`make up` from the checkout, with data, home and working folder of its own and free ports."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._ports = {8080: harness.free_port(), 8081: harness.free_port(), 8123: harness.free_port()}
        self._log = folder / "up.log"
        self._environment = {
            **os.environ, "HOME": str(folder), "LOGSTREAM_CONFIG": str(folder / "config.toml"), "COLUMNS": "160",
            "NO_COLOR": "1", "LOGSTREAM_INGEST_URL": f"http://127.0.0.1:{self._ports[8080]}",
            "LOGSTREAM_API_URL": f"http://127.0.0.1:{self._ports[8081]}",
        }  # fmt: skip
        self._exported: dict[str, str] = {}

    def __enter__(self) -> "Platform":
        arguments = (
            f"--data {self._folder / 'logstream-data'} --collector-port {self._ports[8080]} "
            f"--api-port {self._ports[8081]} --clickhouse-port {self._ports[8123]}"
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["make", "--no-print-directory", "up", f"ARGS={arguments}"],
                cwd=self._root, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        try:
            for port in (self._ports[8080], self._ports[8081]):
                harness.wait_ready(port, time.monotonic() + 120)
            deadline = time.monotonic() + 60
            while "Ctrl-C stops it" not in self.output():
                assert time.monotonic() < deadline, self.output()
                time.sleep(0.05)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(60)

    def output(self) -> str:
        """What `make up` has printed so far."""
        return self._log.read_text()

    def run(self, step: Step) -> str:
        """What the command prints; exports are kept for the next ones. A tail is interrupted after a while."""
        command = step.command
        for documented, real in self._ports.items():
            command = command.replace(f":{documented}", f":{real}")
        if command.startswith("export PATH"):
            command = command.replace("$PWD", str(self._root))
        script = f"{command}\nprintf '\\n--env--\\n'; env -0 | base64 -w0"
        if " tail" in command:
            script = script.replace(command, f"timeout --signal=INT {_TAIL_SECONDS} {command} || [ $? -eq 124 ]")
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self._folder, env=self._environment | self._exported, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        )  # fmt: skip
        printed, _, environment = done.stdout.partition("\n--env--\n")
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        self._keep(environment)
        return printed

    def _keep(self, environment: str) -> None:
        for entry in base64.b64decode(environment).decode().split("\0"):
            name, _, value = entry.partition("=")
            if name in {"PATH", "KEY"}:
                self._exported[name] = value

    def pattern(self, line: str) -> re.Pattern[str]:
        """What `line` of the document may look like in this run."""
        text = re.escape(line.rstrip())
        text = re.sub(_TIME, lambda _: r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", text)
        text = re.sub(r"^[a-z0-9]{12}(?=\\ )", "[a-z0-9]{12}", text)
        text = text.replace("logstream\\-data", r"\S*logstream-data")
        for documented, real in self._ports.items():
            text = text.replace(f":{documented}", f":{real}")
        return re.compile("^" + re.sub(r"(\\ )+", lambda _: r"\s+", text) + r"\s*$", re.M)
