"""The chart on a real API server: every object is taken, releases come, change and go, CRDs arrive and stay."""

import base64
import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.support import chart
from tests.support.cluster import Cluster, CommandError

Helm = Callable[..., str]
CRDS = ("logstreams.logstream.dev", "logstreamapikeys.logstream.dev")
STREAM = {"apiVersion": "logstream.dev/v1alpha1", "kind": "LogStream", "metadata": {"name": "logs"}, "spec": {}}
# Their APIs are not on the server of the tests.
FOREIGN = {"ServiceMonitor"}


@pytest.fixture
def cluster(own_cluster: Cluster) -> Cluster:
    """Of these tests alone: CRDs are the whole cluster's, and come and go here."""
    return own_cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def release(namespace: str, cluster: Cluster, helm: Helm) -> Iterator[str]:
    """A name of a release that is gone afterwards, and the CRDs with it."""
    name = f"r{secrets.token_hex(3)}"
    yield name
    helm("uninstall", name, "--namespace", namespace, "--ignore-not-found")
    cluster.kubectl("delete", "crd", *CRDS, "--ignore-not-found")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name.split(".")[0]) for case in chart.cases()])
def test_the_api_server_takes_every_object(cluster: Cluster, helm: Helm, case: Path) -> None:
    """Server-side dry run with strict fields, under the restricted pod security of the namespace."""
    rendered = [obj for obj in chart.render(case) if obj["kind"] not in FOREIGN]
    wanted = {obj["metadata"]["namespace"] for obj in rendered if "namespace" in obj["metadata"]}
    label = "pod-security.kubernetes.io/enforce=restricted"
    names = {name: cluster.create_namespace(name, [label]) for name in sorted(wanted)}
    try:
        for obj in rendered:
            meta = obj["metadata"]
            if "namespace" in meta:
                meta["namespace"] = names[meta["namespace"]]
        several = yaml.safe_dump_all(rendered)
        told = cluster.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=several
        )
        assert len(told.splitlines()) == len(rendered)
        for name in names.values():
            cluster.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=60s")
        pods = [_pod(obj) for obj in rendered if obj["kind"] in {"Deployment", "StatefulSet"}]
        cluster.kubectl("create", "--dry-run=server", "-f", "-", given=yaml.safe_dump_all(pods))
    finally:
        for name in names.values():
            cluster.delete_namespace(name)


def _pod(workload: chart.Object) -> chart.Object:
    """Of its template. Pods of templates are only warned about; asked for by themselves they are refused."""
    template = workload["spec"]["template"]
    meta = {"name": workload["metadata"]["name"], "namespace": workload["metadata"]["namespace"]}
    claimed = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
    volumes = [*template["spec"]["volumes"], *({"name": name, "emptyDir": {}} for name in claimed)]
    spec = {**template["spec"], "serviceAccountName": "default", "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], **meta}, "spec": spec}


def test_it_is_installed_upgraded_rolled_back_and_uninstalled(
    cluster: Cluster, namespace: str, helm: Helm, release: str, tmp_path: Path
) -> None:
    def replicas() -> int:
        found = cluster.get("deployment", f"{release}-logstream-operator", namespace=namespace)
        return int(found["spec"]["replicas"])

    told = helm("install", release, str(chart.CHART), "--namespace", namespace)
    _notes(told, release, namespace)
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS), "--timeout=60s")
    cluster.apply(STREAM, namespace=namespace)
    assert replicas() == 1

    helm("upgrade", release, str(chart.CHART), "--namespace", namespace, "--set", "replicas=2")
    assert replicas() == 2
    assert cluster.get_all("poddisruptionbudget", namespace=namespace)

    helm("rollback", release, "1", "--namespace", namespace)
    assert replicas() == 1
    assert not cluster.get_all("poddisruptionbudget", namespace=namespace)

    helm("uninstall", release, "--namespace", namespace, "--wait")
    with pytest.raises(CommandError, match="NotFound"):
        replicas()
    # What the users have stays: the CRDs, and so their streams.
    assert cluster.get("logstreams", "logs", namespace=namespace)["spec"]["retention"]["days"] == 30

    # And is there for the next release.
    helm("install", release, str(chart.CHART), "--namespace", namespace)
    assert cluster.get("logstreams", "logs", namespace=namespace)


