"""Fixtures of the operator's tests; all others are in tests/conftest.py."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.operator import CRDS, Rig, rig, settings
from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def crds(cluster_session: Cluster) -> None:
    """The two kinds of resources, as `crds/` has them."""
    cluster_session.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    cluster_session.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))


@pytest.fixture
async def operator(
    crds: None,
    cluster: Cluster,
    namespace: str,
    kafka: Kafka,
    postgres: Postgres,
    engine: EngineProcess,
    tmp_path: Path,
) -> AsyncIterator[Rig]:
    """Reconciling in a namespace of its own, on real backends, when it is told to."""
    given = settings(kafka=kafka.bootstrap, store=engine.url, postgres=postgres.url())
    async with rig(cluster.kubeconfig, given, tmp_path, namespace) as made:
        yield made
