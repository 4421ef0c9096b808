"""The chart as Helm renders it: golden files over a matrix of values, bad values, the settings that come of them."""

import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from tests.support import chart
from tests.support.chart import HelmRefused

from logstream.errors import StartupError
from logstream_operator.settings import OperatorSettings, load

pytestmark = pytest.mark.usefixtures("helm_there")
CASES = [pytest.param(case, id=case.name.removesuffix(".values.yaml")) for case in chart.cases()]
CONTAINERS = ("Deployment", "StatefulSet", "Pod")


@pytest.fixture(scope="module")
def helm_there() -> None:
    try:
        chart.helm()
    except StartupError as error:
        reason = f"NOT TESTED: no Helm on this machine: {error.message}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_the_golden_file_has(case: Path) -> None:
    """Changed on purpose: `python -m tests.support.chart`, and look at the difference."""
    assert chart.without_crds(chart.template(case)) == chart.golden(case).read_text()


def test_every_golden_file_has_its_values() -> None:
    files = {path.name for path in chart.GOLDEN.glob("*.yaml")}

    assert files == {case.name for case in chart.cases()} | {chart.golden(case).name for case in chart.cases()}


@pytest.mark.parametrize("case", CASES)
def test_helm_lint_finds_nothing(case: Path) -> None:
    text = chart.run("lint", str(chart.CHART), "--strict", "--kube-version", chart.KUBE_VERSION, "--values", str(case))

    assert "0 chart(s) failed" in text
    assert "[WARNING]" not in text


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: Path) -> None:
    for obj in chart.render(case):
        if obj["kind"] not in CONTAINERS:
            continue
        spec = chart.pod_spec(obj)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        # Only the operator talks to the API server.
        assert spec["automountServiceAccountToken"] is (obj["kind"] == "Deployment")
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert ":latest" not in container["image"]
            # A secret in the environment is seen by whoever sees the pod.
            assert all("secretKeyRef" not in str(variable) for variable in container.get("env", ()))


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_their_pods_and_no_others(case: Path) -> None:
    rendered = chart.render(case)
    pods = {
        obj["metadata"]["name"]: obj["spec"]["template"]["metadata"]["labels"]
        for obj in rendered
        if obj["kind"] in {"Deployment", "StatefulSet"}
    }

    for obj in rendered:
        selector = {
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
            "Service": lambda spec: spec["selector"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        }.get(obj["kind"])
        if selector is not None:
            wanted = selector(obj["spec"]).items()
            assert [name for name, labels in pods.items() if wanted <= labels.items()] == [obj["metadata"]["name"]]


@pytest.mark.parametrize("case", CASES)
def test_the_crds_are_those_of_the_repository(case: Path) -> None:
    values = yaml.safe_load(case.read_text())
    rendered = {obj["metadata"]["name"]: obj for obj in chart.render(case) if obj["kind"] == "CustomResourceDefinition"}
    if values.get("crds", {}).get("install") is False:
        assert not rendered
        return

    source = {
        obj["metadata"]["name"]: obj for path in chart.CRDS.glob("*.yaml") for obj in chart.objects(path.read_text())
    }
    assert {name: crd["spec"] for name, crd in rendered.items()} == {name: crd["spec"] for name, crd in source.items()}
    keep = values.get("crds", {}).get("keep", True)
    for crd in rendered.values():
        assert (crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep") is keep


@pytest.mark.parametrize("case", [case for case in CASES if case.id not in {"cluster", "everything"}])
def test_the_operator_takes_its_settings(case: Path, tmp_path: Path) -> None:
    """By the operator's own code: a name that it does not know or a value that it refuses fails here."""
    values = yaml.safe_load(case.read_text())

    settings = load(chart.environment(chart.render(case), tmp_path))

    given = values.get("connections", {}) if not values.get("evaluation", {}).get("enabled") else dict.fromkeys(
        ("kafka", "clickhouse", "postgres")
    )  # fmt: skip
    assert (settings.kafka is not None) is ("kafka" in given)
    assert (settings.store is not None) is ("clickhouse" in given)
    assert (settings.postgres is not None) is ("postgres" in given)
    assert settings.operator.namespace == chart.NAMESPACE


def test_connections_given_as_values_reach_the_operator(tmp_path: Path) -> None:
    settings = load(chart.environment(chart.render(chart.GOLDEN / "namespaces.values.yaml"), tmp_path))

    assert settings.kafka is not None
    assert settings.store is not None
    assert settings.postgres is not None
    assert settings.kafka.bootstrap_servers == "kafka-0.kafka.svc:9093,kafka-1.kafka.svc:9093"
    assert settings.kafka.password.get_secret_value() == "golden-kafka"
    assert settings.kafka.ca_file is not None
    assert "golden" in settings.kafka.ca_file.read_text()
    assert (settings.kafka.partitions, settings.kafka.replication_factor) == (12, 3)
    assert settings.store.cluster == "main"
    assert settings.postgres.password.get_secret_value() == "golden-postgres"
    assert settings.operator.namespaces == ("team-a", "team-b")


def test_evaluation_asks_for_one_replica_of_topics(tmp_path: Path) -> None:
    settings = load(chart.environment(chart.render({"evaluation.enabled": True}), tmp_path))

    assert settings.kafka is not None
    assert (settings.kafka.replication_factor, settings.kafka.min_insync_replicas) == (1, 1)


def test_every_setting_of_the_operator_can_be_given(tmp_path: Path) -> None:
    rendered = chart.render(
        {**{f"connections.{name}.existingSecret": name for name in ("kafka", "clickhouse", "postgres")}}
    )

    given = set(chart.environment(rendered, tmp_path))

    # Not to be changed in a pod.
    other = {"KUBECONFIG", "LEADER_ELECTION"}
    wanted = {f"LOGSTREAM_OPERATOR_{name.upper()}" for name in OperatorSettings.model_fields}
    assert wanted - given == {f"LOGSTREAM_OPERATOR_{name}" for name in other}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"operator.logLevel": "loud"}, "logLevel"),
        ({"operator.leaseSeconds": 1}, "leaseSeconds"),
        ({"scope": "galaxy"}, "scope"),
        ({"scope": "cluster"}, "secretNamespaces"),
        ({"scope": "cluster", "secretNamespaces": ["a"], "watchNamespaces": ["a"]}, "watchNamespaces"),
        ({"secretNamespaces": ["a"]}, "secretNamespaces"),
        ({"watchNamespaces": ["Team A"]}, "watchNamespaces"),
        ({"connections.kafka.password": "x"}, "connections.kafka: password without bootstrapServers"),
        ({"connections.kafka.bootstrap": "x"}, "bootstrap"),
        ({"connections.kafka.existingSecret": "x", "connections.kafka.username": "y"}, "exclude each other"),
        ({"connections.postgres.url": "mysql://x"}, "connections/postgres/url"),
        ({"connections.clickhouse.existingSecretKeys": ["uri"]}, "existingSecretKeys"),
        ({"evaluation.kafka.image": "apache/kafka:latest"}, "evaluation/kafka/image"),
        ({"evaluation.kafka.image": "apache/kafka"}, "evaluation/kafka/image"),
        ({"evaluation.storage.size": "much"}, "evaluation/storage/size"),
        ({"image.digest": "sha256:short"}, "image/digest"),
        ({"resources.limit": {}}, "limit"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmRefused, match=re.escape(told)):
        chart.template(values)