def _notes(told: str, release: str, namespace: str) -> None:
    notes = told.partition("NOTES:\n")[2]
    commands = re.findall(r"^ {5}kubectl (.*)$", notes, re.MULTILINE)
    assert commands == [
        f"--namespace {namespace} rollout status deployment/{release}-logstream-operator --timeout=5m",
        f"--namespace {namespace} apply -f - <<'END'",
        f"--namespace {namespace} get logstreams --watch",
    ]
    document = re.search(r"<<'END'\n(.*?)\n +END\n", notes, re.DOTALL)
    assert document is not None
    assert yaml.safe_load(document[1])["kind"] == "LogStream"


def test_an_upgrade_brings_changes_of_the_crds(
    cluster: Cluster, namespace: str, helm: Helm, release: str, tmp_path: Path
) -> None:
    """The release before had no printer columns and one field less; streams live through it, and through a rollback."""
    before = _older_chart(tmp_path)

    def columns() -> list[str]:
        version = cluster.get("crd", CRDS[0])["spec"]["versions"][0]
        return [column["name"] for column in version.get("additionalPrinterColumns", ())]

    helm("install", release, str(before), "--namespace", namespace)
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS), "--timeout=60s")
    cluster.apply(STREAM, namespace=namespace)
    uid = cluster.get("logstreams", "logs", namespace=namespace)["metadata"]["uid"]
    assert columns() == []

    helm("upgrade", release, str(chart.CHART), "--namespace", namespace)
    assert "Ready" in columns()
    assert cluster.get("logstreams", "logs", namespace=namespace)["metadata"]["uid"] == uid

    helm("rollback", release, "1", "--namespace", namespace)
    assert columns() == []
    assert cluster.get("logstreams", "logs", namespace=namespace)["metadata"]["uid"] == uid


def _older_chart(folder: Path) -> Path:
    older = folder / "older"
    shutil.copytree(chart.CHART, older)
    about = older / "Chart.yaml"
    about.write_text(about.read_text().replace("version: 0.1.0", "version: 0.0.9", 1))
    for path in (older / "files" / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        for version in crd["spec"]["versions"]:
            version.pop("additionalPrinterColumns")
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("networkPolicy", None)
        path.write_text(yaml.safe_dump(crd))
    return older


def test_generated_passwords_stay_over_upgrades(cluster: Cluster, namespace: str, helm: Helm, release: str) -> None:
    name = f"{release}-logstream-evaluation"

    def passwords() -> list[str]:
        return [
            base64.b64decode(
                cluster.get("secret", f"{name}-{server}", namespace=namespace)["data"]["password"]
            ).decode()
            for server in ("clickhouse", "postgres")
        ]

    helm("install", release, str(chart.CHART), "--namespace", namespace, "--set", "evaluation.enabled=true")
    first = passwords()
    assert all(len(password) == 32 for password in first)
    assert first[0] != first[1]

    helm("upgrade", release, str(chart.CHART), "--namespace", namespace, "--reuse-values", "--set", "replicas=2")
    assert passwords() == first

    # ClickHouse's own configuration has the hash of the same one.
    users = cluster.get("secret", f"{name}-clickhouse-config", namespace=namespace)["data"]["users.xml"]
    assert hashlib.sha256(first[0].encode()).hexdigest() in base64.b64decode(users).decode()


def test_a_second_release_takes_the_crds_that_are_there(
    cluster: Cluster, namespace: str, helm: Helm, release: str
) -> None:
    helm("install", release, str(chart.CHART), "--namespace", namespace)
    other = f"{release}-b"
    elsewhere = cluster.create_namespace()
    try:
        with pytest.raises(CommandError, match="invalid ownership metadata"):
            helm("install", other, str(chart.CHART), "--namespace", elsewhere)
        helm("install", other, str(chart.CHART), "--namespace", elsewhere, "--set", "crds.install=false")
        helm("uninstall", other, "--namespace", elsewhere)
        assert cluster.get("crd", CRDS[0])
    finally:
        cluster.delete_namespace(elsewhere)
