"""The three servers under the services: ours, or those that the environment names. Standard library only."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logstream.standalone.child import Command
from logstream.standalone.full import kafka_server, postgres_server, probe
from logstream.standalone.full.kafka_server import KafkaServer
from logstream.standalone.full.output import Bar
from logstream.standalone.full.part import Part
from logstream.standalone.full.ports import LOOPBACK, Ports
from logstream.standalone.full.postgres_server import PostgresServer
from logstream.standalone.pulse import Pulse

KAFKA, POSTGRES, CLICKHOUSE = "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS", "LOGSTREAM_AUTH_URL", "LOGSTREAM_STORE_URL"
"""Whoever sets one of these has such a server, and none is started in its place."""
DATABASE = "logstream"
CLICKHOUSE_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Servers:
    """parts: what is to be started. environment: how the services reach all three servers, foreign ones too."""

    parts: Sequence[Part]
    environment: Mapping[str, str]
    postgres: PostgresServer | None
    kafka: str
    """Addresses as people read them."""
    clickhouse: str
    accounts: str

    def prepare_database(self) -> None:
        """Make the accounts' database in a new Postgres of ours. Raises StartupError."""
        if self.postgres is not None and not self.postgres.has_database(DATABASE):
            self.postgres.create_database(DATABASE)


def is_given(variable: str) -> bool:
    return bool(os.environ.get(variable) or os.environ.get(f"{variable}_FILE"))


def prepare(data: Path, ports: Ports, descriptors: Sequence[int], hang: float | None) -> Servers:
    """Fetch and set up what is to be started in `data`. Raises StartupError.

    descriptors: inherited by each. hang: seconds of silence after which the engine counts as hung; None: never.
    """
    parts: list[Part] = []
    environment: dict[str, str] = {}
    if not is_given(KAFKA):
        kafka = KafkaServer(data / "kafka", port=ports.kafka, controller_port=ports.controller, log_level="warn")
        kafka.prepare(Bar("fetching Kafka"))
        parts.append(
            Part(
                _command("kafka", kafka.command(), descriptors),
                lacks=probe.yes(kafka.is_ready), grace=kafka_server.GRACE,
            )
        )  # fmt: skip
        # One broker: nothing to replicate to.
        environment |= {
            KAFKA: kafka.bootstrap,
            "LOGSTREAM_KAFKA_REPLICATION_FACTOR": "1",
            "LOGSTREAM_KAFKA_MIN_INSYNC_REPLICAS": "1",
        }
    postgres = None
    if not is_given(POSTGRES):
        postgres = PostgresServer(data / "postgres", port=ports.postgres)
        postgres.prepare()
        parts.append(
            Part(
                _command("postgres", postgres.command(), descriptors),
                lacks=probe.yes(postgres.is_ready), stop_signal=postgres_server.STOP_SIGNAL,
                grace=postgres_server.GRACE,
            )
        )  # fmt: skip
        environment |= {
            POSTGRES: postgres.address(DATABASE), "LOGSTREAM_AUTH_PASSWORD": postgres.password,
        }  # fmt: skip
    if not is_given(CLICKHOUSE):
        parts.append(_engine(data, ports.clickhouse, descriptors, hang))
        environment |= {CLICKHOUSE: f"http://{LOOPBACK}:{ports.clickhouse}"}
        if password := os.environ.get("LOGSTREAM_ENGINE_PASSWORD"):
            environment["LOGSTREAM_STORE_PASSWORD"] = password
    return Servers(
        parts=parts,
        environment=environment,
        postgres=postgres,
        kafka=environment.get(KAFKA, f"as {KAFKA} says"),
        clickhouse=environment.get(CLICKHOUSE, f"as {CLICKHOUSE} says"),
        accounts=environment.get(POSTGRES, f"as {POSTGRES} says"),
    )


def _engine(data: Path, port: int, descriptors: Sequence[int], hang: float | None) -> Part:
    arguments = ("-m", "logstream.standalone.engine", "--path", str(data / "clickhouse"), "--host", LOOPBACK,
                 "--port", str(port))  # fmt: skip
    return Part(
        _command("clickhouse", (sys.executable, *arguments), descriptors),
        lacks=probe.ping(LOOPBACK, port),
        pulse=None if hang is None else Pulse((LOOPBACK, port), "/ping", hang),
        grace=CLICKHOUSE_GRACE,
    )


def _command(name: str, words: Sequence[str], descriptors: Sequence[int]) -> Command:
    # glibc gives each thread an arena of its own that rarely shrinks; two are enough.
    environment = {"MALLOC_ARENA_MAX": "2"}
    return Command(
        name=name, arguments=words[1:], environment=environment, descriptors=descriptors, executable=words[0]
    )


__all__ = ["CLICKHOUSE", "DATABASE", "KAFKA", "POSTGRES", "Servers", "is_given", "prepare"]