def test_the_schema_is_strict_and_knows_every_default() -> None:
    """Each object of values.yaml is closed, but for those that Kubernetes defines."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    kubernetes = {"podSecurityContext", "securityContext", "affinity"}

    def walk(part: dict[str, Any], given: dict[str, Any], path: str) -> None:
        if path.removeprefix(".") in kubernetes:
            return
        if "$ref" in part:
            part = schema["definitions"][part["$ref"].rsplit("/", 1)[1]]
        if isinstance(part.get("additionalProperties"), dict):
            return
        assert part.get("additionalProperties") is False, path
        assert given.keys() <= part["properties"].keys(), path
        for name, value in given.items():
            if isinstance(value, dict):
                walk(part["properties"][name], value, f"{path}.{name}")

    walk(schema, values, "")


def test_every_release_name_gives_valid_names() -> None:
    for release in ("x", "a" * 53, "logstream-of-the-platform-team-in-the-north-west-1"):
        for obj in chart.render({"evaluation.enabled": True}, release=release):
            name = obj["metadata"]["name"]
            limit = 63 if obj["kind"] in {"Service", "Pod", "StatefulSet"} else 253
            assert len(name) <= limit
            assert re.fullmatch(r"[a-z0-9.-]*[a-z0-9]", name), name


def test_two_releases_in_a_cluster_share_no_cluster_wide_names() -> None:
    def cluster_wide(release: str) -> set[str]:
        values = {"scope": "cluster", "secretNamespaces": ["a"], "crds.install": release == "one"}
        return {
            obj["metadata"]["name"]
            for obj in chart.render(values, release=release)
            if obj["kind"].startswith("ClusterRole")
        }

    assert not cluster_wide("one") & cluster_wide("two")


@pytest.mark.parametrize("status", [200, 503])
def test_helm_test_asks_the_operator(status: int) -> None:
    """The hook's own program, against a server in the operator's place."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, *_: object) -> None: ...

    hook = chart.one(chart.render(chart.GOLDEN / "default.values.yaml"), "Pod", "logstream-test")
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "test"
    _, _, program = hook["spec"]["containers"][0]["command"]
    address = f"logstream-operator.{chart.NAMESPACE}.svc:8080"
    assert address in program
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        ours = program.replace(address, f"127.0.0.1:{server.server_port}")
        done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, check=False, timeout=60)
        thread.join()

    assert (done.returncode == 0) is (status == 200), done.stderr
    assert done.stdout.strip() == f"{status} the reason"
