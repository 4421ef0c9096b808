"""What `logstream up-full` is told, and how it reaches the supervisor's own process. Standard library only."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from logstream.errors import StartupError

DEFAULT_DATA = Path("logstream-data/full")
SECOND = 10
"""The second process of a service listens this far above the first."""


@dataclass(frozen=True, slots=True)
class FullOptions:
    """Arguments of `logstream up-full`.

    data: folder of everything that is kept. host: address of collectors and APIs; the rest stays on loopback.
    Each port of a service is that of its first process, the second listens ten above; 0: all are chosen by the
    system. processor_port is for probes and metrics.
    """

    data: Path = DEFAULT_DATA
    host: str = "127.0.0.1"
    collector_port: int = 8080
    api_port: int = 8081
    processor_port: int = 8082
    clickhouse_port: int = 8123
    kafka_port: int = 9092
    controller_port: int = 9093
    postgres_port: int = 5433

    def arguments(self) -> list[str]:
        """As arguments that `parse` reads back."""
        return [text for field in fields(self) for text in (_option(field.name), str(getattr(self, field.name)))]


def parse(arguments: Sequence[str]) -> FullOptions:
    """The options in `arguments`; a wrong one ends the process with status 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="logstream up-full")
    for field in fields(FullOptions):
        kind = {"data": Path, "host": str}.get(field.name, int)
        parser.add_argument(_option(field.name), type=kind, default=field.default)
    return FullOptions(**vars(parser.parse_args(arguments)))


def check(options: FullOptions) -> None:
    """Raises StartupError for ports that cannot be, or are given twice."""
    given: dict[int, str] = {}
    for field in fields(options):
        if not field.name.endswith("_port"):
            continue
        first = int(getattr(options, field.name))
        is_service = field.name in {"collector_port", "api_port", "processor_port"}
        for port in (first, first + SECOND) if is_service and first else (first,):
            name = _option(field.name) + (f" (second process: {port})" if port != first else "")
            if not 0 <= port <= 65_535:
                raise StartupError(f"{_option(field.name)} must be between 0 and 65535, not {port}")
            if port and port in given:
                raise StartupError(f"{name} and {given[port]} must differ, not both be {port}")
            given[port] = name


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
