"""What the benchmarks share: a real `logstream up` on a fresh folder, its CPU time and memory, and the report."""

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import psutil

_TICK = os.sysconf("SC_CLK_TCK")
_ROLES = {"logstream.standalone.engine": "engine", "logstream.standalone.app": "app"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Engine(Protocol):
    """What has tables to look into."""

    def sql(self, query: str) -> list[list[Any]]: ...


class Collector(Protocol):
    """What takes records. api_key: of a key that may send."""

    @property
    def collector_port(self) -> int: ...

    @property
    def api_key(self) -> str: ...


@dataclass(slots=True)
class Platform:
    """A running `logstream up` with the product's default settings, and how to reach it."""

    process: subprocess.Popen[bytes]
    data: Path
    collector_port: int
    api_port: int
    clickhouse_port: int
    api_key: str = ""

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of LogStream by role, the supervisor included."""
        parent = psutil.Process(self.process.pid)
        found = {"supervisor": parent}
        for child in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                # Whole arguments, because a data folder may have any name.
                modules = set(child.cmdline()) & _ROLES.keys()
                found[_ROLES[modules.pop()] if modules else f"other-{child.pid}"] = child
        return found

    def cpu(self) -> dict[str, float]:
        """User + system seconds by process so far; children that ended are counted in `supervisor`."""
        seconds = {}
        for role, process in self.processes().items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            seconds[role] = (own + reaped) / _TICK
        return seconds

    def peak_rss_mb(self) -> dict[str, float]:
        """VmHWM of every process, MB (10^6 bytes)."""
        peaks = {}
        for role, process in self.processes().items():
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks[role] = int(line.split()[1]) * 1024 / 1e6
        return peaks

    def rss_mb(self) -> dict[str, float]:
        return {role: process.memory_info().rss / 1e6 for role, process in self.processes().items()}

    def sql(self, query: str) -> list[list[Any]]:
        """Ask the engine directly, as an operator would with curl."""
        url = f"http://127.0.0.1:{self.clickhouse_port}/?default_format=JSONCompactStrings"
        request = urllib.request.Request(url, data=query.encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            rows: list[list[Any]] = json.load(answer)["data"]
            return rows

    def database(self) -> str:
        """The stream's database; waits for the first migration."""
        deadline = time.monotonic() + 60
        query = "SELECT database FROM system.tables WHERE name = 'logs' AND database LIKE 'logstream_local_default_%'"
        while not (found := self.sql(query)):
            if time.monotonic() > deadline:
                raise TimeoutError("the stream has no table")
            time.sleep(0.05)
        return str(found[0][0])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def start(data: Path, *arguments: str, log: Path | None = None, key: str = "") -> Platform:
    """`logstream up` on `data`, ready to take records. On a first start the API key is read from first-login.json."""
    ports = free_port(), free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("logstream")), "up", "--data", str(data),
        "--collector-port", str(ports[0]), "--api-port", str(ports[1]), "--clickhouse-port", str(ports[2]), *arguments,
    ]  # fmt: skip
    with (log or data.with_suffix(".log")).open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    running = Platform(process, data, *ports, api_key=key)
    deadline = time.monotonic() + 90
    try:
        for port in ports[:2]:
            wait_ready(port, deadline, process)
    except Exception:
        process.terminate()
        raise
    if not key:
        running.api_key = json.loads((data / "first-login.json").read_text())["api_key"]
    return running


def wait_ready(port: int, deadline: float, process: subprocess.Popen[bytes] | None = None) -> None:
    while True:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"logstream up ended with {process.returncode}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"port {port} is not ready")
        time.sleep(0.05)


@contextlib.contextmanager
def platform_up(*arguments: str) -> Iterator[Platform]:
    """A platform on a fresh temporary folder, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="logstream-bench-") as folder:
        running = start(Path(folder) / "data", *arguments)
        try:
            yield running
        except BaseException:
            sys.stderr.write((Path(folder) / "data.log").read_text()[-4000:])
            raise
        finally:
            if running.process.poll() is None:
                running.stop()


def collector_job(running: Collector) -> dict[str, Any]:
    """Where and how the load generator posts to `running`."""
    return {
        "host": "127.0.0.1",
        "port": running.collector_port,
        "path": "/ingest",
        "headers": {"Authorization": f"Bearer {running.api_key}", "Content-Type": "application/x-ndjson"},
    }


def prepare_load(job: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """The load generator with `job` in its own process (see `benchmarks.load`), every body made, nothing sent."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("the load generator failed")
    return process


def begin_load(process: subprocess.Popen[bytes]) -> None:
    """Let a prepared generator send."""
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.close()


def finish_load(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the load generator saw and sent. Raises RuntimeError when it failed."""
    assert process.stdout is not None
    out = process.stdout.read()
    if process.wait() != 0:
        raise RuntimeError("the load generator failed")
    result: dict[str, Any] = json.loads(out)
    return result


def machine() -> dict[str, Any]:
    """Machine and versions, for RESULTS.md."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "chdb": version("chdb"),
        "clickhouse_connect": version("clickhouse-connect"),
        "uvicorn": version("uvicorn"),
        "sqlite": __import__("sqlite3").sqlite_version,
    }


def report(figures: Mapping[str, Any]) -> None:
    """The last line: one JSON object."""
    print(json.dumps(figures))
