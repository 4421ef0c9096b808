"""`logstream collector`, `logstream processor`, `logstream api`: the services run apart. They need the server extra."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from logstream.cli.server import need_server

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings as YAML or JSON; the environment (LOGSTREAM_…) wins over it.")
]
CheckConfig = Annotated[
    bool, typer.Option("--check-config", help="Say whether the settings are right (status 0, else 2) and end.")
]
CheckConnections = Annotated[
    bool, typer.Option("--check-connections", help="The same, and whether what it needs can be reached.")
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print every setting and where it comes from, secrets masked, and end.")
]


def collector(
    config: Config = None,
    check_config: CheckConfig = False,
    check_connections: CheckConnections = False,
    print_config: PrintConfig = False,
) -> None:
    """Run one collector: from HTTP into the log. Run as many as you like behind one address.

    Examples:

      logstream collector --config /etc/logstream/logstream.yaml

      logstream collector --config logstream.yaml --check-config --check-connections
    """
    _become("collector", config, check_config, check_connections, print_config)


def processor(
    config: Config = None,
    check_config: CheckConfig = False,
    check_connections: CheckConnections = False,
    print_config: PrintConfig = False,
) -> None:
    """Run one processor: from the log into ClickHouse. Several share the partitions of each stream.

    Examples:

      logstream processor --config /etc/logstream/logstream.yaml

      logstream processor --print-config
    """
    _become("processor", config, check_config, check_connections, print_config)


def api(
    config: Config = None,
    check_config: CheckConfig = False,
    check_connections: CheckConnections = False,
    print_config: PrintConfig = False,
) -> None:
    """Run one API: search, tail and administration. Run as many as you like behind one address.

    Examples:

      logstream api --config /etc/logstream/logstream.yaml

      logstream api --check-config
    """
    _become("api", config, check_config, check_connections, print_config)


def _become(name: str, config: Path | None, check_config: bool, check_connections: bool, print_config: bool) -> None:
    need_server(name)
    arguments = [name]
    if config is not None:
        arguments += ["--config", str(config)]
    options = {
        "--check-config": check_config, "--check-connections": check_connections, "--print-config": print_config,
    }  # fmt: skip
    arguments += [option for option, given in options.items() if given]
    sys.stdout.flush()
    # The process takes this one's place, without what the command line has in memory; and signals reach it.
    os.execv(sys.executable, [sys.executable, "-m", "logstream.run", *arguments])  # noqa: S606
