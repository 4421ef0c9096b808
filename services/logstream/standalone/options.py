"""What `logstream up` is told, and how it reaches the supervisor's own process.

Only the standard library is imported here: the supervisor stays small because it knows nothing else.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DATA = Path("logstream-data")


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Arguments of `logstream up`.

    data: folder of everything that is kept. host: address of the collector and the API; the engine stays on
    loopback. A port of 0 is chosen by the system. retention_days: None leaves what the stream has (30 at
    first). signup: None allows it on loopback only.
    """

    data: Path = DEFAULT_DATA
    host: str = "127.0.0.1"
    collector_port: int = 8080
    api_port: int = 8081
    clickhouse_port: int = 8123
    retention_days: int | None = None
    signup: bool | None = None

    def arguments(self) -> list[str]:
        """As arguments that `parse` reads back."""
        arguments = [
            "--data", str(self.data), "--host", self.host, "--collector-port", str(self.collector_port),
            "--api-port", str(self.api_port), "--clickhouse-port", str(self.clickhouse_port),
        ]  # fmt: skip
        if self.retention_days is not None:
            arguments += ["--retention-days", str(self.retention_days)]
        if self.signup is not None:
            arguments.append("--open-signup" if self.signup else "--no-signup")
        return arguments


def parse(arguments: Sequence[str]) -> UpOptions:
    """The options in `arguments`; a wrong one ends the process with status 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="logstream up")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--collector-port", type=int, default=8080)
    parser.add_argument("--api-port", type=int, default=8081)
    parser.add_argument("--clickhouse-port", type=int, default=8123)
    parser.add_argument("--retention-days", type=int)
    parser.add_argument("--open-signup", dest="signup", action="store_const", const=True)
    parser.add_argument("--no-signup", dest="signup", action="store_const", const=False)
    return UpOptions(**vars(parser.parse_args(arguments)))
