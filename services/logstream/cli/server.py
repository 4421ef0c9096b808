"""`logstream up`, `logstream clickhouse`: the processes that serve. They need the server extra."""

import os
import sys
from importlib import util
from pathlib import Path
from typing import Annotated

import typer

from logstream.cli.failure import Failure
from logstream.standalone.options import DEFAULT_DATA, UpOptions


def up(
    data: Annotated[Path, typer.Option("--data", help="Folder of everything that is kept.")] = DEFAULT_DATA,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    collector_port: Annotated[int, typer.Option("--collector-port", min=0, max=65_535)] = 8080,
    api_port: Annotated[int, typer.Option("--api-port", min=0, max=65_535)] = 8081,
    clickhouse_port: Annotated[
        int, typer.Option("--clickhouse-port", min=0, max=65_535, help="On loopback, whatever --host is.")
    ] = 8123,
    retention_days: Annotated[
        int | None,
        typer.Option(
            "--retention-days", min=1, max=10_950, help="Keep logs this long. Default: as before; 30 at first."
        ),
    ] = None,
    signup: Annotated[
        bool | None,
        typer.Option("--open-signup/--no-signup", help="Let people sign up. Default: only when on loopback."),
    ] = None,
) -> None:
    """Run the whole platform on this machine until Ctrl-C. A port of 0 is chosen by the system.

    Examples:

      logstream up

      logstream up --data /var/lib/logstream --host 0.0.0.0 --retention-days 14
    """
    need_server("up")
    options = UpOptions(data, host, collector_port, api_port, clickhouse_port, retention_days, signup)
    sys.stdout.flush()
    # The supervisor takes this process's place, without what the command line has in memory.
    os.execv(sys.executable, [sys.executable, "-m", "logstream.standalone.up", *options.arguments()])  # noqa: S606


def clickhouse(
    path: Annotated[Path, typer.Option("--data", help="Folder of the tables.")] = DEFAULT_DATA / "clickhouse",
    host: Annotated[str, typer.Option("--host", help="There is no authentication: stay on loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535)] = 8123,
) -> None:
    """Serve the ClickHouse engine alone. On ClickHouse's HTTP interface.

    Examples:

      logstream clickhouse --data ./tables

      curl 'http://127.0.0.1:8123/?query=SELECT+version()'
    """
    need_server("clickhouse")
    arguments = ["--path", str(path), "--host", host, "--port", str(port)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "logstream.standalone.engine", *arguments])  # noqa: S606


def need_server(command: str) -> None:
    """Raises Failure where the server extra is not installed."""
    for package in ("chdb", "uvloop", "fastapi", "sqlalchemy", "alembic", "asyncpg", "confluent_kafka", "yaml"):
        if util.find_spec(package) is None:
            raise Failure(
                f"`logstream {command}` needs the package {package}; "
                "install it with: pip install 'logstream-platform[all]'"
            )
