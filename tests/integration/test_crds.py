"""The CRDs on a real API server: what is refused, by which rule and with which words, and what is not."""

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tests.support.cluster import Cluster, CommandError, ForeignCluster
from tests.support.resources import CASES, Case, api_key, log_stream, merged

from logstream_operator.spec import LogStream, LogStreamAPIKey
from logstream_operator.spec.crd import files

CRDS = Path(__file__).parents[2] / "crds"
AnyCluster = Cluster | ForeignCluster


@pytest.fixture(scope="module", autouse=True)
def crds(cluster_session: AnyCluster) -> None:
    cluster_session.ensure_running()
    cluster_session.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    for name in ("logstreams", "logstreamapikeys"):
        cluster_session.kubectl("wait", "--for=condition=Established", f"crd/{name}.logstream.dev", "--timeout=60s")
        # Discovery, which kubectl reads, follows a moment later.
        deadline = time.monotonic() + 60
        while True:
            try:
                cluster_session.kubectl("get", name, "--namespace", "default")
                break
            except CommandError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


@pytest.fixture(scope="module")
def space(cluster_session: AnyCluster, crds: None) -> Iterator[str]:
    """One namespace for the cases, which are refused or have names of their own."""
    name = cluster_session.create_namespace("crds")
    yield name
    cluster_session.delete_namespace(name)


def apply(cluster: AnyCluster, namespace: str, obj: Mapping[str, Any], *options: str) -> dict[str, Any]:
    text = cluster.kubectl(
        "apply", "--server-side", "--namespace", namespace, "-o", "json", *options, "-f", "-", given=json.dumps(obj)
    )
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_what_is_installed_has_no_complaints(cluster: AnyCluster) -> None:
    for name in files():
        definition = yaml.safe_load((CRDS / name).read_text())
        found = cluster.get("crd", definition["metadata"]["name"])
        conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions


