"""The cluster of the tests is a real one: validation, garbage collection, namespaces, rollouts."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.cluster import Cluster, CommandError

GROUP = "tests.logstream.dev"
WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "default": 3},
                                    "limit": {"type": "integer"},
                                },
                                "x-kubernetes-validations": [
                                    {"rule": "self.size <= self.limit", "message": "size must not pass the limit"},
                                    {"rule": "self.limit == oldSelf.limit", "message": "limit never changes"},
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}
LABELS = {"app": "it"}


@pytest.fixture(scope="module")
def widgets(cluster_session: Cluster) -> Iterator[Cluster]:
    """The cluster with a kind of our own, which its garbage collection knows."""
    cluster_session.apply(WIDGETS)
    cluster_session.kubectl("wait", "--for=condition=Established", f"crd/widgets.{GROUP}", "--timeout=60s")
    if isinstance(cluster_session, Cluster):
        cluster_session.restart_controllers()
    yield cluster_session
    cluster_session.kubectl("delete", "crd", f"widgets.{GROUP}", "--wait=false")


def _widget(name: str, **spec: int) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def _config_map(name: str, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if owner is not None:
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        metadata["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _deployment(image: str, replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "it", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "it", "labels": LABELS}, "spec": spec}


def _wait_until(is_so: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.2)


def test_an_object_of_an_own_kind_gets_its_defaults(widgets: Cluster, namespace: str) -> None:
    widgets.apply(_widget("small", limit=5), namespace=namespace)

    assert widgets.get("widget", "small", namespace=namespace)["spec"] == {"size": 3, "limit": 5}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"size": 9, "limit": 5}, "size must not pass the limit"),
        ({"size": 1, "limit": 6}, "limit never changes"),
        ({"size": 1, "limit": 5, "colour": 1}, "unknown field"),
    ],
)
def test_a_wrong_object_is_refused_by_its_rule(
    widgets: Cluster, namespace: str, spec: dict[str, int], reason: str
) -> None:
    widgets.apply(_widget("it", limit=5), namespace=namespace)

    with pytest.raises(CommandError, match=reason):
        widgets.apply(_widget("it", **spec), namespace=namespace)


def test_what_an_object_owns_goes_with_it(widgets: Cluster, namespace: str) -> None:
    widgets.apply(_widget("owner", limit=5), _config_map("alone"), namespace=namespace)
    owner = widgets.get("widget", "owner", namespace=namespace)
    widgets.apply(_config_map("owned", owner), namespace=namespace)

    widgets.kubectl("delete", "widget", "owner", "--namespace", namespace)

    def names() -> set[str]:
        return {one["metadata"]["name"] for one in widgets.get_all("configmaps", namespace=namespace)}

    _wait_until(lambda: "owned" not in names(), "the owned ConfigMap is collected")
    assert "alone" in names()


def test_a_namespace_goes_with_everything_in_it(cluster: Cluster) -> None:
    name = cluster.create_namespace("leaving")
    cluster.apply(_config_map("it"), _deployment("one"), namespace=name)

    cluster.delete_namespace(name)

    _wait_until(lambda: name not in cluster.kubectl("get", "namespaces", "--output=name"), "the namespace is gone")


def test_pods_stay_pending_until_they_are_marked(cluster: Cluster, namespace: str) -> None:
    def available() -> int:
        return cluster.get("deployment", "it", namespace=namespace)["status"].get("availableReplicas", 0)

    cluster.apply(_deployment("one"), namespace=namespace)
    _wait_until(lambda: len(cluster.get_all("pods", namespace=namespace)) == 2, "both pods are made")
    assert available() == 0

    cluster.mark_ready(namespace)
    assert available() == 2

    cluster.mark_ready(namespace, ready=False)
    assert available() == 0


def test_a_rollout_is_carried_through(cluster: Cluster, namespace: str) -> None:
    cluster.apply(_deployment("one"), namespace=namespace)
    cluster.mark_ready(namespace)
    cluster.apply(_deployment("two", replicas=3), namespace=namespace)

    cluster.mark_ready(namespace, selector="app=it")

    images = [pod["spec"]["containers"][0]["image"] for pod in cluster.get_all("pods", namespace=namespace)]
    assert images == ["two"] * 3


async def test_the_asynchronous_client_reaches_it(cluster: Cluster, namespace: str) -> None:
    from kubernetes.aio import client

    async with cluster.client() as api:
        found = await client.CoreV1Api(api).read_namespace(namespace)

    assert found.metadata.name == namespace
    assert await asyncio.to_thread(cluster.get_all, "deployments", namespace=namespace) == []
