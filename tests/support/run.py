"""Processes run apart, as somebody at a shell or a pod's command starts them."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.up import PATIENCE, eventually

PATIENT = 4 * PATIENCE
"""Seconds; several processes start at once, on a machine that may have two cores and more to do."""
PYTHON = [sys.executable, "-m", "logstream.run"]


class Service:
    """One process. Its own log, JSON lines, is in `log`; the ports that the system chose are read from there."""

    def __init__(self, kind: str, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
        self.kind = kind
        self._environ = {
            "LOGSTREAM_LOG_FORMAT": "json",
            "LOGSTREAM_COLLECTOR_PORT": "0",
            "LOGSTREAM_API_PORT": "0",
            "LOGSTREAM_RUN_HEALTH_PORT": "0",
            **environ,
        }
        self._arguments = arguments
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._starts = 0
        self.start()

    def start(self) -> "Service":
        """Start it, or start it again."""
        self._starts += 1
        self._log = self._folder / f"{self.kind}-{id(self)}-{self._starts}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*PYTHON, self.kind, *self._arguments], env={**clean, **self._environ}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        return self

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.log.splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def port(self, what: str = "requests") -> int:
        """`requests`, or `probes`."""

        def found() -> list[int]:
            return [e["port"] for e in self.events() if e["event"] == "listening" and e["to"] == what]

        eventually(lambda: bool(found()) or self.process.poll() is not None, f"{self.kind} listens for {what}", PATIENT)
        assert found(), self.log
        return found()[0]

    def get(
        self, path: str, what: str = "probes", *, tls: ssl.SSLContext | None = None, seconds: float = 10.0
    ) -> tuple[int, Any]:
        """Status and JSON body; status 0 when nobody answers."""
        scheme = "http" if tls is None else "https"
        url = f"{scheme}://127.0.0.1:{self.port(what)}{path}"
        try:
            with urllib.request.urlopen(url, timeout=seconds, context=tls) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def ready(self, seconds: float = PATIENT) -> "Service":
        eventually(
            lambda: self.get("/readyz")[0] == 200 or self.process.poll() is not None, f"{self.kind} is ready", seconds
        )
        assert self.process.poll() is None, self.log
        return self

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(PATIENT)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.signal()
        return self.ended()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def services() -> Iterator[list[Service]]:
    """What is put into the list is killed in the end, whatever failed."""
    started: list[Service] = []
    try:
        yield started
    finally:
        for service in started:
            service.close()


def run(kind: str, environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One that ends by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}
    return subprocess.run(
        [*PYTHON, kind, *arguments], check=False, capture_output=True, text=True, timeout=PATIENT,
        env={**clean, "LOGSTREAM_LOG_FORMAT": "json", **environ},
    )  # fmt: skip
