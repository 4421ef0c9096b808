"""The operator's reconciling on a real API server, Kafka, Postgres and engine, without its watchers."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url

from logstream.clock import SystemClock
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.errors import Missing
from logstream_operator.cluster.events import Recorder
from logstream_operator.cluster.kinds import API_KEY, CHILDREN, EVENT, LOGSTREAM, SECRET, Object
from logstream_operator.external.connections import Files
from logstream_operator.queue import Forgotten
from logstream_operator.reconcile.context import Context, Key
from logstream_operator.reconcile.stream import Unfinished, reconcile_stream
from logstream_operator.settings import Settings, load

CRDS = Path(__file__).parents[2] / "crds"
LABEL = "logstream.dev/logstream"


def settings(*, kafka: str, store: str, postgres: str, **more: str) -> Settings:
    """As the operator would read them. postgres: a URL with a password. more: LOGSTREAM_OPERATOR_…, in lower case."""
    url = make_url(postgres)
    given = {
        "kafka_bootstrap_servers": kafka,
        "kafka_replication_factor": "1",
        "kafka_min_insync_replicas": "1",
        "kafka_partitions": "2",
        "store_url": store,
        "postgres_url": _without_password(url),
        "postgres_password": str(url.password),
        **more,
    }
    return load({f"LOGSTREAM_OPERATOR_{name.upper()}": value for name, value in given.items() if value})


def _without_password(url: URL) -> str:
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return bare.render_as_string(hide_password=False)


@dataclass
class Rig:
    """One operator's worth of reconciling, in one namespace. asked: what reconciling asked to have reconciled."""

    context: Context
    namespace: str
    asked: list[Key] = field(default_factory=list)

    async def apply(self, name: str, spec: dict[str, Any] | None = None, *, kind: str = "LogStream") -> Object:
        """As somebody with kubectl would."""
        obj = {
            "apiVersion": LOGSTREAM.api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec or {},
        }
        plural = LOGSTREAM if kind == "LogStream" else API_KEY
        path = plural.path(self.namespace, name)
        query = {"fieldManager": "a-person", "force": "true"}
        found = await self.context.cluster._ask(
            "PATCH", path, "apply", plural, query=query, body=obj, content="application/apply-patch+yaml"
        )
        (self.context.known.saw_stream if kind == "LogStream" else self.context.known.saw_key)(found)
        return found

    async def reconcile(self, name: str) -> None:
        """Raises Unfinished, Forgotten."""
        await reconcile_stream(self.context, Key("LogStream", self.namespace, name))

    async def settle(self, name: str, *, seconds: float = 60.0) -> Object:
        """Reconcile until there is nothing left to do, or nothing that passes; the resource then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                await self.reconcile(name)
                return await self.get(name)
            except Unfinished:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def gone(self, name: str, *, attempts: int = 20) -> None:
        """Delete, and reconcile until the resource is gone."""
        await self.context.cluster.delete(LOGSTREAM, self.namespace, name)
        for _ in range(attempts):
            with contextlib.suppress(Forgotten, Exception):
                await self.reconcile(name)
            if await self.context.cluster.get(LOGSTREAM, self.namespace, name) is None:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{name} is still there")

    async def get(self, name: str) -> Object:
        found = await self.context.cluster.get(LOGSTREAM, self.namespace, name)
        assert found is not None
        return found

    async def children(self, name: str) -> dict[tuple[str, str], Object]:
        found = {}
        for kind in (*CHILDREN, SECRET):
            for obj in await self.context.cluster.list(kind, self.namespace, labels=f"{LABEL}={name}"):
                found[kind.name, obj["metadata"]["name"]] = obj
        return found

    async def versions(self, name: str) -> dict[tuple[str, str], str]:
        """The resourceVersion of each child but Deployments' own status, which the controllers write."""
        return {
            key: f"{obj['metadata']['uid']}/{obj['metadata'].get('generation')}/{_ours(obj)}"
            for key, obj in (await self.children(name)).items()
        }

    async def events(self, reason: str = "") -> list[str]:
        found = await self.context.cluster.list(EVENT, self.namespace)
        return [event["note"] for event in found if reason in ("", event["reason"])]

    async def secret(self, name: str, values: dict[str, str], **more: Any) -> None:
        body = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": self.namespace},
            "stringData": values, **more,
        }  # fmt: skip
        with contextlib.suppress(Missing):
            await self.context.cluster.delete(SECRET, self.namespace, name)
        await self.context.cluster.create(body)

    def with_settings(self, changed: Settings) -> "Rig":
        """The same namespace, by an operator that was told otherwise."""
        context = make_context(self.context.cluster, changed, self.context.files, self.asked)
        context.known = self.context.known
        return replace(self, context=context)


