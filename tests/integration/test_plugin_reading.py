"""`kubectl logstream search`, `tail` and `deadletters`: keys and pods of a real API server, logs of a real platform."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.cluster import Cluster
from tests.support.kubectl_plugin import Plugin
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine

API = "logstream.dev/v1alpha1"
LABELS = {"app.kubernetes.io/name": "logstream", "app.kubernetes.io/instance": "plane"}


def stream(name: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": API, "kind": "LogStream", "metadata": {"name": name}, "spec": spec}


def key(name: str, of: str, *scopes: str) -> dict[str, object]:
    spec = {"logStreamRef": {"name": of}, "scopes": list(scopes), "secretName": f"secret-of-{name}"}
    return {"apiVersion": API, "kind": "LogStreamAPIKey", "metadata": {"name": name}, "spec": spec}


def secret(name: str, text: str) -> dict[str, object]:
    metadata = {"name": f"secret-of-{name}"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"LOGSTREAM_API_KEY": text}}


def pod(name: str, component: str) -> dict[str, object]:
    port = {"name": "http", "containerPort": 8181}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {**LABELS, "app.kubernetes.io/component": component}},
        "spec": {"containers": [{"name": component, "image": "it", "ports": [port]}]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def secrets(up: Up, cli: Cli) -> dict[str, str]:
    """Keys of the platform's stream `shop`, which holds a log, by what they may."""
    cli("streams", "create", "shop")
    eventually(lambda: json.loads(cli("streams", "show", "shop", "-o", "json"))["status"] == "ready", "ready")
    found = {}
    for scope in ("ingest", "read", "admin"):
        made = json.loads(cli("keys", "create", scope, "--stream", "shop", "--scope", scope, "-o", "json"))
        found[scope] = made["secret"]
    cli("send", "payment refused", "--service", "till", "--level", "error", "--api-key", found["ingest"])
    eventually(lambda: "refused" in cli("search", "refused", "--api-key", found["read"]), "stored")
    return found


