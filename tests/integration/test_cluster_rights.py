"""RBAC is on, and what a ServiceAccount did is on record."""

import time

import pytest
from tests.support.cluster import Cluster, CommandError, ForeignCluster, Use
from tests.support.cluster.usage import read

READER = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
    },
]


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    cluster.apply(*READER, namespace=namespace)
    kubeconfig = cluster.as_service_account(namespace, "reader")

    assert cluster.kubectl("get", "deployments", "--output=name", kubeconfig=kubeconfig) == ""
    with pytest.raises(
        CommandError, match=f'"system:serviceaccount:{namespace}:reader" cannot list resource "secrets"'
    ):
        cluster.kubectl("get", "secrets", kubeconfig=kubeconfig)
    with pytest.raises(CommandError, match='cannot delete resource "deployments" in API group "apps"'):
        cluster.kubectl("delete", "deployment", "any", kubeconfig=kubeconfig)


def test_the_record_tells_every_verb_and_resource(cluster: Cluster, namespace: str) -> None:
    if isinstance(cluster, ForeignCluster):
        pytest.skip("NOT TESTED: a given cluster keeps no record for us")
    cluster.apply(*READER, namespace=namespace)
    kubeconfig = cluster.as_service_account(namespace, "reader")
    for _ in range(2):
        cluster.kubectl("get", "deployments", kubeconfig=kubeconfig)
    with pytest.raises(CommandError, match="cannot list"):
        cluster.kubectl("get", "secrets", kubeconfig=kubeconfig)

    deadline = time.monotonic() + 30
    while not (usage := cluster.usage(namespace, "reader")).refused:
        assert time.monotonic() < deadline, f"the refusal is not on record:\n{usage}"
        time.sleep(0.05)

    assert usage.counts[Use("list", "apps/deployments", namespace, allowed=True)] == 2
    assert usage.refused == {Use("list", "secrets", namespace, allowed=False)}
    assert ("list", "apps/deployments") in usage.rights
    assert ("list", "secrets") not in usage.rights
    assert "REFUSED" in str(usage)


def test_another_service_account_is_not_counted(cluster: Cluster, namespace: str) -> None:
    if isinstance(cluster, ForeignCluster):
        pytest.skip("NOT TESTED: a given cluster keeps no record for us")

    assert cluster.usage(namespace, "nobody").requests == 0


def test_a_record_that_is_being_written_is_read_to_its_last_whole_line() -> None:
    def line(number: int, stage: str = "ResponseComplete") -> str:
        return (
            f'{{"auditID":"{number}","stage":"{stage}","verb":"watch","requestURI":"/api/v1/pods?watch=1",'
            '"user":{"username":"system:serviceaccount:a:b"},"objectRef":{"resource":"pods","apiVersion":"v1"},'
            '"responseStatus":{"code":200}}\n'
        )

    usage = read(
        [line(1, "ResponseStarted"), line(1), line(2, "ResponseStarted"), line(3)[:-40]], "system:serviceaccount:a:b"
    )

    assert usage.counts == {Use("watch", "pods", "", allowed=True): 2}
