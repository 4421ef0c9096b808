"""`logstream up-full`: one machine with the real servers. It needs the server extra, Java and Maven."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from logstream.cli.server import need_server
from logstream.standalone.full.options import DEFAULT_DATA, FullOptions

_PORT = {"min": 0, "max": 65_535}


def up_full(
    data: Annotated[Path, typer.Option("--data", help="Folder of everything that is kept.")] = DEFAULT_DATA,
    host: Annotated[str, typer.Option("--host", help="Of collectors and APIs; 0.0.0.0 is all.")] = "127.0.0.1",
    collector_port: Annotated[
        int, typer.Option("--collector-port", **_PORT, help="The second collector's is ten above.")
    ] = 8080,
    api_port: Annotated[int, typer.Option("--api-port", **_PORT, help="The second API's is ten above.")] = 8081,
    processor_port: Annotated[
        int, typer.Option("--processor-port", **_PORT, help="Of its probes and metrics; the second's is ten above.")
    ] = 8082,
    clickhouse_port: Annotated[
        int, typer.Option("--clickhouse-port", **_PORT, help="On loopback, as are the next.")
    ] = 8123,
    kafka_port: Annotated[int, typer.Option("--kafka-port", **_PORT, help="On loopback.")] = 9092,
    controller_port: Annotated[int, typer.Option("--controller-port", **_PORT, help="Kafka's own.")] = 9093,
    postgres_port: Annotated[int, typer.Option("--postgres-port", **_PORT, help="On loopback.")] = 5433,
) -> None:
    """Run it all on Kafka, Postgres and ClickHouse's engine.

    Two of each service and the servers they need, on this machine, until Ctrl-C.

    Kafka is fetched the first time (43 MB) and needs Java and Maven. A server that LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS,
    LOGSTREAM_AUTH_URL or LOGSTREAM_STORE_URL names is used instead of one of ours. A port of 0 is chosen by the
    system.

    Examples:

      logstream up-full

      LOGSTREAM_STORE_URL=http://clickhouse:8123 logstream up-full
    """
    need_server("up-full")
    options = FullOptions(
        data, host, collector_port, api_port, processor_port, clickhouse_port, kafka_port, controller_port,
        postgres_port,
    )  # fmt: skip
    sys.stdout.flush()
    # The supervisor takes this process's place, without what the command line has in memory.
    os.execv(sys.executable, [sys.executable, "-m", "logstream.standalone.full.up", *options.arguments()])  # noqa: S606
