# ruff: noqa: A005 — named as its target is; only ever imported as benchmarks.operator
"""`make bench-operator`: many LogStreams on a real API server, and what the operator needs for each.

    --resources N   LogStreams in all (500)
    --planes N      those with Deployments of their own, each followed by those that share it (50)
    --rate N        created a second (5)

A real kube-apiserver, etcd and controller-manager, a real broker, Postgres and engine; the operator is a process of its
own. Pods never start here, so a resource counts as done when its status says of this generation that every external
step is done and all children are applied; measured from before its POST until a watch shows it. Then: from a change of
a spec until the child has it; and a restart of the operator, after which no child may have another resourceVersion. At
the end topics, tables, rows and Deployments are counted on the servers themselves.
"""

import argparse
import asyncio
import contextlib
import json
import ssl
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
from kubernetes.aio.client.configuration import Configuration
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.engine import make_url
from tests.support.cluster import Cluster
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.operator import CRDS, OperatorProcess, backends
from tests.support.postgres import Postgres

from benchmarks import harness
from logstream.settings import KafkaSettings
from logstream_operator.cluster.client import Cluster as Client
from logstream_operator.cluster.kinds import CHILDREN, DEPLOYMENT, LOGSTREAM, SECRET, Object
from logstream_operator.external.topics import Topics

_SHARED = ("ConnectionsReady", "AccountsReady", "TopicReady", "SchemaReady", "StreamReady")
_LIMIT_SECONDS = 300.0
"""After the last one was created."""
_QUIET_SECONDS = 4.0
_CHANGED = 10


@dataclass(slots=True)
class Seen:
    """Of one resource, `time.monotonic`: when it was posted, and when it was done."""

    is_plane: bool
    posted: float
    done: float | None = None
    why_not: str = "no status"


@dataclass(slots=True)
class Servers:
    """All that the operator works with. namespace: where the resources are."""

    folder: Path
    cluster: Cluster
    kafka: Kafka
    postgres: Postgres
    engine: EngineProcess
    namespace: str
    environment: dict[str, str] = field(default_factory=dict)

    def operator(self) -> OperatorProcess:
        return OperatorProcess(self.folder / "logs", self.cluster.kubeconfig, [self.namespace], **self.environment)


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="logstream-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        cluster = Cluster(folder / "cluster", audit=False)
        kafka, postgres = Kafka(folder / "kafka"), Postgres(folder / "postgres")
        engine = EngineProcess(folder / "engine")
        for server in (cluster, kafka, postgres, engine):
            server.start()
            stack.callback(server.stop)
        cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))
        cluster.restart_controllers()
        given = backends(kafka=kafka.bootstrap, store=engine.url, postgres=postgres.url())
        given |= {"status_seconds": "30"}
        yield Servers(folder, cluster, kafka, postgres, engine, cluster.create_namespace("bench"), given)


def done(obj: Object, *, is_plane: bool) -> str:
    """Empty when it is; else what is not."""
    status = obj.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    for name in (*_SHARED, *(("ObjectsReady",) if is_plane else ())):
        found = conditions.get(name)
        if found is None or found["status"] != "True":
            return f"{name}: {(found or {}).get('reason', 'unknown')} {(found or {}).get('message', '')}"
    return "" if status.get("observedGeneration") == obj["metadata"]["generation"] else "an older generation"


async def events(client: Client, namespace: str) -> AsyncIterator[Object]:
    """Every LogStream whenever it changes."""
    configuration, _ = await client.credentials()
    url = f"{client.host}{LOGSTREAM.path(namespace)}?watch=1"
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
        session.get(url, ssl=_tls(configuration)) as answer,
    ):
        answer.raise_for_status()
        rest = b""
        async for chunk in answer.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)["object"]


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


async def follow(client: Client, namespace: str, seen: Mapping[str, Seen]) -> None:
    async for obj in events(client, namespace):
        entry = seen.get(obj["metadata"]["name"])
        if entry is not None and entry.done is None:
            entry.why_not = done(obj, is_plane=entry.is_plane)
            if not entry.why_not:
                entry.done = time.monotonic()


