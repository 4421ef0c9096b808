"""The frame of every process: its ports, probes, certificate, and the order in which it ends."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from logstream import logs, web
from logstream.run.dependencies import Stopped
from logstream.run.front import Front, Probes
from logstream.run.lifecycle import Lifecycle
from logstream.run.readiness import Readiness
from logstream.run.tls import Certificates
from logstream.settings import RunSettings, TlsSettings

_log = logs.get_logger("process")


class Process:
    """One process. `listen` first, so that a port in use or a wrong certificate ends it before anything is opened."""

    def __init__(self, settings: RunSettings, *dependencies: str, default_health_port: int | None = None) -> None:
        """dependencies: names in /readyz. Raises StartupError when the port for probes cannot be had."""
        self.readiness = Readiness(*dependencies)
        self.lifecycle = Lifecycle(self.readiness, settings.drain_seconds)
        self._settings = settings
        self._served: list[tuple[Front, socket.socket, Certificates | None]] = []
        port = default_health_port if settings.health_port is None else settings.health_port
        self._health = None if port is None else _listen(settings.health_host, port, "probes")

    def listen(self, host: str, port: int, tls: TlsSettings, *, header_timeout: float = 10.0) -> Front:
        """The process's own port; the application comes with `Front.attach`. Raises StartupError."""
        certificates = None if tls.cert_file is None else Certificates(tls)
        front = Front(
            self.readiness, header_timeout=header_timeout, shutdown_timeout=self._settings.shutdown_seconds,
            details=self._health is None,
        )  # fmt: skip
        self._served.append((front, _listen(host, port, "requests", tls=certificates is not None), certificates))
        return front

    @contextlib.asynccontextmanager
    async def closing(self) -> AsyncIterator[contextlib.AsyncExitStack]:
        """What was opened is closed in the end; a stop before everything was there ends the block in silence."""
        async with contextlib.AsyncExitStack() as stack:
            with contextlib.suppress(Stopped):
                yield stack

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Serve, and do `work` until it ends after `lifecycle.stop`. Raises what it raises."""
        over = asyncio.Event()

        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                if self._health is not None:
                    tasks.create_task(web.serve(Probes(self.readiness), self._health, over, shutdown_timeout=1))
                for front, sock, certificates in self._served:
                    tasks.create_task(front.serve(sock, certificates.context if certificates else None))
                    if certificates is not None:
                        tasks.create_task(certificates.watch(over))
                try:
                    await work()
                finally:
                    over.set()
                    for front, _, _ in self._served:
                        front.close()

        def is_serving() -> bool:
            return any(front.is_attached for front, _, _ in self._served)

        await self.lifecycle.run(main(), is_serving=is_serving)


def _listen(host: str, port: int, what: str, *, tls: bool = False) -> socket.socket:
    sock = web.listen(host, port)
    address, chosen, *_ = sock.getsockname()
    # Said also for people and tests that let the system choose the port.
    _log.info("listening", to=what, host=address, port=chosen, tls=tls)
    return sock