def _ours(obj: Object) -> str:
    """When our field manager wrote it last."""
    times = [
        entry.get("time", "")
        for entry in obj["metadata"].get("managedFields", ())
        if entry["manager"] == "logstream-operator"
    ]
    return ",".join(times)


def condition(obj: Object, name: str) -> dict[str, Any]:
    """Of a resource's status; a message in it that says what there is when it is missing."""
    found = {entry["type"]: entry for entry in (obj.get("status") or {}).get("conditions", ())}
    assert name in found, f"no condition {name} in {sorted(found)}"
    return found[name]


def make_context(cluster: Cluster, settings: Settings, files: Files, asked: list[Key]) -> Context:
    return Context(
        cluster=cluster,
        settings=settings,
        clock=SystemClock(),
        recorder=Recorder(cluster, "test"),
        files=files,
        enqueue=lambda key, delay: asked.append(key),
    )


@contextlib.asynccontextmanager
async def rig(kubeconfig: Path, settings: Settings, folder: Path, namespace: str) -> AsyncIterator[Rig]:
    cluster = await Cluster.connect(kubeconfig)
    asked: list[Key] = []
    context = make_context(cluster, settings, Files(folder), asked)
    try:
        yield Rig(context, namespace, asked)
    finally:
        await context.close()
        await cluster.close()


async def until(is_so: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """What `is_so` returns once it is true; it may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        found = is_so()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.1)


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(3)}"


class OperatorProcess:
    """`python -m logstream_operator`, which ends with the test. environment: LOGSTREAM_OPERATOR_…, in lower case."""

    def __init__(self, folder: Path, kubeconfig: Path, namespaces: list[str], **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"operator-{secrets.token_hex(3)}.log"
        given = {
            "kubeconfig": str(kubeconfig),
            "namespaces": json.dumps(namespaces),
            "namespace": namespaces[0],
            "identity": secrets.token_hex(4),
            "http_port": "0",
            "lease_seconds": "10",
            "log_format": "json",
            **environment,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}
        variables = {f"LOGSTREAM_OPERATOR_{name.upper()}": value for name, value in given.items()}
        operator = Path(__file__).parents[2] / "operator"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "logstream_operator"],
                env={**inherited, **variables, "PYTHONPATH": str(operator)},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def said(self, event: str) -> dict[str, Any] | None:
        """The first line of its log about `event`."""
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        return next((line for line in self.lines() if line.get("event") == event), None)

    async def url(self) -> str:
        started = await until(lambda: self.said("started"))
        return f"http://127.0.0.1:{started['port']}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(30)


def backends(*, kafka: str, store: str, postgres: str) -> dict[str, str]:
    """For `OperatorProcess`."""
    url = make_url(postgres)
    return {
        "kafka_bootstrap_servers": kafka,
        "kafka_replication_factor": "1",
        "kafka_min_insync_replicas": "1",
        "kafka_partitions": "1",
        "store_url": store,
        "postgres_url": _without_password(url),
        "postgres_password": str(url.password),
        "status_seconds": "2",
    }