async def create(client: Client, namespace: str, options: argparse.Namespace, seen: dict[str, Seen]) -> None:
    """At a steady rate, each data plane before those that share it."""
    each = options.resources // options.planes
    began = time.monotonic()
    for number in range(options.resources):
        await asyncio.sleep(max(0.0, began + number / options.rate - time.monotonic()))
        plane = min(number // each, options.planes - 1)
        is_plane = number == plane * each
        name = f"team-{plane}" if is_plane else f"stream-{number}"
        seen[name] = Seen(is_plane, time.monotonic())
        spec: Mapping[str, object] = {} if is_plane else {"dataPlaneRef": {"name": f"team-{plane}"}}
        await client.create(
            {
                "apiVersion": LOGSTREAM.api_version,
                "kind": LOGSTREAM.name,
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }
        )


async def all_done(seen: Mapping[str, Seen]) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while missing := {name: entry.why_not for name, entry in seen.items() if entry.done is None}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} are not done, e.g. {dict(list(missing.items())[:3])}")
        await asyncio.sleep(0.2)


async def measured(url: str) -> dict[str, float]:
    """Every sample of the operator's, by name and labels' values."""
    text = await asyncio.to_thread(_read, f"{url}/metrics")
    return {
        " ".join((sample.name.removeprefix("logstream_operator_"), *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("logstream_operator_")
    }


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def total(samples: Mapping[str, float], name: str) -> float:
    return sum(value for key, value in samples.items() if key.split(" ")[0] == name)


async def quiet(url: str, *, resources: int) -> float:
    """Until each resource was reconciled and nothing happens any more; `time.monotonic` of the last reconcile."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    last, count = time.monotonic(), -1.0
    while True:
        samples = await measured(url)
        now, found = time.monotonic(), total(samples, "reconciles_total")
        if found != count:
            last, count = now, found
        if count >= resources and now - last > _QUIET_SECONDS and not samples["queue_depth"]:
            if samples["failing_resources"]:
                raise RuntimeError(f"{samples['failing_resources']:g} resources fail")
            return last
        if now > deadline:
            raise TimeoutError(f"not quiet: {count:g} reconciles, {samples['queue_depth']:g} wait")
        await asyncio.sleep(0.25)


async def versions(client: Client, namespace: str) -> dict[str, str]:
    """resourceVersion of every child."""
    found = {}
    for kind in (*CHILDREN, SECRET):
        for obj in await client.list(kind, namespace, labels="app.kubernetes.io/managed-by=logstream-operator"):
            found[f"{kind.name} {obj['metadata']['name']}"] = obj["metadata"]["resourceVersion"]
    return found


async def change(client: Client, namespace: str, name: str) -> float:
    """Seconds from a change of the spec until the Deployment has it."""
    began = time.monotonic()
    await client.patch(LOGSTREAM, namespace, name, {"spec": {"collector": {"replicas": 3}}})
    while True:
        found = await client.get(DEPLOYMENT, namespace, f"{name}-collector")
        if found is not None and found["spec"]["replicas"] == 3:
            return time.monotonic() - began
        if time.monotonic() - began > 60:
            raise TimeoutError(f"{name}-collector was not changed")
        await asyncio.sleep(0.02)


async def verify(made: Servers, client: Client, planes: int, resources: int) -> None:
    """On the servers themselves. Raises RuntimeError for anything that is missing or too much."""
    topics = Topics(KafkaSettings(bootstrap_servers=made.kafka.bootstrap))
    [listed] = await topics.admin.ask("listing topics", lambda admin: {"all": _topics(admin)})
    await topics.close()
    counted = {"topics": sum(name.startswith("logstream.") for name in listed)}
    sql = "SELECT uniqExact(database) FROM system.tables WHERE name = 'logs' AND database LIKE 'logstream_%'"
    with urllib.request.urlopen(urllib.request.Request(made.engine.url, data=sql.encode()), timeout=60) as answer:
        counted["tables"] = int(answer.read())
    url = make_url(made.postgres.url()).set(drivername="postgresql")
    counted["rows"] = 0
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    databases = [name for (name,) in await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE $1",
                                                            "logstream\\_%")]  # fmt: skip
    await connection.close()
    for name in databases:
        connection = await asyncpg.connect(url.set(database=name).render_as_string(hide_password=False))
        counted["rows"] += await connection.fetchval("SELECT count(*) FROM streams WHERE deleted_at IS NULL")
        await connection.close()
    counted["databases"] = len(databases)
    counted["deployments"] = len(await client.list(DEPLOYMENT, made.namespace))
    wanted = {
        "topics": 2 * resources, "tables": resources, "rows": resources, "databases": planes,
        "deployments": 3 * planes,
    }  # fmt: skip
    if counted != wanted:
        raise RuntimeError(f"there are {counted}, there should be {wanted}")


def _topics(admin: Any) -> Any:
    from concurrent.futures import Future

    found: Future[Any] = Future()
    found.set_result(list(admin.list_topics(timeout=30).topics))
    return found


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def steps(samples: Mapping[str, float]) -> dict[str, float]:
    """Mean seconds of each step."""
    sums = {key.split(" ")[1]: value for key, value in samples.items() if key.startswith("step_seconds_sum ")}
    return {name: round(value / samples[f"step_seconds_count {name}"], 3) for name, value in sums.items()}


async def run(made: Servers, options: argparse.Namespace) -> dict[str, Any]:
    client = await Client.connect(made.cluster.kubeconfig)
    process = made.operator()
    seen: dict[str, Seen] = {}
    try:
        url = await process.url()
        following = asyncio.create_task(follow(client, made.namespace, seen))
        await create(client, made.namespace, options, seen)
        print(f"{len(seen)} are created", flush=True)
        await all_done(seen)
        print("all are done", flush=True)
        following.cancel()
        await quiet(url, resources=options.resources)
        samples = await measured(url)
        spent = sum(psutil.Process(process.process.pid).cpu_times()[:2])
        planes = [name for name, entry in seen.items() if entry.is_plane]
        changes = [await change(client, made.namespace, name) for name in planes[:_CHANGED]]
        await quiet(url, resources=options.resources)
        before = await versions(client, made.namespace)
        print("the operator is started again", flush=True)
        process.stop()
        process = made.operator()
        began = time.monotonic()
        settled = await quiet(await process.url(), resources=options.resources) - began
        again = await measured(await process.url())
        after = await versions(client, made.namespace)
        rss = psutil.Process(process.process.pid).memory_info().rss / 1e6
        await verify(made, client, options.planes, options.resources)
    finally:
        process.kill()
        await client.close()
    latencies = {
        kind: [entry.done - entry.posted for entry in seen.values() if entry.is_plane == is_plane and entry.done]
        for kind, is_plane in (("planes", True), ("sharers", False))
    }
    both = [*latencies["planes"], *latencies["sharers"]]
    reconciles = total(samples, "reconciles_total")
    return {
        "planes": options.planes,
        "rate": options.rate,
        **{
            f"{kind}_{name}_s": round(quantile(values, share), 2)
            for kind, values in latencies.items()
            if values
            for name, share in (("p50", 0.5), ("p99", 0.99))
        },
        "reconciles_per_resource": round(reconciles / options.resources, 1),
        "unfinished": samples.get("reconciles_total LogStream unfinished", 0),
        "requests_per_reconcile": round(total(samples, "api_requests_total") / reconciles, 1),
        "operator_cpu_s": round(spent, 1),
        "step_mean_s": steps(samples),
        "change_p50_s": round(quantile(changes, 0.5), 2),
        "change_max_s": round(max(changes), 2),
        "restart_requests": total(again, "api_requests_total"),
        "machine": harness.machine(),
        "resources": options.resources,
        "p50_s": round(quantile(both, 0.5), 2),
        "p99_s": round(quantile(both, 0.99), 2),
        "restart_writes": len({*before.items()} ^ {*after.items()}) + int(total(again, "child_writes_total")),
        "restart_settle_s": round(settled, 1),
        "rss_mb": round(rss),
    }


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=500)
    parser.add_argument("--planes", type=int, default=50)
    parser.add_argument("--rate", type=float, default=5.0)
    options = parser.parse_args()
    if not 1 <= options.planes <= options.resources:
        parser.error("--planes must be 1 to --resources")
    with servers() as made:
        figures = asyncio.run(run(made, options))
    harness.report(figures)


if __name__ == "__main__":
    main()
