"""A whole installation as nine processes that may be killed and frozen at any moment, each started again by a thread.

One real broker, one real Postgres, one engine; two collectors, two processors, two APIs that know nothing of each
other. Every process has a keeper, so that none outlives this one.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from tests.support.ports import free_ports

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.errors import StartupError
from logstream.settings import AuthSettings
from logstream.standalone.full import kafka_server, keeper
from logstream.standalone.full.kafka_server import KafkaServer
from logstream.standalone.full.postgres_server import PostgresServer
from logstream.standalone.full.process import ServerProcess
from logstream.stream import Stream, make_stream

SESSION_SECONDS = 6
"""The shortest that Kafka takes: a processor that stands still longer is a zombie when it goes on."""
INSERT_SECONDS = 8
"""After this time without an answer an INSERT is sent again."""
PARTITIONS = 4
PATIENCE = 240.0
"""Seconds; nine processes start on a machine that may have two cores and other things to do."""
_TERMS = ("accepted", "stored", "deduplicated", "dead_lettered", "in_flight")


class Part:
    """One process of the installation. A thread starts it again, after a moment, whenever it has ended."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, is_ready: Callable[[], bool], seed: int) -> None:
        self.name = name
        self.victim = name.partition("-")[0]
        self.log = log
        self.deaths: list[str] = []
        """Ends that nobody asked for, with the end of the log."""
        self.starts = 0
        self._server = ServerProcess(name, arguments, log, is_ready)
        self._chance = random.Random(f"{seed}/{name}")
        self._killed = False
        self._born = float("inf")
        self._over = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)

    def start(self) -> None:
        """Returns at once; see `wait`."""
        self._thread.start()

    def wait(self, seconds: float = PATIENCE) -> None:
        """Until it runs and answers. Raises TimeoutError with the end of its log."""
        if not self._up.wait(seconds):
            raise TimeoutError(f"{self.name} is not up after {seconds:g} s:\n{self._server.log_tail()}")

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    def kill(self) -> bool:
        """SIGKILL, without waiting; whether there was somebody to kill."""
        return self._send(signal.SIGKILL)

    def freeze(self) -> bool:
        """SIGSTOP to the process and its children."""
        if self._alive() is None:
            return False
        with contextlib.suppress(OSError):
            self._server.pause()
        return True

    def thaw(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._server.resume()

    def _alive(self) -> int | None:
        """The process id, when it is certain whose it is."""
        try:
            pid = self._server.pid
            # While the next one starts, the id may still be the last one's.
            if pid and psutil.Process(pid).create_time() >= self._born - 1:
                return pid
        except (ValueError, psutil.NoSuchProcess):
            pass
        return None

    def _send(self, number: signal.Signals) -> bool:
        pid = self._alive()
        if pid is None:
            return False
        self._killed = True
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _keep(self) -> None:
        while not self._over.is_set():
            self._killed, self._born = False, time.time()
            self.starts += 1
            failure = ""
            try:
                self._server.start()
                self._up.set()
            except (StartupError, OSError, ValueError) as error:
                failure = str(error)
            while self._server.is_running and not self._over.wait(0.02):
                pass
            self._up.clear()
            if self._over.is_set():
                break
            if not self._killed:
                self._tell(failure or self._end())
            # It has ended; this lets its keeper go.
            self._server.kill()
            self._over.wait(self._chance.random() * 0.5)

    def _end(self) -> str:
        return f"{self.name} ended by itself: {self._server.log_tail(12)}"

    def _tell(self, what: str) -> None:
        self.deaths.append(what)
        print(f"  {what}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """For good, in good order."""
        self._over.set()
        self.thaw()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        self._server.stop()


class Installation:
    """Nine parts in `folder`. engine_folder: where the engine keeps its data. `close` it, whatever happened."""

    def __init__(self, folder: Path, engine_folder: Path, seed: int) -> None:
        self.stream: Stream = make_stream("default")
        self.key = ""
        self._folder = folder
        self._seed = seed
        kafka_port, controller, postgres_port, engine_port, *ports = free_ports(10)
        self.collector_ports, self._processor_ports, self.api_ports = ports[:2], ports[2:4], ports[4:]
        self.engine_url = f"http://127.0.0.1:{engine_port}"
        self._kafka = KafkaServer(
            folder / "kafka", port=kafka_port, controller_port=controller, log_level="warn",
            # On a machine that has other things to do, a broker may be slow without being dead.
            overrides={"broker.session.timeout.ms": "6000"},
        )  # fmt: skip
        self._postgres = PostgresServer(folder / "postgres", port=postgres_port)
        self._kafka.prepare()
        self._postgres.prepare()
        # It does not live long enough for the second compiler.
        broker = ["/usr/bin/env", "JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1", *self._kafka.command()]
        self.kafka = self._part("kafka", keeper.command(broker, grace=kafka_server.GRACE), self._kafka.is_ready)
        self.postgres = self._part("postgres", self._postgres.arguments(), self._postgres.is_ready)
        engine = ("-m", "logstream.standalone.engine", "--path", str(engine_folder), "--port", str(engine_port))
        self.clickhouse = self._part(
            "clickhouse", keeper.command([sys.executable, *engine]), lambda: _answers(f"{self.engine_url}/ping")
        )
        self.services = [
            self._service("collector", n, "LOGSTREAM_COLLECTOR_PORT", port)
            for n, port in enumerate(self.collector_ports, 1)
        ] + [
            self._service("processor", n, "LOGSTREAM_RUN_HEALTH_PORT", port)
            for n, port in enumerate(self._processor_ports, 1)
        ] + [
            self._service("api", n, "LOGSTREAM_API_PORT", port) for n, port in enumerate(self.api_ports, 1)
        ]  # fmt: skip
        self.parts = [self.kafka, self.postgres, self.clickhouse, *self.services]

    def _part(self, name: str, arguments: Sequence[str], is_ready: Callable[[], bool]) -> Part:
        return Part(name, arguments, self._folder / f"{name}.log", is_ready, self._seed)

    def _service(self, kind: str, number: int, variable: str, port: int) -> Part:
        # `env` becomes the process itself, so the process id is the service's.
        command = [
            "/usr/bin/env", f"{variable}={port}", "LOGSTREAM_LOG_FORMAT=json", "MALLOC_ARENA_MAX=2",
            sys.executable, "-m", "logstream.run", kind, "--config", str(self._folder / "logstream.yaml"),
        ]  # fmt: skip
        live = f"http://127.0.0.1:{port}/livez"
        return self._part(f"{kind}-{number}", keeper.command(command), lambda: _answers(live))

    def of(self, victim: str) -> list[Part]:
        """collector, processor, api, kafka, postgres or clickhouse."""
        return [part for part in self.parts if part.victim == victim]

    def start(self) -> None:
        """Everything up and ready, with a key that may do everything. Raises TimeoutError."""
        for part in (self.kafka, self.postgres, self.clickhouse):
            part.start()
        self.postgres.wait()
        self._postgres.create_database("logstream")
        self._configure()
        for part in (self.kafka, self.clickhouse):
            part.wait()
        for part in self.services:
            part.start()
        self.wait_ready()
        self.key = asyncio.run(self._make_key())
        self.command(f"ALTER TABLE {self.stream.database}.logs ADD CONSTRAINT poison CHECK message NOT LIKE 'poison%'")

    def _configure(self) -> None:
        config = {
            "run": {"admin_email": "ann@example.com", "admin_password": "a long enough one", "drain_seconds": 0},
            "kafka": {
                "bootstrap_servers": self._kafka.bootstrap, "partitions": PARTITIONS, "replication_factor": 1,
                "min_insync_replicas": 1, "session_timeout_seconds": SESSION_SECONDS,
                "rebalance_timeout_seconds": 20, "delivery_timeout_seconds": 5, "request_timeout_seconds": 5,
            },
            "auth": {"url": self._postgres.url("logstream")},
            "store": {"url": self.engine_url, "insert_timeout_seconds": INSERT_SECONDS},
            # Small INSERTs, so that many are under way when something dies.
            "processor": {"flush_seconds": 0.1, "revoke_seconds": 5, "max_rows": 5_000},
        }  # fmt: skip
        path = self._folder / "logstream.yaml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(config, file)

    async def _make_key(self) -> str:
        accounts = await Accounts.open(AuthSettings(url=self._postgres.url("logstream")))
        try:
            (admin,) = await accounts.users.list()
            made = await accounts.create_key(
                "chaos", scopes=(Scope.INGEST, Scope.READ, Scope.ADMIN), owner_id=admin.id, stream=self.stream.name
            )
        finally:
            await accounts.close()
        return made.text

    def unready(self) -> list[str]:
        """Services that are not ready, with what they say."""
        ports = [*self.collector_ports, *self._processor_ports, *self.api_ports]
        found = []
        for part, port in zip(self.services, ports, strict=True):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
                    pass
            except urllib.error.HTTPError as error:
                found.append(f"{part.name}: {error.read().decode(errors='replace')[:300]}")
            except OSError as error:
                found.append(f"{part.name}: {error}")
        return found

    def wait_ready(self, seconds: float = PATIENCE) -> None:
        """Raises TimeoutError with who is not ready, and why."""
        deadline = time.monotonic() + seconds
        while found := self.unready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {seconds:g} s: {found}")
            time.sleep(0.2)

    # Asking

    def command(self, sql: str) -> bytes:
        """Of the engine itself. Raises OSError."""
        with urllib.request.urlopen(self.engine_url, sql.encode(), timeout=120) as answer:
            return bytes(answer.read())

    def ask(self, api: int, path: str, *, post: bool = False, seconds: float = 60.0) -> bytes:
        """Of one of the APIs (0, 1). Raises OSError."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_ports[api]}{path}", headers={"Authorization": f"Bearer {self.key}"},
            method="POST" if post else "GET",
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise OSError(f"{path}: {error.code} {error.read(1_000)!r}") from None

    def ledger(self, api: int) -> dict[str, Any]:
        """GET /api/v1/ledger. Raises OSError."""
        answer: dict[str, Any] = json.loads(self.ask(api, "/api/v1/ledger"))
        return answer

    def verify(self, api: int) -> dict[str, Any] | None:
        """POST /api/v1/ledger/verify; None when it could not be told. Raises OSError."""
        lines = self.ask(api, "/api/v1/ledger/verify", post=True, seconds=300).splitlines()
        last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return last.get("verification")

    def close(self) -> None:
        """Stop the services, then the servers. Leaves nothing behind."""
        for group in (self.services, [self.clickhouse, self.kafka, self.postgres]):
            threads = [threading.Thread(target=part.stop) for part in group]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def events(self) -> Counter[str]:
        """Errors in the services' logs, counted by part and event, and tracebacks."""
        found: Counter[str] = Counter()
        for part in [self.clickhouse, *self.services]:
            if not part.log.exists():
                continue
            for line in part.log.read_text(errors="replace").splitlines():
                if line.startswith("Traceback") or "Fatal Python error" in line:
                    found[f"{part.victim}: {line[:80]}"] += 1
                elif line.startswith("{"):
                    with contextlib.suppress(ValueError):
                        event = json.loads(line)
                        if event.get("level") in {"error", "critical"}:
                            found[f"{part.victim}: {event.get('event')}"] += 1
        return found


def balanced(total: dict[str, int]) -> bool:
    """The ledger's equation."""
    accepted, *ends = (total[term] for term in _TERMS)
    return accepted == sum(ends)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


__all__ = ["INSERT_SECONDS", "PATIENCE", "SESSION_SECONDS", "Installation", "Part", "balanced"]
