"""What the chart grants the operator is what it needs: no right is missing, and none is there for nothing.

The operator runs with the command, the settings and the ServiceAccount of the chart, while resources come, change and
go; the API server's record of what it asked for is held against its roles.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from tests.support import chart
from tests.support.chart import NAMESPACE, Object
from tests.support.cluster import Cluster, CommandError, programs
from tests.support.engine import EngineProcess
from tests.support.kafka import Kafka
from tests.support.ports import free_ports
from tests.support.postgres import Postgres

from logstream.errors import StartupError

TEAM = "team"
ACCOUNT = "logstream-operator"
WAIT_SECONDS = 120.0
Right = tuple[str, str]
"""Verb and resource, as the record writes it: `patch`, `apps/deployments`."""

NOT_ON_RECORD = {
    # Where owner references are checked, whoever sets one needs this; it is asked inside of other requests. The API
    # server of this test does check.
    ("update", "logstream.dev/logstreams/finalizers"),
    ("update", "logstream.dev/logstreamapikeys/finalizers"),
}
FOREIGN = {
    "keda.sh/v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PrometheusRule"),
    "gateway.networking.k8s.io/v1": ("HTTPRoute",),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With the kinds of others that the operator makes where they are there, and with owner references checked."""
    try:
        programs.helm()
        made = Cluster(
            tmp_path_factory.mktemp("rights"),
            apiserver=["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"],
        )
    except StartupError as error:
        reason = f"NOT TESTED: no Kubernetes API server on this machine: {error.message}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        made.start()
        foreign = [_crd(version, kind) for version, kinds in FOREIGN.items() for kind in kinds]
        made.apply(*foreign)
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield made
    finally:
        made.stop()


