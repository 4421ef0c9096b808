"""The application process of `logstream up`: collector, processor and API in one event loop.

Started by the supervisor, which owns the listening sockets; tells it by a line of JSON on standard
output when everything works ("ready"; ingestion does long before), and stops when standard input ends.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logstream import api, collector, logs, metrics, processor
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.quota import QuotaLimiter
from logstream.bus.sqlite import SqliteBus
from logstream.clock import Clock, SystemClock
from logstream.errors import LogStreamError
from logstream.run.lifecycle import failed, freeze
from logstream.run.processing import bounded
from logstream.run.provision import Provisioner
from logstream.run.streams import PreparedStreams
from logstream.settings import (
    ApiSettings,
    AuthSettings,
    BusSettings,
    CollectorSettings,
    EngineSettings,
    ProcessorSettings,
    StoreSettings,
)
from logstream.standalone import first_login
from logstream.standalone.banner import url
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

STREAM = "default"
RETENTION_DAYS = 30
DRAIN_SECONDS = 20.0
"""How long a stopping process goes on storing what the log has; the rest waits there for the next start."""

_log = logs.get_logger("app")


def _store_settings(clickhouse_url: str) -> StoreSettings:
    """The embedded engine at `clickhouse_url`, with the password it was given unless the store has one of its own."""
    settings = StoreSettings(url=clickhouse_url)
    password = EngineSettings().password
    has_own = bool(settings.password.get_secret_value())
    return settings if has_own else settings.model_copy(update={"password": password})


def _processor_settings() -> ProcessorSettings:
    """One log, one partition: INSERTs are large enough at any rate, and larger ones would leave more rows in parts that
    wait for the merge which builds their indexes."""
    settings = ProcessorSettings()
    if "busy_rows" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"busy_rows": 2**31})


@dataclass(frozen=True, slots=True)
class AppOptions:
    """data: folder of log and accounts. collector, api: listening sockets. retention_days, signup: as in
    `UpOptions`."""

    data: Path
    host: str
    collector: socket.socket
    api: socket.socket
    clickhouse_url: str
    retention_days: int | None = None
    signup: bool | None = None


class App:
    """The parts, and how they depend on each other when they stop."""

    def __init__(self, options: AppOptions, clock: Clock) -> None:
        self._options = options
        self._bus_settings = BusSettings(path=options.data / "bus")
        self._clock = clock
        self._stop = asyncio.Event()
        # The collector first, the reading side last: nothing is accepted any more, then it is stored, and
        # until the end it can be read.
        self._stop_collector = asyncio.Event()
        self._stop_processor = asyncio.Event()
        self._stop_readers = asyncio.Event()
        self._served: set[Stream] = set()

    def stop(self) -> None:
        """Begin to stop. Idempotent."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`. Raises StartupError, and whatever ends one of the parts."""
        options, clock = self._options, self._clock
        async with contextlib.AsyncExitStack() as stack:
            bus = await SqliteBus.open(self._bus_settings, clock)
            stack.push_async_callback(bus.close)
            accounts = await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{options.data / 'auth.db'}"), clock)
            stack.push_async_callback(accounts.close)
            store = await Store.connect(_store_settings(options.clickhouse_url))
            stack.push_async_callback(store.close)
            accounts.on_retention_change(store.set_retention)
            provisioner = Provisioner(bus, store, accounts, served=self._served)
            provisioner.register(accounts)
            stream = make_stream(STREAM)
            await bus.create_topic(stream.topic)
            await bus.create_topic(stream.dead_letter_topic)
            await accounts.ensure_stream(stream, retention_days=options.retention_days or RETENTION_DAYS)
            login = await first_login.ensure(
                accounts,
                options.data,
                ingest_url=url(options.host, options.collector.getsockname()[1]),
                api_url=url(options.host, options.api.getsockname()[1]),
            )
            gate = await Gate.open(accounts)
            await self._serve(bus, accounts, gate, store, provisioner, login=login)

    async def _serve(
        self,
        bus: SqliteBus,
        accounts: Accounts,
        gate: Gate,
        store: Store,
        provisioner: Provisioner,
        *,
        login: dict[str, Any] | None,
    ) -> None:
        options, clock = self._options, self._clock

        async def run_collector() -> None:
            await collector.serve(
                CollectorSettings(host=options.host), sock=options.collector, bus=bus, gate=gate,
                quota=QuotaLimiter(clock), clock=clock, stop=self._stop_collector,
            )  # fmt: skip
            self._stop_processor.set()

        streams = PreparedStreams(gate.streams, store, provisioner)

        async def run_processor() -> None:
            # Without its tables the engine would refuse what it should be asked to wait for.
            if await self._first_stream(streams):
                await self._keep_retention(accounts)
                freeze()
                tell("ready", first_login=login)
                await bounded(
                    processor.serve(
                        _processor_settings(), bus=bus, store=store, streams=streams, clock=clock,
                        stop=self._stop_processor, served=self._served,
                    ),
                    self._stop_processor,
                    DRAIN_SECONDS,
                )  # fmt: skip
            await self._stop_processor.wait()
            self._stop_readers.set()

        async def run_api() -> None:
            settings = ApiSettings(host=options.host, ingest_url=url(options.host, options.collector.getsockname()[1]))
            if options.signup is not None:
                settings = settings.model_copy(update={"signup": options.signup})
            await api.serve(
                settings, sock=options.api, bus=bus, store=store, accounts=accounts, gate=gate, clock=clock,
                stop=self._stop_readers, idempotency_seconds=self._bus_settings.idempotency_window_seconds,
            )  # fmt: skip

        async def forward_stop() -> None:
            await self._stop.wait()
            self._stop_collector.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gate.run(self._stop_readers))
            tasks.create_task(streams.run(self._stop))
            tasks.create_task(run_collector())
            tasks.create_task(run_processor())
            tasks.create_task(run_api())
            tasks.create_task(forward_stop())

    async def _first_stream(self, streams: PreparedStreams) -> bool:
        """Whether there is a stream to serve before we are told to stop."""
        first, stopping = asyncio.create_task(streams.first()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((first, stopping), return_when=asyncio.FIRST_COMPLETED)
        found = first.done()
        for task in (first, stopping):
            task.cancel()
        return found

    async def _keep_retention(self, accounts: Accounts) -> None:
        """Give the stream the retention that we were started with; the engine may go away meanwhile."""
        wanted = self._options.retention_days
        while wanted is not None and not self._stop.is_set():
            try:
                await accounts.update_stream(STREAM, retention_days=wanted)
            except LogStreamError as error:
                _log.warning("retention not yet changed", reason=error.message)
                await asyncio.sleep(1.0)
            else:
                return


def tell(event: str, **values: object) -> None:
    """A message to the supervisor; without one, nobody reads it."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"event": event, **values}).encode() + b"\n")


class _Supervisor:
    """Listens to the supervisor: how often it started a child again, and its end, after which `ended` is called."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._unread = b""
        self._counted = {"engine": 0, "app": 0}

    def heard(self) -> None:
        """Standard input can be read."""
        data = os.read(0, 4096)
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self._ended()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            if len(words) == 3 and words[0] == "restarts" and words[1] in self._counted:
                self._count(words[1], int(words[2]))

    def _count(self, child: str, restarts: int) -> None:
        metrics.ENGINE_RESTARTS.labels(child).inc(max(0, restarts - self._counted[child]))
        self._counted[child] = restarts


async def _main(options: AppOptions) -> None:
    app = App(options, SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stop)
    loop.add_reader(0, _Supervisor(app.stop).heard)
    await app.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 after a stop that was asked for, 1 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m logstream.standalone.app", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--collector-fd", type=int, required=True, help="a listening socket")
    parser.add_argument("--api-fd", type=int, required=True, help="a listening socket")
    parser.add_argument("--clickhouse-url", required=True)
    parser.add_argument("--retention-days", type=int)
    parser.add_argument("--signup", choices=("open", "closed"), help="default: open on loopback only")
    given = parser.parse_args(arguments)
    logs.configure(process="app")
    # Its start and stop lines say less than ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    options = AppOptions(
        data=given.data,
        host=given.host,
        collector=_inherited(given.collector_fd),
        api=_inherited(given.api_fd),
        clickhouse_url=given.clickhouse_url,
        retention_days=given.retention_days,
        signup=None if given.signup is None else given.signup == "open",
    )
    import uvloop

    try:
        uvloop.run(_main(options))
    except (Exception, BaseExceptionGroup) as error:
        return failed(error)
    return 0


def _inherited(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


if __name__ == "__main__":
    sys.exit(main())