class Direct:
    """Applies without kubectl, which takes a hundred times as long; there are many cases."""

    def __init__(self, cluster: AnyCluster, namespace: str) -> None:
        self._client = config.new_client_from_config(str(cluster.kubeconfig))
        self._custom = client.CustomObjectsApi(self._client)
        self._namespace = namespace

    def apply(self, obj: Mapping[str, Any], **options: Any) -> None:
        """Raises ApiException."""
        self._patch(obj, dict(obj), "application/apply-patch+yaml", force=True, field_validation="Strict", **options)

    def change(self, obj: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """A merge patch. Raises ApiException."""
        self._patch(obj, dict(change), "application/merge-patch+json")

    def _patch(self, obj: Mapping[str, Any], body: dict[str, Any], content_type: str, **options: Any) -> None:
        group, version = obj["apiVersion"].split("/")
        self._custom.patch_namespaced_custom_object(
            group, version, self._namespace, obj["kind"].lower() + "s", obj["metadata"]["name"], body,
            field_manager="test", _content_type=content_type, **options,
        )  # fmt: skip

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def direct(cluster_session: AnyCluster, space: str) -> Iterator[Direct]:
    found = Direct(cluster_session, space)
    yield found
    found.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rule_refuses_and_accepts(cluster: AnyCluster, direct: Direct, case: Case) -> None:
    direct.apply(merged(case.base, case.good), dry_run="All")
    with pytest.raises(ApiException) as refusal:
        direct.apply(merged(case.base, case.bad), dry_run="All")
    message = json.loads(refusal.value.body)["message"]
    for words in case.words:
        assert words in message


TRANSITIONS = {
    "dataPlaneRef is another": (
        log_stream(dataPlaneRef={"name": "one"}), {"spec": {"dataPlaneRef": {"name": "two"}}},
        "dataPlaneRef cannot change",
    ),
    "dataPlaneRef goes": (
        log_stream(dataPlaneRef={"name": "one"}), {"spec": {"dataPlaneRef": None}}, "dataPlaneRef cannot change",
    ),
    "dataPlaneRef comes": (log_stream(), {"spec": {"dataPlaneRef": {"name": "one"}}}, "dataPlaneRef cannot change"),
    "partitions become fewer": (
        log_stream(topic={"partitions": 6}), {"spec": {"topic": {"partitions": 5}}},
        "topic.partitions cannot become fewer",
    ),
    "logStreamRef is another": (
        api_key(), {"spec": {"logStreamRef": {"name": "other"}}}, "logStreamRef cannot change",
    ),
    "secretName is another": (api_key(secretName="a"), {"spec": {"secretName": "b"}}, "secretName cannot change"),
    "secretName comes": (api_key(), {"spec": {"secretName": "b"}}, "secretName cannot change"),
    "secretName goes": (api_key(secretName="a"), {"spec": {"secretName": None}}, "secretName cannot change"),
    "revoked is taken back": (
        api_key(revoked=True), {"spec": {"revoked": False}}, "revoked cannot be taken back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSITIONS)
def test_what_cannot_change(cluster: AnyCluster, direct: Direct, name: str) -> None:
    base, change, words = TRANSITIONS[name]
    obj = copy.deepcopy(base)
    obj["metadata"]["name"] = name.lower().replace(" ", "-")[:40]
    direct.apply(obj)
    with pytest.raises(ApiException) as refusal:
        direct.change(obj, change)
    assert words in json.loads(refusal.value.body)["message"]
    # Everything else may.
    direct.change(obj, {"spec": {"quota": {"recordsPerSecond": 5}}})


def rules_in(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for value in schema.values():
            yield from rules_in(value)


def test_every_rule_has_a_case() -> None:
    words = {one for case in CASES for one in case.words} | {said for _, _, said in TRANSITIONS.values()}
    for name in files():
        (version,) = yaml.safe_load((CRDS / name).read_text())["spec"]["versions"]
        for message in rules_in(version["schema"]):
            assert any(one in message for one in words), message


def test_what_may_change(cluster: AnyCluster, space: str) -> None:
    apply(cluster, space, log_stream("grows", topic={"partitions": 6}))
    apply(cluster, space, log_stream("grows", topic={"partitions": 12}, retention={"days": 3}))
    apply(cluster, space, api_key("revoked"))
    apply(cluster, space, api_key("revoked", revoked=True))


def test_a_resource_with_nothing_in_it_gets_the_defaults(cluster: AnyCluster, space: str) -> None:
    bare = log_stream("bare")
    del bare["spec"]
    spec = apply(cluster, space, bare)["spec"]
    assert spec["retention"] == {"days": 30, "deadLetterDays": 30}
    assert spec["topic"] == {"retentionHours": 72}
    assert spec["deletionPolicy"] == "Retain"
    assert spec["networkPolicy"] == {"enabled": True}
    assert not {"collector", "processor", "api", "ingest", "redaction", "connections"} & spec.keys()


def test_the_models_read_what_the_api_server_stores(cluster: AnyCluster, space: str) -> None:
    """One source of truth: defaults of the schema are those of the models."""
    stored = apply(
        cluster, space, log_stream("stored", ingest={"maxRecords": 5}, processor={"autoscaling": {"maxReplicas": 9}})
    )
    given = log_stream("stored", ingest={"maxRecords": 5}, processor={"autoscaling": {"maxReplicas": 9}})
    given["metadata"] = stored["metadata"]
    assert LogStream.parse(stored).spec == LogStream.parse(given).spec
    key = apply(cluster, space, api_key("stored", rotation={"every": "48h"}))
    given = api_key("stored", rotation={"every": "48h"})
    given["metadata"] = key["metadata"]
    assert LogStreamAPIKey.parse(key).spec == LogStreamAPIKey.parse(given).spec


def test_the_documentation_s_examples_are_taken(cluster: AnyCluster, namespace: str) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (CRDS.parent / "docs" / "resources.md").read_text(), re.M | re.S)
    assert len(blocks) >= 4
    for block in blocks:
        for obj in yaml.safe_load_all(block):
            apply(cluster, namespace, obj, "--validate=strict")


def test_a_next_version_can_be_served_beside(cluster: AnyCluster) -> None:
    for name in files():
        definition = yaml.safe_load((CRDS / name).read_text())
        (version,) = definition["spec"]["versions"]
        definition["spec"]["versions"].append({**copy.deepcopy(version), "name": "v1beta1", "storage": False})
        cluster.kubectl(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--field-manager=kubectl",
            "-f",
            "-",
            given=json.dumps(definition),
        )


def test_unknown_fields_are_refused_where_asked_and_dropped_otherwise(cluster: AnyCluster, space: str) -> None:
    obj = log_stream("unknown", collector={"replica": 3})
    with pytest.raises(CommandError) as refusal:
        apply(cluster, space, obj, "--validate=strict")
    assert "replica" in refusal.value.stderr
    cluster.kubectl("create", "--namespace", space, "--validate=ignore", "-f", "-", given=json.dumps(obj))
    assert cluster.get("logstream", "unknown", namespace=space)["spec"]["collector"] == {}


def test_explain_is_documentation(cluster: AnyCluster) -> None:
    said = cluster.kubectl("explain", "logstream.spec.collector")
    assert "The pods that take logs" in said
    assert "How many pods, when not autoscaled" in said
    assert "maxSkew" in cluster.kubectl("explain", "logstream.spec.api.podTemplate", "--recursive")
    assert "may read the stream" in cluster.kubectl("explain", "lgs.spec.anonymousReads")
    assert "720h" in cluster.kubectl("explain", "logstreamapikey.spec.rotation")


@pytest.mark.parametrize("spec", [{}, {"collector": {"replicas": 2}}, {"collector": {"resources": {}}}])
def test_scale_moves_the_collector(cluster: AnyCluster, namespace: str, spec: dict[str, Any]) -> None:
    apply(cluster, namespace, log_stream("scaled", **spec))
    cluster.kubectl("scale", "logstream/scaled", "--replicas=5", "--namespace", namespace)
    assert cluster.get("logstream", "scaled", namespace=namespace)["spec"]["collector"]["replicas"] == 5


def test_scale_does_not_fight_an_autoscaler(cluster: AnyCluster, namespace: str) -> None:
    apply(cluster, namespace, log_stream("auto", collector={"autoscaling": {"maxReplicas": 9}}))
    with pytest.raises(CommandError) as refusal:
        cluster.kubectl("scale", "logstream/auto", "--replicas=5", "--namespace", namespace)
    assert "exclude each other" in refusal.value.stderr


def test_get_shows_columns_of_the_status(cluster: AnyCluster, namespace: str) -> None:
    apply(cluster, namespace, log_stream("shown"))
    apply(cluster, namespace, api_key("shown"))
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "KafkaAway",
        "message": "no answer",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    for kind, status in (
        (
            "logstream",
            {
                "conditions": [condition],
                "lag": 17,
                "accepted": 4711,
                "topic": "logstream.a",
                "endpoints": {"ingest": "http://i", "api": "http://a"},
            },
        ),
        (
            "logstreamapikey",
            {"conditions": [condition], "keyId": "abc", "expiresAt": "2030-01-01T00:00:00Z", "secretName": "shown"},
        ),
    ):
        cluster.kubectl(
            "patch", kind, "shown", "--namespace", namespace, "--subresource=status", "--type=merge",
            "-p", json.dumps({"status": status}),
        )  # fmt: skip
    head, row = cluster.kubectl("get", "lgs", "--namespace", namespace).splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "LAG", "ACCEPTED", "AGE"]
    assert row.split()[:5] == ["shown", "False", "KafkaAway", "17", "4711"]
    head, row = cluster.kubectl("get", "lgk", "--namespace", namespace).splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "KEY", "EXPIRES", "AGE"]
    assert row.split()[:5] == ["shown", "False", "KafkaAway", "abc", "2030-01-01T00:00:00Z"]
    assert "http://i" in cluster.kubectl("get", "lgs", "-o", "wide", "--namespace", namespace)


def test_a_status_changes_no_spec_and_a_spec_no_status(cluster: AnyCluster, namespace: str) -> None:
    obj = log_stream("apart")
    made = apply(cluster, namespace, {**obj, "status": {"lag": 5}})
    assert "status" not in made
    assert made["metadata"]["generation"] == 1


def test_everything_of_the_category(cluster: AnyCluster, namespace: str) -> None:
    apply(cluster, namespace, log_stream("one"))
    apply(cluster, namespace, api_key("two"))
    found = cluster.kubectl("get", "logstream-all", "--namespace", namespace, "-o", "name").split()
    assert set(found) == {"logstream.logstream.dev/one", "logstreamapikey.logstream.dev/two"}
    # The category's name is no kind's: or this would mean both.
    assert "one" in cluster.kubectl("get", "logstream", "one", "--namespace", namespace)