@pytest.fixture(scope="module")
def place(crds: None, cluster_session: Cluster, secrets: dict[str, str]) -> Iterator[str]:
    """A namespace with the LogStream `shop`, which shares the pods of `plane`; one of those is ready."""
    cluster = cluster_session
    name = cluster.create_namespace()
    cluster.apply(
        stream("plane"), stream("shop", dataPlaneRef={"name": "plane"}), stream("open", anonymousReads=True),
        key("reader", "shop", "read"), key("admin", "shop", "admin", "read"), key("sender", "shop", "ingest"),
        key("stale", "shop", "read"), key("unmade", "shop", "read"), key("broken", "shop", "read"),
        key("foreign", "plane", "read"),
        secret("reader", secrets["read"]), secret("admin", secrets["admin"]), secret("foreign", secrets["read"]),
        secret("stale", "ls_nonesuch_" + "0" * 43), secret("broken", "schlüssel"),
        pod("plane-api-1", "api"), pod("plane-collector-1", "collector"),
        namespace=name,
    )  # fmt: skip
    ready = {"conditions": [{
        "type": "Ready", "status": "True", "reason": "InUse", "lastTransitionTime": "2026-01-31T12:00:00Z",
    }]}  # fmt: skip
    change = json.dumps({"status": ready})
    cluster.kubectl(
        "patch", "lgk", "reader", "admin", "-n", name, "--subresource=status", "--type=merge", f"--patch={change}"
    )
    cluster.mark_ready(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def plugin(cluster: Cluster, up: Up, tmp_path: Path) -> Plugin:
    made = Plugin(cluster, tmp_path / "bin", target=up.url("API").removeprefix("http://"))
    # A person has log-ins of other platforms, whose keys this one must never see.
    mine = tmp_path / "config.toml"
    mine.write_text('current = "mine"\n[contexts.mine]\napi_url = "http://127.0.0.1:9"\napi_key = "ls_mine_mine"\n')
    made.environment |= {"LOGSTREAM_CONFIG": str(mine), "LOGSTREAM_API_KEY": "ls_mine_mine", "LOGSTREAM_CONTEXT": "no"}
    return made


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_search_by_a_forwarded_port(plugin: Plugin, place: str, secrets: dict[str, str]) -> None:
    done = plugin.run("search", "shop", "refused", "level>=warn", "-n", place, "--since", "1d")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ERROR till: payment refused" in done.stdout
    ((pid, pod_name, ports),) = plugin.forwards
    assert (pod_name, ports) == ("pod/plane-api-1", ":8181")
    assert is_gone(pid)
    rows = json.loads(plugin("search", "shop", "-n", place, "-o", "json", "--limit", "5"))
    assert [row["message"] for row in rows] == ["payment refused"]


def test_search_by_an_address(plugin: Plugin, place: str, up: Up) -> None:
    text = plugin("search", "shop", "refused | stats count() by service", "-n", place, "--url", up.url("API"))
    assert text.split() == ["service", "count()", "till", "1"]
    assert plugin.forwards == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("search", "shop", "a AND"), 2, "a AND"),
        (("search", "shop", "--since", "soon"), 2, "--since must be like"),
        (
            ("search", "shop", "--as-key", "stale"),
            1,
            "the key is that of LogStreamAPIKey stale: kubectl logstream keys",
        ),
        (("search", "shop", "--as-key", "foreign"), 2, "is of LogStream plane, not of shop"),
        (("search", "shop", "--as-key", "sender"), 2, "may ingest, and this needs read"),
        (("search", "plane", "--as-key", "foreign"), 1, "take another LogStreamAPIKey with --as-key"),
        (("deadletters", "shop", "replay", "--all"), 1, "say --yes to replay"),
        (("deadletters", "shop", "show", "0-17"), 1, "0-17"),
        (("search", "shop", "--url", "http://127.0.0.1:9"), 1, "see: kubectl logstream status shop -n"),
        (("search", "shop", "--url", "nowhere"), 2, "is not an address"),
        (("search", "shop", "--as-key", "unmade"), 1, "there is no Secret secret-of-unmade in namespace"),
        (("search", "shop", "--as-key", "broken"), 1, "holds no LOGSTREAM_API_KEY"),
        (("deadletters", "shop", "list", "--as-key", "none"), 1, "there is no LogStreamAPIKey none"),
        (("tail", "open"), 1, "LogStream open cannot be asked: it has no API pod"),
    ],
)
def test_a_failure_says_what_to_do(
    plugin: Plugin, place: str, secrets: dict[str, str], words: tuple[str, ...], status: int, said: str
) -> None:
    done = plugin.run(*words, "-n", place)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not any(text in done.stdout + done.stderr for text in (*secrets.values(), "Traceback", "logstream login"))
    assert all(is_gone(pid) for pid, _, _ in plugin.forwards)


def test_dead_letters(plugin: Plugin, place: str) -> None:
    done = plugin.run("deadletters", "shop", "list", "-n", place)
    assert (done.returncode, done.stderr) == (0, "logstream: there are no such dead letters\n")
    assert json.loads(plugin("deadletters", "-n", place, "shop", "list", "-o", "json")) == []


