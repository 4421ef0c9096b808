"""Which port each process of the full installation has; found free before anything is started.

Standard library only.
"""

import contextlib
from dataclasses import dataclass

from logstream.standalone import preflight
from logstream.standalone.full.options import SECOND, FullOptions

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """One number for each process; those of a server that is not ours to start are 0."""

    collectors: tuple[int, int]
    apis: tuple[int, int]
    processors: tuple[int, int]
    clickhouse: int
    kafka: int
    controller: int
    postgres: int


def choose(options: FullOptions, *, kafka: bool, postgres: bool, clickhouse: bool) -> Ports:
    """Ports that are free now. Raises StartupError, which names the option of one that is not.

    kafka, postgres, clickhouse: whether it is ours to start.
    """
    with contextlib.ExitStack() as held:

        def free(host: str, port: int, name: str) -> int:
            # Held until all are chosen, so that the system does not choose one twice.
            sock = held.enter_context(preflight.listen(host, port, name))
            return int(sock.getsockname()[1])

        def two(host: str, port: int, name: str) -> tuple[int, int]:
            return free(host, port, name), free(host, port + SECOND if port else 0, name)

        return Ports(
            collectors=two(options.host, options.collector_port, "--collector-port"),
            apis=two(options.host, options.api_port, "--api-port"),
            processors=two(LOOPBACK, options.processor_port, "--processor-port"),
            clickhouse=free(LOOPBACK, options.clickhouse_port, "--clickhouse-port") if clickhouse else 0,
            kafka=free(LOOPBACK, options.kafka_port, "--kafka-port") if kafka else 0,
            controller=free(LOOPBACK, options.controller_port, "--controller-port") if kafka else 0,
            postgres=free(LOOPBACK, options.postgres_port, "--postgres-port") if postgres else 0,
        )
