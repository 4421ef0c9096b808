"""`kubectl logstream` on a real API server: what it shows and what it changes. The test is the operator's status."""

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import Cluster
from tests.support.kubectl_plugin import Plugin
from tests.support.up import eventually

from logstream_operator.reconcile.rotation import ROTATE, wanted
from logstream_operator.spec import LogStreamAPIKey

API = "logstream.dev/v1alpha1"
SECRET = "ls_abcdefgh_this-must-never-be-shown"


@pytest.fixture
def plugin(crds: None, cluster: Cluster, tmp_path: Path) -> Plugin:
    return Plugin(cluster, tmp_path / "bin")


class Operator:
    """Writes what the operator would."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def stream(self, name: str, spec: dict[str, Any] | None = None, **status: Any) -> None:
        self._make("LogStream", name, spec or {}, status)

    def key(self, name: str, stream: str, *, spec: dict[str, Any] | None = None, **status: Any) -> None:
        self._make("LogStreamAPIKey", name, {"logStreamRef": {"name": stream}, **(spec or {})}, status)

    def tell(self, kind: str, name: str, status: dict[str, Any]) -> None:
        whole = {"observedGeneration": 1, **status}
        self.cluster.kubectl(
            "patch", kind, name, "-n", self.namespace, "--subresource=status", "--type=merge",
            f"--patch={json.dumps({'status': whole})}",
        )  # fmt: skip

    def secret(self, name: str) -> None:
        self.cluster.apply(
            {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": {"LOGSTREAM_API_KEY": SECRET, "LOGSTREAM_API_URL": "http://elsewhere"},
            },
            namespace=self.namespace,
        )  # fmt: skip

    def _make(self, kind: str, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
        obj = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.cluster.apply(obj, namespace=self.namespace)
        if status:
            self.tell(kind, name, status)


@pytest.fixture(scope="module")
def shop(crds: None, cluster_session: Cluster) -> Iterator[str]:
    """A namespace with a LogStream of that name, which nothing in it changes."""
    name = cluster_session.create_namespace()
    Operator(cluster_session, name).stream("shop", conditions=READY)
    yield name
    cluster_session.delete_namespace(name)


@pytest.fixture
def operator(crds: None, cluster: Cluster, namespace: str) -> Operator:
    return Operator(cluster, namespace)


def condition(kind: str, status: bool, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "type": kind, "status": str(status), "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }  # fmt: skip


READY = [condition("Ready", True, "Ready")]


def inside(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text, text


def test_a_stream_is_shown_with_its_reasons_and_what_to_do(plugin: Plugin, operator: Operator) -> None:
    soon = (datetime.now(UTC) + timedelta(days=2, hours=12)).isoformat()
    operator.stream(
        "shop",
        {"ingress": {"host": "logs.example.com", "tls": {"secretName": "tls"}}},
        conditions=[
            condition("Ready", False, "PodsNotReady", "Deployment shop-api has 0 of 2 pods ready"),
            condition("TopicReady", True, "TopicReady"),
        ],
        endpoints={"ingest": "http://shop-collector.it.svc:8080", "api": "http://shop-api.it.svc:8081"},
        collector={"replicas": 2, "readyReplicas": 2},
        api={"replicas": 2, "readyReplicas": 0},
        streamId="it-shop-1", topic="logs.it-shop-1", database="it_shop_1",
        lag=1234, oldestUnsavedSeconds=400.0, accepted=5_000_000, stored=4_998_766, deadLettered=7,
        quotaUse={"recordsPercent": 93.5},
    )  # fmt: skip
    operator.key(
        "shop-sender", "shop", spec={"expiresAt": soon}, conditions=[condition("Ready", True, "InUse")],
        keyId="abcdefgh", expiresAt=soon, rotatedAt="2026-01-31T12:00:00Z",
        previousKeyId="oldoldol", previousExpiresAt=soon,
    )  # fmt: skip
    operator.key("shop-reader", "shop", spec={"scopes": ["read"]})
    operator.key("stranger", "elsewhere")
    text = plugin("status", "shop", "-n", operator.namespace)
    inside(
        text, f"LogStream {operator.namespace}/shop", "not ready: PodsNotReady", "0 of 2 pods ready", "TopicReady",
        "https://logs.example.com/ingest", "http://shop-api.it.svc:8081", "1,234", "5,000,000", "94 %", "2/2", "0/2",
        "shop-sender", "abcdefgh", "in 2d", "oldoldol (ends in 2d)", "NotSeenYet",
        f"kubectl logstream deadletters shop list -n {operator.namespace}", "kubectl describe pods", "wait 6m",
        "key shop-sender ends in 2d", "key shop-reader is not ready", "quota is nearly used up",
    )  # fmt: skip
    assert "stranger" not in text
    whole = json.loads(plugin("status", "shop", "-n", operator.namespace, "-o", "json"))
    assert [item["metadata"]["name"] for item in whole["items"]] == ["shop", "shop-reader", "shop-sender"]
    assert "managedFields" not in whole["items"][0]["metadata"]
    assert yaml.safe_load(plugin("status", "shop", "-n", operator.namespace, "-o", "yaml")) == whole
    assert plugin.run("status", "shop", "-n", operator.namespace, "--check").returncode == 1


def test_all_streams_are_one_table(plugin: Plugin, operator: Operator) -> None:
    operator.stream("shop", conditions=READY, lag=0, accepted=12)
    operator.stream("till", {"dataPlaneRef": {"name": "shop"}, "paused": True}, conditions=READY)
    operator.stream("fresh")
    lines = plugin("status", "-n", operator.namespace).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["NAME", "READY", "REASON"], ["fresh", "unknown", "NotSeenYet"], ["shop", "yes", "Ready"],
        ["till", "yes", "Paused"],
    ]  # fmt: skip
    everywhere = plugin("status", "-A")
    assert re.search(rf"^{operator.namespace} +till +yes", everywhere, re.MULTILINE)
    assert plugin.run("status", "-n", operator.namespace, "--check").returncode == 1
    assert plugin.run("status", "shop", "-n", operator.namespace, "--check").returncode == 0


def test_options_of_kubectl_stand_anywhere(plugin: Plugin, shop: str, cluster: Cluster, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(cluster.kubeconfig.read_text())
    plugin.environment["KUBECONFIG"] = "/nowhere"
    for place in (
        ("--kubeconfig", str(elsewhere), "-n", shop, "keys", "list", "shop"),
        ("keys", "--kubeconfig", str(elsewhere), "list", "shop", "-n", shop),
        ("keys", "list", "shop", f"--namespace={shop}", f"--kubeconfig={elsewhere}"),
    ):
        done = plugin.run(*place)
        assert (done.returncode, done.stderr) == (0, "logstream: there are no keys of LogStream shop\n"), done.stderr
    # Nearer to the command wins.
    said = plugin.run("-n", shop, "keys", "list", "shop", "-n", "elsewhere", f"--kubeconfig={elsewhere}").stderr
    assert "there is no namespace elsewhere; see those" in said


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("status", "shoop"), 1, "there is no LogStream shoop in namespace"),
        (("status", "shoop"), 1, "(there are: shop)"),
        (("status", "--all"), 2, "No such option"),
        (("status", "-o", "xml"), 2, "xml"),
        (("status", "Shop"), 2, "'Shop' is no name of a LogStream"),
        (("status", "shop", "-A"), 2, "not both"),
        (("status", "--context", "nowhere"), 1, "kubectl config get-contexts"),
        (("status", "--as", "somebody"), 1, "kubectl auth can-i get logstreams.logstream.dev"),
        (("keys", "revoke", "none", "--yes"), 1, "there is no LogStreamAPIKey none"),
        (("search", "shop", "x"), 1, "has no key that may read; make one with:"),
        (("deadletters", "shop", "list"), 1, "has no key that may admin"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_a_failure_says_what_to_do(plugin: Plugin, shop: str, words: tuple[str, ...], status: int, said: str) -> None:
    done = plugin.run(*words, "-n", shop)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_advice_about_a_missing_key_can_be_followed(plugin: Plugin, operator: Operator, cluster: Cluster) -> None:
    operator.stream("shop", conditions=READY)
    told = plugin.run("search", "shop", "x", "-n", operator.namespace).stderr
    given = told.partition("<<'END'\n")[2].partition("END")[0]
    cluster.kubectl("apply", "-n", operator.namespace, "-f", "-", given=given)
    made = cluster.get("logstreamapikeys", "shop-read", namespace=operator.namespace)
    assert made["spec"]["scopes"] == ["read"]
    assert made["spec"]["logStreamRef"] == {"name": "shop"}


def test_a_cluster_that_is_away(plugin: Plugin, tmp_path: Path) -> None:
    plugin.environment["KUBECONFIG"] = str(tmp_path / "none")
    done = plugin.run("status")
    assert (done.returncode, "check --context and --kubeconfig" in done.stderr) == (1, True), done.stderr


def test_pause_and_resume(plugin: Plugin, operator: Operator, cluster: Cluster) -> None:
    def paused() -> bool:
        return bool(cluster.get("logstream", "shop", namespace=operator.namespace)["spec"]["paused"])

    operator.stream("shop", conditions=READY)
    assert plugin("pause", "shop", "-n", operator.namespace) == "LogStream shop is paused\n"
    assert paused()
    assert "paused already" in plugin("pause", "shop", "-n", operator.namespace)
    inside(plugin("status", "shop", "-n", operator.namespace), "paused", "kubectl logstream resume shop -n")
    assert plugin("resume", "shop", "-n", operator.namespace) == "LogStream shop is resumed\n"
    assert not paused()
    assert "not paused" in plugin("resume", "shop", "-n", operator.namespace)


def test_rotation_is_asked_for_as_the_operator_understands_it(
    plugin: Plugin, operator: Operator, cluster: Cluster
) -> None:
    # As far ahead as a clock may be that is not ours.
    made = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    ready = [condition("Ready", True, "InUse")]
    operator.stream("shop", conditions=READY)
    operator.key("sender", "shop", conditions=ready, keyId="before00", rotatedAt=made.isoformat())
    assert "asked for" in plugin("keys", "rotate", "sender", "-n", operator.namespace, "--no-wait")
    found = cluster.get("logstreamapikey", "sender", namespace=operator.namespace)
    asked = wanted(LogStreamAPIKey.parse(found)).rotate_at
    assert asked is not None
    assert asked > made.timestamp() * 1e9
    operator.tell("logstreamapikey", "sender", {"rotatedAt": (made + timedelta(minutes=1)).isoformat()})

    def asked_at() -> str:
        key = cluster.get("logstreamapikey", "sender", namespace=operator.namespace)
        return str(key["metadata"]["annotations"][ROTATE])

    first = asked_at()
    with plugin.begin("keys", "rotate", "sender", "-n", operator.namespace) as waiting:
        eventually(lambda: asked_at() > first, "it is asked for")
        end = datetime.now(UTC) + timedelta(hours=1, minutes=30)
        operator.tell(
            "logstreamapikey", "sender",
            {
                "conditions": ready, "keyId": "after000", "rotatedAt": datetime.now(UTC).isoformat(),
                "previousKeyId": "before00", "previousExpiresAt": end.isoformat(),
            },
        )  # fmt: skip
        out, err = waiting.communicate(timeout=30)
    assert out == "LogStreamAPIKey sender: key after000 is in Secret sender\n"
    inside(err, "key before00 works beside it", "in 89m")


def test_a_rotation_that_nobody_does_is_said(plugin: Plugin, operator: Operator) -> None:
    operator.key("sender", "shop", conditions=[condition("Ready", False, "StreamMissing", "no LogStream shop")])
    done = plugin.run("keys", "rotate", "sender", "-n", operator.namespace, "--timeout", "1")
    assert done.returncode == 1
    inside(done.stderr, "StreamMissing: no LogStream shop", "kubectl get deployments")


def test_revoking_is_for_good_and_asked_about(plugin: Plugin, operator: Operator, cluster: Cluster) -> None:
    operator.stream("shop", conditions=READY)
    operator.key("sender", "shop", conditions=[condition("Ready", True, "InUse")], keyId="abcdefgh")
    done = plugin.run("keys", "revoke", "sender", "-n", operator.namespace)
    assert (done.returncode, "--yes" in done.stderr) == (1, True)
    assert not cluster.get("logstreamapikey", "sender", namespace=operator.namespace)["spec"]["revoked"]
    plugin("keys", "revoke", "sender", "-n", operator.namespace, "--yes", "--no-wait")
    assert cluster.get("logstreamapikey", "sender", namespace=operator.namespace)["spec"]["revoked"]
    operator.tell("logstreamapikey", "sender", {"conditions": [condition("Ready", False, "Revoked")]})
    assert plugin("keys", "revoke", "sender", "-n", operator.namespace, "--yes") == (
        "LogStreamAPIKey sender is revoked\n"
    )
    refused = plugin.run("keys", "rotate", "sender", "-n", operator.namespace)
    assert (refused.returncode, "is revoked and gets no new key" in refused.stderr) == (1, True)


def looks(running: "subprocess.Popen[str]") -> Iterator[list[dict[str, Any]]]:
    """What each document of `top -o json` says."""
    assert running.stdout is not None
    document = ""
    for line in running.stdout:
        document += line
        if line == "}\n":
            yield json.loads(document)["streams"]
            document = ""


def test_top_shows_rates(plugin: Plugin, operator: Operator) -> None:
    operator.stream("shop", conditions=READY, accepted=1000, stored=1000, lag=0)
    operator.stream("calm", conditions=READY, accepted=5, stored=5)
    ended, told = threading.Event(), 1000

    def count() -> None:
        nonlocal told
        while not ended.wait(0.2):
            told += 500
            operator.tell("logstream", "shop", {"accepted": told, "stored": told})

    counting = threading.Thread(target=count)
    with plugin.begin("top", "-n", operator.namespace, "--interval", "0.3", "-o", "json") as running:
        counting.start()
        try:
            rows = next(rows for rows in looks(running) if rows[0]["acceptedPerSecond"])
        finally:
            ended.set()
            counting.join()
    assert [row["stream"] for row in rows] == ["shop", "calm"]
    assert rows[0]["acceptedPerSecond"] == pytest.approx(rows[0]["storedPerSecond"])
    assert rows[1]["acceptedPerSecond"] in (None, 0.0)
    table = plugin("top", "-n", operator.namespace, "--count", "1").splitlines()
    assert table[0].split()[:3] == ["NAMESPACE", "STREAM", "READY"]


def test_top_ends_quietly(plugin: Plugin, operator: Operator) -> None:
    operator.stream("shop", conditions=READY)
    with plugin.begin("top", "-n", operator.namespace, "--interval", "0.2") as running:
        assert running.stdout is not None
        assert running.stdout.readline().split()[0] == "NAMESPACE"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (130, "")