def test_reading_without_a_key(plugin: Plugin, place: str, up: Up, cli: Cli) -> None:
    cli("streams", "create", "open")
    cli("streams", "set", "open", "--anonymous-reads")
    eventually(lambda: json.loads(cli("streams", "show", "open", "-o", "json"))["status"] == "ready", "ready")
    done = plugin.run("search", "open", "refused", "-n", place, "--url", up.url("API"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "nothing found for 'refused', stream open" in done.stderr


def test_what_kubectl_says_of_a_forward_that_fails(cluster: Cluster, place: str, tmp_path: Path) -> None:
    """Up to the kubelet it is the real thing."""
    done = Plugin(cluster, tmp_path / "bin", stand_in=False).run("tail", "shop", "-n", place)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("logstream: no way to the API of LogStream plane: ")
    assert "pod plane-api-1 does not have a host assigned" in done.stderr


def test_the_rights_of_the_page_are_enough(
    plugin: Plugin, place: str, cluster: Cluster, up: Up, tmp_path: Path
) -> None:
    group = {"apiGroups": ["logstream.dev"], "resources": ["logstreams", "logstreamapikeys"]}

    def grant(*rules: dict[str, list[str]]) -> None:
        api = "rbac.authorization.k8s.io"
        cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "person"}},
            {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": "person"}, "rules": list(rules)},
            {
                "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": {"name": "person"},
                "roleRef": {"apiGroup": api, "kind": "Role", "name": "person"},
                "subjects": [{"kind": "ServiceAccount", "name": "person", "namespace": place}],
            },
            namespace=place,
        )  # fmt: skip

    seeing = {**group, "verbs": ["get", "list"]}
    reading = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["secret-of-reader"], "verbs": ["get"]}
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    forwarding = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create"]}
    grant(seeing)
    plugin.environment["KUBECONFIG"] = str(cluster.as_service_account(place, "person"))
    # The namespace is that of the kubeconfig.
    assert "reader" in plugin("status", "shop")
    plugin("keys", "list")
    plugin("top", "--count", "1")
    refused = plugin.run("search", "shop", "refused", "--url", up.url("API"))
    assert (refused.returncode, "kubectl auth can-i get secrets" in refused.stderr) == (1, True), refused.stderr
    refused = plugin.run("pause", "shop")
    assert (refused.returncode, "can-i patch logstreams.logstream.dev" in refused.stderr) == (1, True), refused.stderr

    grant(seeing, reading)
    assert "payment refused" in plugin("search", "shop", "refused", "--since", "1d", "--url", up.url("API"))
    assert "can-i get pods" in plugin.run("search", "shop", "refused").stderr

    real = Plugin(cluster, tmp_path / "real", stand_in=False)
    real.environment["KUBECONFIG"] = plugin.environment["KUBECONFIG"]
    grant(seeing, reading, pods)
    assert "can-i create pods/portforward" in real.run("search", "shop", "refused").stderr
    grant(seeing, reading, pods, forwarding)
    assert "does not have a host assigned" in real.run("search", "shop", "refused").stderr

    grant({**group, "verbs": ["get", "list", "patch"]})
    plugin("keys", "rotate", "sender", "--no-wait")


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_tail_goes_on_when_its_pod_goes(
    plugin: Plugin, place: str, up: Up, secrets: dict[str, str], ended_by: signal.Signals
) -> None:
    def send(text: str) -> None:
        body = {"service": "till", "level": "info", "message": text}
        headers = {"Authorization": f"Bearer {secrets['ingest']}"}
        httpx.post(f"{up.url('collector')}/ingest", json=body, headers=headers).raise_for_status()

    with plugin.begin("tail", "shop", "service:till", "-n", place) as tailing:
        assert tailing.stdout is not None
        eventually(lambda: bool(plugin.forwards), "a port is forwarded")
        # What arrives before the tail does is not of it: send until something is seen.
        out = tailing.stdout.fileno()
        os.set_blocking(out, False)
        seen = ""

        def sees(text: str) -> bool:
            nonlocal seen
            send(text)
            with contextlib.suppress(BlockingIOError):
                seen += os.read(out, 65_536).decode()
            return text in seen

        eventually(lambda: sees("first one"), "the tail shows a log")
        ((first, _, _),) = plugin.forwards
        os.kill(first, signal.SIGKILL)
        eventually(lambda: sees("second one"), "the tail goes on")
        tailing.send_signal(ended_by)
        tailing.wait(30)
        forwards = plugin.forwards
    assert tailing.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[ended_by]
    eventually(lambda: all(is_gone(pid) for pid, _, _ in forwards), "no forward is left", 10)
    # The same port, so that the tail finds its way.
    assert len(forwards) == 2
    assert forwards[1][2].split(":")[0].isdigit()
