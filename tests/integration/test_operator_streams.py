"""A LogStream on a real API server: everything that it asks for is made, and stays as it asks for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from logstream.stream import make_stream
from logstream_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE
from logstream_operator.external.accounts import database_name
from tests.support.cluster import Cluster
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.operator import CRDS, Rig, condition, rig, settings
from tests.support.postgres import Postgres


@pytest.fixture(scope="module")
def crds(cluster_session: Cluster) -> None:
    cluster_session.kubectl("apply", "--server-side", "-f", str(CRDS))
    cluster_session.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))


@pytest.fixture
async def own(
    crds: None,
    cluster: Cluster,
    namespace: str,
    kafka: Kafka,
    postgres: Postgres,
    engine: EngineProcess,
    tmp_path: Path,
) -> AsyncIterator[Rig]:
    given = settings(kafka=kafka.bootstrap, store=engine.url, postgres=postgres.url())
    async with rig(cluster.kubeconfig, given, tmp_path, namespace) as made:
        yield made


async def test_everything_is_made(own: Rig) -> None:
    obj = await own.apply("shop", {"topic": {"partitions": 3}})
    obj = await own.settle("shop")
    stream = make_stream("shop", namespace=own.namespace, generation=obj["metadata"]["uid"])
    status = obj["status"]
    assert status["streamId"] == stream.stream_id
    for name in ("AccountsReady", "TopicReady", "SchemaReady"):
        assert condition(obj, name)["status"] == "True", condition(obj, name)
    # No kubelet: the truth is that no pod is ready.
    assert condition(obj, "Ready")["status"] == "False"
    assert condition(obj, "Ready")["reason"] == "PodsNotReady"
    children = await own.children("shop")
    assert {("Deployment", f"shop-{part}") for part in ("collector", "processor", "api")} <= children.keys()
    assert ("Secret", "shop-backends") in children
    assert database_name(own.namespace, "shop", obj["metadata"]["uid"])
