"""All services apart, two of each, on a real Kafka, a real Postgres and the engine: restarted in turn under load."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support.balancer import Balancer
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.ports import free_ports
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.run import PATIENT, Service, run, services
from tests.support.up import PATIENCE, eventually

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.client import Client
from logstream.settings import AuthSettings
from logstream.stream import Stream, make_stream

CLIENTS = 3


@dataclass
class Installation:
    engine: EngineProcess
    stream: Stream
    environ: dict[str, str]
    collectors: list[Service]
    processors: list[Service]
    apis: list[Service]

    def count(self, what: str) -> int:
        sql = f"SELECT {what} FROM {self.stream.database}.logs FORMAT TSV"
        with urllib.request.urlopen(self.engine.url, sql.encode(), timeout=PATIENCE) as answer:
            return int(answer.read())

    async def key(self) -> str:
        accounts = await Accounts.open(AuthSettings(url=self.environ["LOGSTREAM_AUTH_URL"]))
        try:
            (admin,) = await accounts.users.list()
            made = await accounts.create_key(
                "k", scopes=(Scope.INGEST, Scope.READ), owner_id=admin.id, stream=self.stream.name
            )
        finally:
            await accounts.close()
        return made.text


@pytest.fixture
def installation(
    tmp_path: Path, engine: EngineProcess, kafka: Kafka | ForeignKafka, postgres: Postgres | ForeignPostgres
) -> Iterator[Installation]:
    # A stream, and so topics and a database, of this test's own.
    unique = uuid4().hex
    stream = make_stream("default", namespace="e2e", generation=unique)
    path = tmp_path / "logstream.yaml"
    password = tmp_path / "password"
    password.write_text("a long enough one\n")
    environ = {
        "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "LOGSTREAM_AUTH_URL": postgres.url(),
        "LOGSTREAM_STORE_URL": engine.url,
        "LOGSTREAM_RUN_ADMIN_PASSWORD_FILE": str(password),
    }
    # One file for all of them, as a ConfigMap would be.
    stream_entry = {"name": "default", "namespace": "e2e", "generation": unique}
    config = {
        "run": {"streams": [stream_entry], "admin_email": "ann@example.com", "drain_seconds": 1},
        "kafka": {"partitions": 2, "replication_factor": 1, "min_insync_replicas": 1},
    }
    path.write_text(json.dumps(config))
    collector_ports, api_ports = free_ports(2), free_ports(2)
    with services() as started:

        def start(kind: str, **own: str) -> Service:
            service = Service(kind, tmp_path, {**environ, **own}, "--config", str(path))
            started.append(service)
            return service

        made = Installation(
            engine,
            stream,
            environ,
            [start("collector", LOGSTREAM_COLLECTOR_PORT=str(port)) for port in collector_ports],
            [start("processor") for _ in range(2)],
            [start("api", LOGSTREAM_API_PORT=str(port)) for port in api_ports],
        )
        for service in started:
            service.ready()
        yield made


class Writer(threading.Thread):
    """A program that logs numbered lines with the client, as its documentation says."""

    def __init__(self, number: int, url: str, key: str) -> None:
        super().__init__(name=f"writer-{number}")
        self._number = number
        self.problems: list[str] = []
        self.client = Client(
            service="shop", url=url, api_key=key, flush_seconds=0.1, batch_records=50, on_problem=self.problems.append
        )
        self.over = threading.Event()
        self.sent = 0
        self.complete = False

    def run(self) -> None:
        while not self.over.wait(0.05):
            for _ in range(10):
                self.client.send(f"client {self._number} line {self.sent}")
                self.sent += 1
        self.complete = self.client.close(PATIENT)


class Reader(threading.Thread):
    """Reads through the restarts; an answer of 503 or a closed connection is asked again, as documented."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(name="reader")
        self._request = urllib.request.Request(f"{url}/logs?limit=10", headers={"Authorization": f"Bearer {key}"})
        self.over = threading.Event()
        self.answers = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.over.wait(0.1):
            for attempt in range(20):
                try:
                    with urllib.request.urlopen(self._request, timeout=PATIENCE) as answer:
                        json.loads(answer.read())
                        self.answers += 1
                    break
                except urllib.error.HTTPError as error:
                    if error.code != 503 or attempt == 19:
                        self.failures.append(f"{error.code} {error.read()!r}")
                        break
                except (OSError, ValueError) as error:
                    if attempt == 19:
                        self.failures.append(repr(error))
                time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_service_is_restarted_in_turn_under_load(installation: Installation) -> None:
    key = await installation.key()
    collectors, apis = installation.collectors, installation.apis
    with (
        Balancer([service.port() for service in collectors]) as ingest,
        Balancer([service.port() for service in apis]) as reads,
    ):
        writers = [Writer(number, ingest.url, key) for number in range(CLIENTS)]
        reader = Reader(reads.url, key)
        for thread in (*writers, reader):
            thread.start()
        try:
            eventually(lambda: installation.count("count()") > 0, "something is stored", PATIENT)
            gracefully = [(service, True) for service in (*collectors, *installation.processors, *apis)]
            # And without a word, so that answers are lost and the retry has something to heal.
            for service, graceful in (*gracefully, (collectors[0], False), (installation.processors[0], False)):
                before = sum(writer.client.stats().accepted for writer in writers)
                if graceful:
                    assert service.stop() == 0, service.log
                service.close()
                service.start().ready()
                eventually(
                    lambda before=before: sum(w.client.stats().accepted for w in writers) > before,  # type: ignore[misc]
                    "lines are accepted meanwhile",
                    PATIENT,
                )
        finally:
            for thread in (*writers, reader):
                thread.over.set()
            for thread in (*writers, reader):
                thread.join(PATIENT)
        sent = sum(writer.sent for writer in writers)
        for writer in writers:
            stats = writer.client.stats()
            assert writer.complete, (stats, writer.problems)
            assert (stats.rejected, stats.dropped, stats.pending) == (0, 0, 0), (stats, writer.problems)
        assert reader.failures == []
        assert reader.answers > 0
        eventually(lambda: installation.count("count()") >= sent, "everything is stored", PATIENT)
        # Nothing doubled, nothing lost.
        assert installation.count("uniqExact(message)") == sent
        assert installation.count("count()") == sent
        assert installation.count("uniqExact(incarnation, partition, offset, row)") == sent

        def balanced() -> bool:
            books = ledger(reads.url, key)
            stored = sum(entry["stored"] for entry in books)
            rest = sum(entry["deduplicated"] + entry["dead_lettered"] + entry["in_flight"] for entry in books)
            return stored == sent and sum(entry["accepted"] for entry in books) == stored + rest

        eventually(balanced, "the ledger balances", PATIENT)


def ledger(url: str, key: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{url}/api/v1/ledger", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        books = json.loads(answer.read())
    keys: list[dict[str, Any]] = books["keys"]
    return keys


@pytest.mark.timeout(600)
def test_connections_of_a_whole_installation_are_checked(installation: Installation, tmp_path: Path) -> None:
    config = str(tmp_path / "logstream.yaml")
    for kind in ("collector", "processor", "api"):
        done = run(kind, installation.environ, "--config", config, "--check-connections")
        assert (done.returncode, done.stderr.strip()) == (
            0,
            f"logstream: the settings of `logstream {kind}` are right, and all is reached",
        )
