"""What is rendered, before a real API server."""

import json
from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster, CommandError, ForeignCluster
from tests.support.planes import EVERYTHING, FULL, NOTHING, SECURE, plane

from logstream_operator.objects import DataPlane, render

AnyCluster = Cluster | ForeignCluster
FOREIGN = ("keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io")


@pytest.fixture
def restricted(cluster: AnyCluster) -> Iterator[str]:
    """A namespace whose API server refuses every pod that is not restricted."""
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    name = cluster.create_namespace("restricted", labels)
    yield name
    cluster.delete_namespace(name)


@pytest.mark.parametrize(
    "given", [plane(), plane(backends=SECURE, cluster=NOTHING, **FULL), plane("a" * 50, cluster=EVERYTHING, **FULL)],
    ids=["minimal", "full", "long name"],
)  # fmt: skip
def test_the_api_server_takes_every_object(cluster: AnyCluster, restricted: str, given: DataPlane) -> None:
    objects = [one for one in render(given) if not one["apiVersion"].startswith(FOREIGN)]
    for one in objects:
        one["metadata"]["namespace"] = restricted
        one["metadata"].pop("ownerReferences")
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    text = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "--field-manager",
        "logstream-operator", "-o", "json", "-f", "-", given=whole,
    )  # fmt: skip
    assert len(json.loads(text)["items"]) == len(objects)


def test_a_pod_of_each_component_may_run_where_pods_are_restricted(cluster: AnyCluster, restricted: str) -> None:
    """Admission looks at pods, and only warns of Deployments."""
    cluster.kubectl("create", "serviceaccount", "web-pods", "--namespace", restricted)
    for deployment in (one for one in render(plane(backends=SECURE)) if one["kind"] == "Deployment"):
        template = deployment["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": "a"},
            "spec": template["spec"],
        }
        where = ("create", "--dry-run=server", "--namespace", restricted, "-f", "-")
        cluster.kubectl(*where, given=json.dumps(pod))
        del pod["spec"]["containers"][0]["securityContext"]
        with pytest.raises(CommandError, match="violates PodSecurity"):
            cluster.kubectl(*where, given=json.dumps(pod))


def test_an_apply_that_changes_nothing_writes_nothing(cluster: AnyCluster, namespace: str) -> None:
    """No default of the API server differs from what is applied: or the operator would never come to rest."""
    objects = [one for one in render(plane(backends=SECURE, **FULL)) if not one["apiVersion"].startswith(FOREIGN)]
    for one in objects:
        one["metadata"]["namespace"] = namespace
        one["metadata"].pop("ownerReferences")

    def applied() -> dict[tuple[str, str], int]:
        # The generation: controllers write statuses in between, which moves the resourceVersion.
        text = cluster.kubectl(
            "apply", "--server-side", "--field-manager", "logstream-operator", "-o", "json", "-f", "-",
            given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        )  # fmt: skip
        return {
            (one["kind"], one["metadata"]["name"]): one["metadata"].get(
                "generation", one["metadata"]["resourceVersion"]
            )
            for one in json.loads(text)["items"]
        }

    assert applied() == applied()
