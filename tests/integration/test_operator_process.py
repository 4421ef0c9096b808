"""The operator as a process: it watches, one of two reconciles, and whatever becomes of it nothing is done twice."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.cluster import Cluster
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.operator import CRDS, OperatorProcess, Rig, backends, until
from tests.support.operator import rig as make_rig
from tests.support.operator import settings as make_settings
from tests.support.postgres import Postgres

from logstream_operator.cluster.kinds import API_KEY, DEPLOYMENT, LOGSTREAM, SECRET
from logstream_operator.external.accounts import open_accounts
from logstream_operator.reconcile.connect import Database, connect
from logstream_operator.spec import LogStream

Start = Callable[..., OperatorProcess]


@pytest.fixture
async def start(
    operator: Rig, cluster: Cluster, kafka: Kafka, postgres: Postgres, engine: EngineProcess, tmp_path: Path
) -> AsyncIterator[Start]:
    """Start a replica in the namespace of `operator`, which only looks here."""
    running: list[OperatorProcess] = []
    given = backends(kafka=kafka.bootstrap, store=engine.url, postgres=postgres.url())

    def begin(**more: str) -> OperatorProcess:
        running.append(OperatorProcess(tmp_path / "logs", cluster.kubeconfig, [operator.namespace], **given, **more))
        return running[-1]

    try:
        yield begin
    finally:
        for process in running:
            process.kill()


async def has(rig: Rig, name: str, of: str, status: str = "True") -> bool:
    found = await rig.context.cluster.get(LOGSTREAM, rig.namespace, name)
    conditions = (found or {}).get("status", {}).get("conditions", ())
    return any(one["type"] == of and one["status"] == status for one in conditions)


async def key_is_ready(rig: Rig, name: str) -> bool:
    found = await rig.context.cluster.get(API_KEY, rig.namespace, name)
    return bool(found and found.get("status", {}).get("keyId"))


async def test_a_stream_and_its_key_by_a_process(operator: Rig, start: Start) -> None:
    process = start()
    url = await process.url()
    await operator.apply("shop")
    await operator.apply("web", {"logStreamRef": {"name": "shop"}}, kind="LogStreamAPIKey")
    await until(lambda: has(operator, "shop", "StreamReady"))
    await until(lambda: key_is_ready(operator, "web"))
    await until(lambda: _figures(operator, "shop"))
    # Drift is seen by itself.
    await operator.context.cluster.delete(DEPLOYMENT, operator.namespace, "shop-api")
    await until(lambda: operator.context.cluster.get(DEPLOYMENT, operator.namespace, "shop-api"))
    # And so is a change of the spec.
    await operator.apply("shop", {"collector": {"replicas": 4}})
    await until(lambda: _replicas(operator, "shop-collector", 4))
    async with httpx.AsyncClient() as client:
        await until(lambda: _ok(client, f"{url}/readyz"))
        assert (await client.get(f"{url}/livez")).status_code == 200
        text = (await client.get(f"{url}/metrics")).text
    for name in ("reconciles_total", "reconcile_seconds_bucket", "queue_depth", "watcher_age_seconds", "leader 1.0"):
        assert f"logstream_operator_{name}" in text
    await operator.context.cluster.delete(API_KEY, operator.namespace, "web")
    await operator.context.cluster.delete(LOGSTREAM, operator.namespace, "shop")
    await until(lambda: _is_gone(operator, "shop"))
    assert process.stop() == 0
    secret = _secrets_of(operator)
    assert not any(value in process.log.read_text() for value in secret)


def _secrets_of(rig: Rig) -> list[str]:
    postgres = rig.context.settings.postgres
    assert postgres is not None
    return [postgres.password.get_secret_value()]


async def _figures(rig: Rig, name: str) -> bool:
    return (await rig.get(name)).get("status", {}).get("lag") == 0


async def _replicas(rig: Rig, name: str, count: int) -> bool:
    found = await rig.context.cluster.get(DEPLOYMENT, rig.namespace, name)
    return bool(found and found["spec"]["replicas"] == count)


async def _ok(client: httpx.AsyncClient, url: str) -> bool:
    return (await client.get(url)).status_code == 200


async def _is_gone(rig: Rig, name: str) -> bool:
    return await rig.context.cluster.get(LOGSTREAM, rig.namespace, name) is None


async def test_one_of_two_reconciles_and_the_other_takes_over(operator: Rig, start: Start) -> None:
    first = start()
    await until(lambda: first.said("leading"))
    second = start()
    await until(lambda: second.said("started"))
    await operator.apply("shop")
    await until(lambda: has(operator, "shop", "StreamReady"))
    assert second.said("leading") is None
    await asyncio.sleep(1.1)
    before = await operator.versions("shop")
    first.kill()
    await until(lambda: second.said("leading"))
    await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}})
    await until(lambda: has(operator, "pay", "StreamReady"))
    assert await operator.versions("shop") == before, "whoever takes over writes nothing that is there"
    assert second.stop() == 0
    third = start()
    # The Lease was given back.
    await until(lambda: third.said("leading"), seconds=30)


async def test_killed_at_random_while_resources_change(operator: Rig, start: Start) -> None:
    numbers = random.Random(20261124)
    await operator.apply("shop")
    # One at a time is there, so nobody has to wait for a Lease to run out.
    process = start(leader_election="false")
    await until(lambda: has(operator, "shop", "StreamReady"))
    wanted: dict[str, int] = {}
    for turn in range(5):
        for _ in range(3):
            name = f"s{numbers.randrange(6)}"
            wanted[name] = numbers.randrange(1, 400)
            await operator.apply(name, {"dataPlaneRef": {"name": "shop"}, "retention": {"days": wanted[name]}})
            await operator.apply(f"{name}-key", {"logStreamRef": {"name": name}}, kind="LogStreamAPIKey")
        await operator.apply("shop", {"collector": {"replicas": 1 + turn % 3}})
        await asyncio.sleep(numbers.uniform(0.2, 2.0))
        process.kill()
        process = start(leader_election="false")
    for name in wanted:
        await until(lambda name=name: has(operator, name, "StreamReady"), seconds=120)
        await until(lambda name=name: key_is_ready(operator, f"{name}-key"), seconds=120)
    await until(lambda: _replicas(operator, "shop-collector", 1 + 4 % 3))
    plane = await operator.get("shop")
    place = (await connect(operator.context, LogStream.parse(plane), {**plane, "apiVersion": "v1"})).database
    assert isinstance(place, Database)
    accounts = await open_accounts(place.url, place.password, operator.context.clock)
    try:
        await until(lambda: _days_are(accounts, wanted))
        for name in wanted:
            keys = await accounts.keys.list(stream=name, revoked=True)
            assert len(keys) == 1, "no key was made twice"
    finally:
        await accounts.close()
    pending = [
        found
        for name in wanted
        if (found := await operator.context.cluster.get(SECRET, operator.namespace, f"{name}-key-pending"))
    ]
    assert not pending


async def _days_are(accounts: Any, wanted: dict[str, int]) -> bool:
    there = {info.stream.name: info.retention_days for info in await accounts.streams.list()}
    there.pop("shop", None)
    return there == wanted


async def test_the_api_server_comes_back_and_watches_expire(
    own_cluster: Cluster, kafka: Kafka, postgres: Postgres, engine: EngineProcess, tmp_path: Path
) -> None:
    for arguments in (("apply", "--server-side"), ("wait", "--for=condition=Established", "--timeout=60s")):
        await asyncio.to_thread(own_cluster.kubectl, *arguments, "-f", str(CRDS))
    namespace = await asyncio.to_thread(own_cluster.create_namespace)
    url = postgres.url()
    given = make_settings(kafka=kafka.bootstrap, store=engine.url, postgres=url)
    given_to_it = backends(kafka=kafka.bootstrap, store=engine.url, postgres=url)
    # Who cannot renew its Lease ends, as it should.
    process = OperatorProcess(tmp_path, own_cluster.kubeconfig, [namespace], **given_to_it, leader_election="false")
    try:
        async with make_rig(own_cluster.kubeconfig, given, tmp_path, namespace) as rig:
            await rig.apply("shop")
            await until(lambda: has(rig, "shop", "StreamReady"))
            await asyncio.to_thread(own_cluster.restart)
            await rig.apply("shop", {"collector": {"replicas": 3}})
            await until(lambda: _replicas(rig, "shop-collector", 3))
            await asyncio.to_thread(own_cluster.expire_watches)
            await rig.apply("shop", {"collector": {"replicas": 5}})
            await until(lambda: _replicas(rig, "shop-collector", 5))
            assert process.process.poll() is None, "it was not started again for that"
            # A namespace goes though nobody cleans up any more.
            await rig.apply("pay", {"deletionPolicy": "Delete"})
            await until(lambda: has(rig, "pay", "StreamReady"))
            await asyncio.to_thread(own_cluster.delete_namespace, namespace)
            await until(lambda: _is_gone(rig, "pay"), seconds=120)
    finally:
        process.kill()