def _crd(api_version: str, kind: str) -> Object:
    """A kind of somebody else's, of which only the name matters here."""
    group, _, version = api_version.partition("/")
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    meta: Object = {"name": f"{names['plural']}.{group}"}
    if group.endswith(".k8s.io"):
        meta["annotations"] = {"api-approved.kubernetes.io": "unapproved, for tests"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": meta,
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@dataclass
class Installed:
    """The chart in the cluster and its operator as a process. granted: by its roles."""

    cluster: Cluster
    process: "subprocess.Popen[bytes]"
    granted: set[Right]
    log: Path

    def until(self, is_so: Callable[[], object], what: Callable[[], object]) -> None:
        """what: what is wrong if it does not come to be."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_so():
            assert self.process.poll() is None, lambda: f"the operator ended:\n{self.tail()}"
            if time.monotonic() > deadline:
                usage = self.cluster.usage(NAMESPACE, ACCOUNT)
                raise AssertionError(f"{what()}\nrefused: {usage.refused}\n{self.tail()}")
            time.sleep(0.5)

    def names(self, kind: str) -> set[str]:
        return {obj["metadata"]["name"] for obj in self.cluster.get_all(kind, namespace=TEAM)}

    def has(self, kind: str, *names: str) -> bool:
        return set(names) <= self.names(kind)

    def tail(self) -> str:
        return "\n".join(line[:400] for line in self.log.read_text().splitlines()[-30:])


def _granted(rendered: list[Object]) -> set[Right]:
    return {
        (verb, f"{group}/{resource}" if group else resource)
        for obj in rendered
        if obj["kind"] in {"Role", "ClusterRole"} and "aggregate" not in str(obj["metadata"]["labels"])
        for rule in obj["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(params=["namespaced", "cluster"])
def installed(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    kafka: Kafka,
    postgres: Postgres,
    engine: EngineProcess,
    tmp_path: Path,
) -> Iterator[Installed]:
    for name in (NAMESPACE, TEAM):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    url = make_url(postgres.url())
    scope = {"namespaced": {"watchNamespaces": [TEAM]}, "cluster": {"secretNamespaces": [TEAM]}}[request.param]
    values = {
        "scope": request.param,
        **scope,
        "operator": {"statusSeconds": 5, "resyncSeconds": 5, "logLevel": "debug"},
        "connections": {
            "kafka": {
                "bootstrapServers": kafka.bootstrap,
                "partitions": 2, "replicationFactor": 1, "minInsyncReplicas": 1,
            },
            "clickhouse": {"url": engine.url},
            "postgres": {
                "url": url.set(drivername="postgresql", password=None).render_as_string(hide_password=False),
                "password": str(url.password),
            },
        },
    }  # fmt: skip
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values))
    cluster.helm("install", "logstream", str(chart.CHART), "--namespace", NAMESPACE, "--values", str(path))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    _wait_for_owners(cluster)
    rendered = chart.render(path)
    environment = {
        **os.environ,
        **chart.environment(rendered, tmp_path / "secrets"),
        "LOGSTREAM_OPERATOR_KUBECONFIG": str(cluster.as_service_account(NAMESPACE, ACCOUNT)),
        "LOGSTREAM_OPERATOR_HTTP_HOST": "127.0.0.1",
        "LOGSTREAM_OPERATOR_HTTP_PORT": str(free_ports(1)[0]),
    }
    command = chart.pod_spec(chart.one(rendered, "Deployment", ACCOUNT))["containers"][0]["command"]
    log = tmp_path / "operator.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=file,
            stdout=file,
        )
    try:
        yield Installed(cluster, process, _granted(rendered), log)
    finally:
        _away(cluster, process)


def _wait_for_owners(cluster: Cluster) -> None:
    """Until the API server lets our kinds be owners: what checks that hears of new kinds late, and refuses before.

    Asked by an account of its own: who may do everything is let through, and the operator's has a record.
    """
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": ["logstream.dev"], "resources": ["*"], "verbs": ["update"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "owners"}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "owners"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "owners"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "owners"},
            "subjects": [{"kind": "ServiceAccount", "name": "owners"}],
        },
        namespace=TEAM,
    )
    account = cluster.as_service_account(TEAM, "owners")
    deadline = time.monotonic() + WAIT_SECONDS
    for kind in ("LogStream", "LogStreamAPIKey"):
        owner = _stream("any", {}) | {"kind": kind}
        owner["metadata"]["uid"] = "0d3b4d4e-7f4e-4f0e-9d0c-3d6a4a8a7a11"
        probe = _left_over(owner, "ConfigMap")
        probe["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = True
        while True:
            try:
                cluster.kubectl(
                    "create", "--dry-run=server", "--namespace", TEAM, "-f", "-",
                    given=json.dumps(probe), kubeconfig=account,
                )  # fmt: skip
                break
            except CommandError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def _away(cluster: Cluster, process: "subprocess.Popen[bytes]") -> None:
    """The next one starts from nothing, with a ServiceAccount of the same name: its record begins anew as well."""
    for kind in ("logstreamapikeys", "logstreams"):
        cluster.kubectl("delete", kind, "--all", "--namespace", TEAM, "--wait=true", "--timeout=60s")
    process.terminate()
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    cluster.helm("uninstall", "logstream", "--namespace", NAMESPACE)


def _stream(name: str, spec: dict[str, Any]) -> Object:
    return {"apiVersion": "logstream.dev/v1alpha1", "kind": "LogStream", "metadata": {"name": name}, "spec": spec}


def _left_over(owner: Object, kind: str) -> Object:
    """What a release before this one might have made of the kind, and this one does not."""
    meta = owner["metadata"]
    bodies: dict[str, tuple[str, Object]] = {
        "Service": ("v1", {"spec": {"ports": [{"port": 80}]}}),
        "ServiceAccount": ("v1", {}),
        "ConfigMap": ("v1", {"data": {"logstream.yaml": ""}}),
        "PodDisruptionBudget": ("policy/v1", {"spec": {"maxUnavailable": 1}}),
        "ServiceMonitor": ("monitoring.coreos.com/v1", {}),
        "PrometheusRule": ("monitoring.coreos.com/v1", {}),
        "Deployment": (
            "apps/v1",
            {
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "old"}},
                    "template": {
                        "metadata": {"labels": {"app": "old"}},
                        "spec": {"containers": [{"name": "it", "image": "old"}]},
                    },
                }
            },
        ),
    }
    version, body = bodies[kind]
    reference = {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"],
        "controller": True,
    }  # fmt: skip
    labels = {
        "app.kubernetes.io/managed-by": "logstream-operator", "logstream.dev/logstream": meta["name"],
        "app.kubernetes.io/name": "logstream", "app.kubernetes.io/instance": meta["name"],
    }  # fmt: skip
    about = {"name": "left-over", "labels": labels, "ownerReferences": [reference]}
    return {"apiVersion": version, "kind": kind, "metadata": about, **body}


@pytest.mark.timeout(600)
def test_it_may_do_what_it_does_and_does_what_it_may(installed: Installed, kafka: Kafka) -> None:
    cluster, until = installed.cluster, installed.until
    scaled = {"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}
    secure = kafka.secure
    assert secure is not None
    cluster.apply(
        _secret(
            "own-kafka",
            {
                "bootstrap_servers": secure.sasl_plaintext,
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "username": secure.username,
                "password": secure.password,
            },
        ),
        _stream("own", {"connections": {"kafka": {"secretRef": {"name": "own-kafka"}}}, "processor": scaled}),
        _stream("full", {"collector": scaled, "processor": scaled, "ingress": {"host": "logs.example.com"}}),
        _stream("shared", {"dataPlaneRef": {"name": "full"}, "deletionPolicy": "Delete"}),
        _stream("routed", {"gateway": {"parentRefs": [{"name": "public"}]}}),
        _key("sender", "full"),
        namespace=TEAM,
    )
    until(lambda: installed.has("secrets", "sender", "full-backends"), lambda: "no Secrets were made")
    until(lambda: installed.has("hpa", "full-collector"), lambda: "no autoscaler was made")
    until(lambda: installed.has("scaledobjects", "full-processor"), lambda: "no ScaledObject was made")
    until(lambda: bool(installed.names("triggerauthentications")), lambda: "no TriggerAuthentication was made")
    until(lambda: bool(installed.names("ingresses")), lambda: "no Ingress was made")
    until(lambda: bool(installed.names("httproutes")), lambda: "no HTTPRoute was made")

    # Drift, what is not wanted any more, what an older release left.
    owner = cluster.get("logstreams", "full", namespace=TEAM)
    kinds = (
        "Service",
        "ServiceAccount",
        "ConfigMap",
        "PodDisruptionBudget",
        "ServiceMonitor",
        "PrometheusRule",
        "Deployment",
    )
    cluster.apply(*(_left_over(owner, kind) for kind in kinds), namespace=TEAM)
    cluster.kubectl(
        "patch", "secret", "sender", "--namespace", TEAM, "--type=merge", "-p", '{"stringData": {"a": "b"}}'
    )
    cluster.kubectl("annotate", "logstreamapikeys", "sender", "--namespace", TEAM, "example.com/look=again")
    cluster.apply(
        _stream("full", {"networkPolicy": {"enabled": False}, "retention": {"days": 7}}),
        _stream("routed", {"ingest": {"maxRecords": 10}}),
        _stream("own", {"connections": {"kafka": {"secretRef": {"name": "own-kafka"}}}}),
        namespace=TEAM,
    )
    for kind in kinds:
        until(lambda kind=kind: not installed.has(kind, "left-over"), lambda kind=kind: f"{kind} was not pruned")
    until(lambda: not installed.has("hpa", "full-collector"), lambda: "the autoscaler was not pruned")
    until(lambda: not installed.names("httproutes"), lambda: "the HTTPRoute was not pruned")

    cluster.kubectl("delete", "logstreams", "shared", "--namespace", TEAM, "--timeout=60s")
    cluster.kubectl("delete", "logstreamapikeys", "sender", "--namespace", TEAM, "--timeout=60s")

    wanted = installed.granted - NOT_ON_RECORD
    # Server-side apply of what is not there asks for `create`, without a record of its own.
    wanted -= {
        ("create", resource) for verb, resource in installed.granted if verb == "patch" and resource != "secrets"
    }
    until(
        lambda: wanted <= cluster.usage(NAMESPACE, ACCOUNT).rights,
        lambda: f"granted and never used: {_left(installed, wanted)}",
    )
    usage = cluster.usage(NAMESPACE, ACCOUNT)
    assert not usage.refused, f"\n{usage}"


def _left(installed: Installed, wanted: set[Right]) -> set[Right]:
    return wanted - installed.cluster.usage(NAMESPACE, ACCOUNT).rights


def _secret(name: str, values: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _key(name: str, stream: str) -> Object:
    return {
        "apiVersion": "logstream.dev/v1alpha1",
        "kind": "LogStreamAPIKey",
        "metadata": {"name": name},
        "spec": {"logStreamRef": {"name": stream}},
    }
