"""The operator's process: wired here, and nowhere else."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from logstream import logs
from logstream.clock import SystemClock
from logstream.errors import LogStreamError, StartupError
from logstream_operator import metrics
from logstream_operator import settings as settings_module
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.errors import ClusterAway
from logstream_operator.cluster.events import Recorder
from logstream_operator.cluster.kinds import (
    HTTP_ROUTE,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    SERVICE_MONITOR,
    TRIGGER_AUTHENTICATION,
    Kind,
)
from logstream_operator.cluster.lease import Election, LeaseTimes
from logstream_operator.external.connections import Files
from logstream_operator.health import Health
from logstream_operator.objects.plane import ClusterFacts
from logstream_operator.queue import Pace, Queue, Workers
from logstream_operator.reconcile.context import Context, Key
from logstream_operator.reconcile.dispatch import reconcile
from logstream_operator.reconcile.figures import watch_figures
from logstream_operator.settings import Settings, load
from logstream_operator.watch import Stopped, Watch

_OPTIONAL: dict[str, Kind] = {
    "keda": SCALED_OBJECT,
    "service_monitors": SERVICE_MONITOR,
    "prometheus_rules": PROMETHEUS_RULE,
    "http_routes": HTTP_ROUTE,
}
_HANG_SECONDS = 60.0

_log = logs.get_logger("operator")


class Operator:
    """One replica."""

    def __init__(self, settings: Settings, cluster: Cluster, folder: Path) -> None:
        """folder: for certificates of tenants; this process's alone."""
        self._settings = settings
        self._cluster = cluster
        self._clock = SystemClock()
        own = settings.operator
        self.identity = own.identity or f"{socket.gethostname()}-{os.getpid()}"
        self._queue: Queue[Key] = Queue(self._clock, Pace(resync=own.resync_seconds))
        self._workers = Workers(self._queue, self._work, count=own.workers, waited=metrics.QUEUE_WAIT_SECONDS.observe)
        self._context = Context(
            cluster=cluster,
            settings=settings,
            clock=self._clock,
            recorder=Recorder(cluster, self.identity),
            files=Files(folder),
            enqueue=self._workers.add,
        )
        self._watch: Watch | None = None
        self._election: Election | None = None
        self._beat = self._clock.monotonic()
        self.health = Health(self._why_dead, self._why_not_ready, self._measure)

    async def run(self) -> None:
        """Until it is cancelled, or something has ended that may not: then whoever started it starts it again."""
        own = self._settings.operator
        await self.health.start(own.http_host, own.http_port)
        _log.info("started", identity=self.identity, port=self.health.port, namespaces=list(own.namespaces) or "all")
        beating = asyncio.create_task(self._beating(), name="heartbeat")
        try:
            if not own.leader_election:
                await self._lead()
                return
            times = LeaseTimes(own.lease_seconds, own.lease_seconds * 2 / 3, max(0.5, own.lease_seconds / 7.5))
            self._election = Election(
                self._cluster,
                self._clock,
                namespace=own.namespace,
                name=own.lease_name,
                identity=self.identity,
                times=times,
            )
            await self._election.run(self._lead)
        finally:
            beating.cancel()
            await self._context.close()
            await self.health.stop()

    async def _lead(self) -> None:
        facts, optional = await self._look()
        self._context.facts = facts
        self._watch = Watch(
            self._cluster,
            self._context.known,
            self._workers.add,
            self._clock,
            namespaces=self._settings.operator.namespaces,
            optional=optional,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._workers.run(), name="workers")
            group.create_task(watch_figures(self._context), name="figures")
            group.create_task(self._watch.run(), name="watch")

    async def _look(self) -> tuple[ClusterFacts, tuple[Kind, ...]]:
        """Which optional APIs there are. One that is installed later is found at the next start."""
        while True:
            try:
                there = {name: await self._cluster.has(kind) for name, kind in _OPTIONAL.items()}
                break
            except ClusterAway as error:
                _log.warning("waiting", dependency="kubernetes", reason=error.message)
                await asyncio.sleep(1.0)
        known = {entry.name for entry in fields(ClusterFacts)}
        facts = ClusterFacts(**{name: value for name, value in there.items() if name in known})
        optional = [_OPTIONAL[name] for name, value in there.items() if value]
        if there["keda"]:
            optional.append(TRIGGER_AUTHENTICATION)
        return facts, tuple(optional)

    async def _work(self, key: Key) -> float | None:
        return await reconcile(self._context, key)

    async def _beating(self) -> None:
        while True:
            self._beat = self._clock.monotonic()
            await asyncio.sleep(1.0)

    def _why_dead(self) -> str | None:
        if self._clock.monotonic() - self._beat > _HANG_SECONDS:
            return "the event loop stood still"
        limit = self._settings.operator.watcher_seconds
        if self._watch is not None and (age := self._watch.age()) > limit:
            return f"a watcher has been dead for {age:.0f} s"
        return None

    def _why_not_ready(self) -> str | None:
        # Who stands by is ready for its part, too: an upgrade waits for that.
        if self._watch is not None and not self._watch.begun:
            return "the watchers have not begun"
        return None

    def _measure(self) -> None:
        metrics.QUEUE_DEPTH.set(self._queue.depth)
        metrics.FAILING.set(self._queue.failing)


async def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the process's exit status."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    cluster = await Cluster.connect(settings.operator.kubeconfig)
    with tempfile.TemporaryDirectory(prefix="logstream-operator-") as folder:
        running = asyncio.create_task(Operator(settings, cluster, Path(folder)).run(), name="operator")
        stop = asyncio.create_task(stopping.wait(), name="stop")
        try:
            await asyncio.wait((running, stop), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                return 0
            error = running.exception()
            if isinstance(error, BaseExceptionGroup) and error.subgroup(Stopped) is not None:
                return 0
            _log.error("ended", reason="the Lease was lost" if error is None else _words(error))
            return 1
        finally:
            for task in (running, stop):
                task.cancel()
            with contextlib.suppress(Exception):
                await asyncio.gather(running, stop, return_exceptions=True)
            await cluster.close()


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(inner) for inner in error.exceptions)
    return error.message if isinstance(error, LogStreamError) else repr(error)


def main(arguments: list[str] | None = None) -> int:
    """`logstream-operator`; its exit status."""
    parser = argparse.ArgumentParser(
        prog="logstream-operator",
        description="LogStream's Kubernetes operator. It is told by environment variables:",
        epilog=_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="check the settings and end")
    given = parser.parse_args(arguments)
    try:
        settings = load()
    except StartupError as error:
        print(f"logstream-operator: {error.message}", file=sys.stderr)  # noqa: T201
        return 1
    if given.check:
        return 0
    json = None if settings.log.format == "auto" else settings.log.format == "json"
    logs.configure(level=settings.log.level, process="logstream-operator", json=json)
    try:
        return asyncio.run(serve(settings))
    except StartupError as error:
        print(f"logstream-operator: {error.message}", file=sys.stderr)  # noqa: T201
        return 1


def _help() -> str:
    lines = []
    for kind in settings_module.SECTIONS.values():
        for name, info in kind.model_fields.items():
            variable = f"{kind.model_config.get('env_prefix')}{name}".upper()
            lines.append(f"  {variable}" + (f"\n      {info.description}" if info.description else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
