"""What the benchmarks of the full path share: a real Kafka, Postgres and ClickHouse engine and LogStream's services,
each a process, on fresh folders; their CPU time and memory."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import harness
from logstream.standalone.full import keeper
from logstream.standalone.full.kafka_server import KafkaServer
from logstream.standalone.full.postgres_server import PostgresServer
from logstream.standalone.full.process import ServerProcess

_TICK = os.sysconf("SC_CLK_TCK")
_HOST = "127.0.0.1"
_SERVICES = ("collector", "processor", "api")
_OURS = (*_SERVICES, "clickhouse")
"""What counts as LogStream, by the beginning of a role; brokers and accounts are reported beside it."""


def is_ours(role: str) -> bool:
    return role.startswith(_OURS)


@dataclass(slots=True)
class Full:
    """Everything of one installation. servers: by role; several of a service are `collector-1`, `collector-2` …"""

    folder: Path
    servers: dict[str, ServerProcess] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    kafka: str = ""
    api_key: str = ""
    email: str = ""

    @property
    def collector_ports(self) -> list[int]:
        return [port for role, port in self.ports.items() if role.startswith("collector")]

    @property
    def collector_port(self) -> int:
        return self.collector_ports[0]

    @property
    def api_port(self) -> int:
        return self.ports["api-1"]

    def processes(self) -> dict[str, list[psutil.Process]]:
        """By role, with all children: Postgres has one a connection."""
        found = {}
        for role, server in self.servers.items():
            if server.is_running:
                process = psutil.Process(server.pid)
                found[role] = [process, *process.children(recursive=True)]
        return found

    def cpu(self) -> dict[str, float]:
        """User + system seconds by role so far, ended children included."""
        return {role: sum(map(_cpu_seconds, processes)) for role, processes in self.processes().items()}

    def rss_mb(self) -> dict[str, float]:
        """MB (10^6 bytes) by role."""
        return {role: sum(map(_rss_mb, processes)) for role, processes in self.processes().items()}

    def peak_rss_mb(self) -> dict[str, float]:
        """VmHWM by role, MB. Of Postgres the sum, in which shared memory counts once a process."""
        return {role: sum(map(_peak_mb, processes)) for role, processes in self.processes().items()}

    def sql(self, query: str) -> list[list[Any]]:
        """Ask the engine directly, as an operator would with curl."""
        url = f"http://{_HOST}:{self.ports['clickhouse']}/?default_format=JSONCompactStrings"
        with urllib.request.urlopen(urllib.request.Request(url, data=query.encode()), timeout=120) as answer:
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

    def log_bytes(self) -> int:
        """Bytes of the log's segments on the broker's disk, as used (segments are grown ahead)."""
        files = (self.folder / "kafka" / "log").glob("logstream.*/*.log")
        return sum(file.stat().st_blocks * 512 for file in files)

    def keep(self, role: str, arguments: list[str], environment: Mapping[str, str], port: int, path: str) -> None:
        """Start a process of LogStream under `role` and remember it; it is waited for by `path` answering 200."""
        command = ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, *arguments]
        server = ServerProcess(
            role, keeper.command(command, grace=60), self.folder / f"{role}.log", lambda: _answers(port, path)
        )
        self.servers[role] = server
        self.ports[role] = port
        server.start(120)

    def stop(self) -> None:
        """In the order of the data's way."""
        order = [*_OURS, "postgres", "kafka"]
        for role in sorted(self.servers, key=lambda role: order.index(role.partition("-")[0])):
            self.servers[role].stop()


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICK
    return 0.0


def _rss_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(process.memory_info().rss) / 1e6
    return 0.0


