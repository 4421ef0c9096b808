"""The engine process: configuration, connections, server, and how it ends."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import uvloop

from logstream import logs, web
from logstream.errors import StartupError
from logstream.settings import EngineSettings
from logstream.standalone.engine import config, library
from logstream.standalone.engine.app import Application
from logstream.standalone.engine.connection import Connection
from logstream.standalone.engine.guard import Guard
from logstream.standalone.engine.pool import Lane, Lease

_READ_SECONDS = 2.0
"""After a signal to stop, statements that read may take this long to end by themselves."""
_SHUTDOWN_SECONDS = 10.0
"""And inserts this long."""


def run(
    settings: EngineSettings, *, stop_on_stdin_eof: bool = False, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve the engine until SIGTERM, SIGINT or, if asked, the end of standard input. Blocks.

    on_ready: called with the address once `/ping` answers. Raises StartupError: folder not usable or in use by
    another instance, address not to be had.
    """
    lock = _lock(settings.path)
    try:
        sock = web.listen(settings.host, settings.port)
        with contextlib.closing(sock):
            uvloop.run(_main(settings, sock, stop_on_stdin_eof, on_ready))
    finally:
        lock.close()


def _lock(path: Path) -> IO[str]:
    """The data folder for this process alone."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "logstream.lock").open("a+")
    except OSError as error:
        raise StartupError(f"cannot use the data folder {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StartupError(f"another instance is already running on the data folder {path}") from error
    return lock


async def _main(
    settings: EngineSettings, sock: socket.socket, stop_on_stdin_eof: bool, on_ready: Callable[[str], None] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if stop_on_stdin_eof:
        _watch_stdin(loop, stop)
    host, port = sock.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _quiet_uvicorn()
    engine = await asyncio.to_thread(Engine, settings)
    log = logs.get_logger("engine")

    def ready() -> None:
        # A supervisor has words of its own for a person.
        (log.debug if stop_on_stdin_eof else log.info)("serving", url=url, path=str(settings.path))
        if on_ready is not None:
            on_ready(url)

    async def cancel_reads() -> None:
        await stop.wait()
        await asyncio.sleep(_READ_SECONDS)
        engine.app.cancel_reads()

    canceller = asyncio.create_task(cancel_reads())
    try:
        await web.serve(engine.app, sock, stop, ready=ready, shutdown_timeout=_SHUTDOWN_SECONDS)
    finally:
        canceller.cancel()
        await engine.app.settle()
        await asyncio.to_thread(engine.close)
        (log.debug if stop_on_stdin_eof else log.info)("stopped")


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop at the end of standard input: a supervisor that dies in any way closes its end of the pipe."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


class Engine:
    """The open engine: all connections and the application over them. Blocking. Raises StartupError."""

    def __init__(self, settings: EngineSettings) -> None:
        data = settings.path.resolve()
        file, users = data / "logstream-config.xml", data / "logstream-users.xml"
        users.write_text(config.users_config())
        file.write_text(config.server_config(settings, users=users))
        try:
            address = config.connection_string(data / "data", file)
        except ValueError as error:
            raise StartupError(str(error)) from error
        connect = library.load()
        defaults = config.statement_defaults(settings)

        def lease(name: str, extra: Mapping[str, str]) -> Lease:
            return Lease(
                Connection(lambda: connect(address), name, defaults={**defaults, **extra}, forced=config.FORCED)
            )

        try:
            self._killer = lease("logstream-killer", {})
            stored = any((data / "data" / "metadata" / "default").glob("*.sql"))
            self._killer.connection.plain_default_database(has_tables=stored)
        except Exception as error:
            raise StartupError(f"the engine cannot open its data in {data}: {error}") from error
        inserts = max(1, settings.connections // 4)
        self._inserts = Lane(
            [lease(f"logstream-insert-{i}", config.INSERT_DEFAULTS) for i in range(inserts)],
            max_waiting=settings.max_waiting,
        )
        self._reads = Lane(
            [lease(f"logstream-read-{i}", {}) for i in range(settings.connections - inserts)],
            max_waiting=settings.max_waiting,
        )
        self.app = Application(
            inserts=self._inserts, reads=self._reads, killer=self._killer, timezone=config.TIMEZONE,
            guard=Guard(
                listen=settings.host, hosts=settings.hosts, password=settings.password.get_secret_value()
            ),
            max_body_bytes=settings.max_body_bytes, max_pending_bytes=settings.max_pending_bytes,
        )  # fmt: skip

    def close(self) -> None:
        """Close all connections. Nothing may run any more."""
        for lease in (*self._reads.leases, *self._inserts.leases, self._killer):
            lease.close()


def _quiet_uvicorn() -> None:
    """Its start and stop concern nobody, and an answer broken off on purpose (an exception mid-stream) is no error."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )


def fail(error: StartupError) -> int:
    """Tell a person why there was no start; the exit status."""
    sys.stderr.write(f"{error.message}\n")
    return 1
