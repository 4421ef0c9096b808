"""Two of each of LogStream's services, as processes that know nothing of each other. Standard library only."""

import os
import sys
from collections.abc import Mapping, Sequence

from logstream.standalone.child import Command
from logstream.standalone.full import probe
from logstream.standalone.full.part import Part
from logstream.standalone.full.ports import LOOPBACK, Ports
from logstream.standalone.pulse import Pulse, reachable

GRACE = 60.0
"""Longer than LOGSTREAM_RUN_SHUTDOWN_SECONDS, after which a service stops by itself."""

_TUNABLE = {
    # Nobody balances between the two here, so nobody has to notice first that one goes.
    "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
}
"""What may be set otherwise in the environment."""


class Services:
    """collectors, processors, apis: two parts each.

    servers: the environment that says where Kafka, Postgres and ClickHouse are. host: where collectors and APIs
    listen. hang: as for the engine.
    """

    def __init__(
        self,
        host: str,
        ports: Ports,
        servers: Mapping[str, str],
        descriptors: Sequence[int],
        *,
        ingest_url: str,
        hang: float | None,
        is_terminal: bool,
    ) -> None:
        self._servers = servers
        self._descriptors = descriptors
        self._hang = hang
        self._tunable = {**_TUNABLE, "LOGSTREAM_LOG_FORMAT": "text" if is_terminal else "json"}
        self.collectors = [
            self._part(
                "collector", number, (reachable(host), port),
                {"LOGSTREAM_COLLECTOR_HOST": host, "LOGSTREAM_COLLECTOR_PORT": str(port)},
            )
            for number, port in enumerate(ports.collectors, 1)
        ]  # fmt: skip
        self.processors = [
            self._part(
                "processor", number, (LOOPBACK, port),
                {"LOGSTREAM_RUN_HEALTH_HOST": LOOPBACK, "LOGSTREAM_RUN_HEALTH_PORT": str(port)},
            )
            for number, port in enumerate(ports.processors, 1)
        ]  # fmt: skip
        self.apis = [
            self._part(
                "api", number, (reachable(host), port),
                {"LOGSTREAM_API_HOST": host, "LOGSTREAM_API_PORT": str(port), "LOGSTREAM_API_INGEST_URL": ingest_url},
            )
            for number, port in enumerate(ports.apis, 1)
        ]  # fmt: skip

    def all(self) -> list[Part]:
        return [*self.collectors, *self.processors, *self.apis]

    def _part(self, service: str, number: int, address: tuple[str, int], own: Mapping[str, str]) -> Part:
        free = {name: value for name, value in self._tunable.items() if name not in os.environ}
        command = Command(
            name=f"{service}-{number}",
            arguments=("-m", "logstream.run", service),
            environment={"MALLOC_ARENA_MAX": "2", "LOGSTREAM_RUN_BUS": "kafka", **free, **self._servers, **own},
            descriptors=self._descriptors,
            executable=sys.executable,
        )
        return Part(
            command,
            lacks=probe.readyz(*address),
            pulse=None if self._hang is None else Pulse(address, "/livez", self._hang),
            grace=GRACE,
        )