def _peak_mb(process: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{_HOST}:{port}{path}", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def _start(full: Full, each: int) -> None:
    folder = full.folder
    kafka = KafkaServer(
        folder / "kafka", port=harness.free_port(), controller_port=harness.free_port(), log_level="warn"
    )
    kafka.prepare()
    postgres = PostgresServer(folder / "postgres", port=harness.free_port())
    postgres.prepare()
    full.kafka = kafka.bootstrap
    for name, server in (("kafka", kafka), ("postgres", postgres)):
        process = ServerProcess(name, server.arguments(), folder / f"{name}.log", server.is_ready)
        full.servers[name] = process
        process.start()
    postgres.create_database("logstream")
    port = harness.free_port()
    engine = ["-m", "logstream.standalone.engine", "--path", str(folder / "clickhouse"), "--port", str(port)]
    full.keep("clickhouse", engine, {"MALLOC_ARENA_MAX": "2"}, port, "/ping")
    environment = {
        "MALLOC_ARENA_MAX": "2",
        "LOGSTREAM_LOG_FORMAT": "json",
        "LOGSTREAM_RUN_BUS": "kafka",
        "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
        "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "LOGSTREAM_KAFKA_REPLICATION_FACTOR": "1",
        "LOGSTREAM_KAFKA_MIN_INSYNC_REPLICAS": "1",
        "LOGSTREAM_AUTH_URL": postgres.address("logstream"),
        "LOGSTREAM_AUTH_PASSWORD_FILE": str(folder / "postgres" / "password"),
        "LOGSTREAM_STORE_URL": f"http://{_HOST}:{port}",
    }
    login = subprocess.run(
        [
            sys.executable, "-m", "logstream.standalone.full.accounts", "--data", str(folder),
            "--ingest-url", "http://127.0.0.1", "--api-url", "http://127.0.0.1",
        ],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    first = json.loads(login.stdout)
    full.api_key = first["api_key"]
    for service in ("processor", "api", "collector"):
        for number in range(1, each + 1):
            port = harness.free_port()
            prefix = "LOGSTREAM_RUN_HEALTH" if service == "processor" else f"LOGSTREAM_{service.upper()}"
            own = {f"{prefix}_HOST": _HOST, f"{prefix}_PORT": str(port)}
            full.keep(f"{service}-{number}", ["-m", "logstream.run", service], environment | own, port, "/readyz")


@contextlib.contextmanager
def full_up(each: int = 1) -> Iterator[Full]:
    """Everything, ready, in a fresh temporary folder; stopped and removed at the end. each: of every service.

    Settings are the product's defaults for one broker; LOGSTREAM_… variables of the environment reach the services.
    """
    with tempfile.TemporaryDirectory(prefix="logstream-bench-") as folder:
        full = Full(Path(folder))
        # Postgres runs as another user when this one is root.
        full.folder.chmod(0o711)
        try:
            _start(full, each)
            yield full
        except BaseException:
            for log in sorted(full.folder.glob("*.log")):
                tail = log.read_text(errors="replace")[-1500:]
                sys.stderr.write(f"--- {log.name}\n{tail}\n")
            raise
        finally:
            full.stop()


def jobs(full: Full, job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`job` divided by whole batches, one part for each collector, the connections too."""
    ports = full.collector_ports
    batches = -(-job["rows"] // job["rows_per_body"])
    bounds = [batches * number // len(ports) for number in range(len(ports) + 1)]
    return [
        {
            **job, "host": _HOST, "port": port, "path": "/ingest", "batches": bounds[number : number + 2],
            "connections": max(1, job["connections"] // len(ports)),
            "headers": {"Authorization": f"Bearer {full.api_key}", "Content-Type": "application/x-ndjson"},
        }
        for number, port in enumerate(ports)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """What all generators together saw. latencies of the slowest, ms; cpu_seconds: of sending, bodies made before."""

    accepted: int
    statuses: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    sums: dict[str, int]


def send(
    full: Full, job: Mapping[str, Any], *, begun: Callable[[], object] = lambda: None
) -> tuple[Sent, dict[str, float]]:
    """Post `job` to all collectors, one generator each; and every process's CPU seconds right before.

    begun: called when the first requests are on their way.
    """
    loads = [harness.prepare_load(part) for part in jobs(full, job)]
    made = [_cpu_seconds(psutil.Process(load.pid)) for load in loads]
    before = full.cpu()
    for load in loads:
        harness.begin_load(load)
    begun()
    results = []
    spent = 0.0
    for load, cpu in zip(loads, made, strict=True):
        results.append(harness.finish_load(load))
        spent += results[-1]["cpu_seconds"] - cpu
    statuses: dict[str, int] = {}
    sums = dict.fromkeys(("message_crc", "id_crc", "time_sum"), 0)
    for result in results:
        for status, count in result["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
        for name in sums:
            sums[name] += result["sums"][name]
    sent = Sent(
        accepted=sum(r["accepted"] for r in results),
        statuses=statuses,
        seconds=max(r["seconds"] for r in results),
        p50_ms=max(r["p50_ms"] for r in results),
        p99_ms=max(r["p99_ms"] for r in results),
        cpu_seconds=spent,
        sums={"rows": job["rows"], **sums},
    )
    if sent.accepted != job["rows"]:
        raise SystemExit(f"accepted {sent.accepted} of {job['rows']}: {statuses}")
    return sent, before


def spent_since(full: Full, before: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds by role."""
    return {role: round(seconds - before.get(role, 0.0), 2) for role, seconds in full.cpu().items()}


def idle_cpu(full: Full, seconds: float = 10.0) -> dict[str, float]:
    """Percent of one core that each process takes while nothing happens."""
    before = full.cpu()
    time.sleep(seconds)
    return {role: round(100 * used / seconds, 1) for role, used in spent_since(full, before).items()}


def machine() -> dict[str, Any]:
    from confluent_kafka import libversion

    return {**harness.machine(), "librdkafka": libversion()[0], "kafka": "4.1.2", "postgres": "18"}
