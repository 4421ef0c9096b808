"""The objects of a data plane, without a cluster."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.support.certificates import Authority
from tests.support.planes import EVERYTHING, FULL, NOTHING, PLAIN, SECURE, parsed, plane

from logstream import metrics
from logstream.run.load import load
from logstream.run.settings import PROCESSES
from logstream_operator.objects import COMPONENTS, ClusterFacts, DataPlane, endpoints, render
from logstream_operator.objects.config import FILE, FOLDER, dump
from logstream_operator.objects.pod import GRACE_SECONDS
from logstream_operator.objects.secrets import FOLDER as SECRETS
from logstream_operator.spec import InvalidSpec

Object = dict[str, Any]
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
PLANES = {
    "minimal": plane(),
    "full": plane(backends=SECURE, cluster=EVERYTHING, sharers=("cart", "pay"), **FULL),
    "without options": plane(backends=SECURE, **FULL),
    "gateway": plane(
        cluster=EVERYTHING, gateway={"parentRefs": [{"name": "public", "namespace": "infra", "port": 443}]}
    ),
    "long name": plane("a" * 50, cluster=EVERYTHING, **FULL),
}
each_plane = pytest.mark.parametrize("given_plane", PLANES.values(), ids=PLANES.keys())


def of(objects: list[Object], kind: str, component: str | None = None) -> list[Object]:
    return [
        one for one in objects
        if one["kind"] == kind
        and component in (None, one["metadata"]["labels"]["app.kubernetes.io/component"])
    ]  # fmt: skip


def one(objects: list[Object], kind: str, component: str | None = None) -> Object:
    (found,) = of(objects, kind, component)
    return found


def container(deployment: Object) -> Object:
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


# What holds for all objects


def check(objects: list[Object], given_plane: DataPlane) -> None:
    owner = given_plane.resource
    seen = set()
    for obj in objects:
        meta = obj["metadata"]
        identity = obj["apiVersion"], obj["kind"], meta["name"]
        assert identity not in seen
        seen.add(identity)
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", meta["name"]), meta["name"]
        assert meta["namespace"] == owner.namespace
        assert [(ref["kind"], ref["uid"], ref["controller"]) for ref in meta["ownerReferences"]] == [
            ("LogStream", owner.uid, True)
        ]
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "logstream-operator"
        assert meta["labels"]["logstream.dev/logstream"] == owner.name
        for labels in labels_in(obj):
            for key, value in labels.items():
                assert LABEL_KEY.fullmatch(key), key
                assert LABEL_VALUE.fullmatch(value), value
        # JSON alone: what was rendered is what the API server gets.
        assert json.loads(json.dumps(obj)) == obj


def labels_in(value: Any) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("labels", "matchLabels") and isinstance(inner, dict):
                yield inner
            else:
                yield from labels_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from labels_in(inner)


@each_plane
def test_every_object_is_named_labelled_and_owned(given_plane: DataPlane) -> None:
    objects = render(given_plane)
    check(objects, given_plane)
    assert objects == render(given_plane)


COMPONENT = st.fixed_dictionaries({}, optional={"replicas": st.integers(0, 500)}) | st.fixed_dictionaries(
    {
        "autoscaling": st.builds(
            lambda low, more: {"minReplicas": low, "maxReplicas": low + more}, st.integers(1, 200), st.integers(0, 300)
        )
    }
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "collector": COMPONENT,
        "processor": COMPONENT,
        "api": COMPONENT,
        "networkPolicy": st.fixed_dictionaries({"enabled": st.booleans()}),
        "ingress": st.just(FULL["ingress"]),
        "redaction": st.just(FULL["redaction"]),
        "ingest": st.fixed_dictionaries({"maxRecords": st.integers(1, 10_000_000)}),
        "topic": st.fixed_dictionaries({"partitions": st.integers(1, 1000)}),
    },
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    name=st.from_regex(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", fullmatch=True),
    spec=SPECS,
    cluster=st.builds(ClusterFacts, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    backends=st.sampled_from([PLAIN, SECURE]),
)
def test_every_valid_spec_renders_valid_objects(name: str, spec: Any, cluster: ClusterFacts, backends: Any) -> None:
    given_plane = plane(name, cluster=cluster, backends=backends, **spec)
    check(render(given_plane), given_plane)


def test_a_name_that_cannot_be_used() -> None:
    with pytest.raises(InvalidSpec):
        render(plane("1a"))


def test_sharers_change_no_pod() -> None:
    alone, shared = render(plane()), render(plane(sharers=("cart",)))
    assert alone == shared


def test_retention_quota_and_topic_change_no_object() -> None:
    changed = plane(
        retention={"days": 3}, quota={"recordsPerSecond": 5}, topic={"partitions": 12, "retentionHours": 1},
        anonymousReads=True, deletionPolicy="Delete",
    )  # fmt: skip
    assert render(changed) == render(plane())


# Settings


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("given_plane", [PLANES["minimal"], PLANES["full"]], ids=["minimal", "full"])
def test_settings_are_read_by_the_processes(given_plane: DataPlane, component: str, tmp_path: Path) -> None:
    """As the pods will: the file mounted, secrets as files, and nothing else in the environment."""
    objects = render(given_plane)
    config = one(of(objects, "ConfigMap", component), "ConfigMap")
    deployment = one(objects, "Deployment", component)
    text = mounted(config["data"][FILE], deployment, tmp_path, Authority(tmp_path / "authority").ca_file.read_text())
    path = tmp_path / "logstream.yaml"
    path.write_text(text)
    loaded = load(PROCESSES[component], environ={}, path=path)
    assert not loaded.warnings
    read: Any = loaded.settings
    assert read.run.create_missing is False
    assert read.run.health_port == 8082
    (entry,) = read.streams()
    assert (entry.name, entry.namespace, entry.generation) == ("web", "shop", given_plane.resource.uid)
    assert read.kafka.bootstrap_servers == given_plane.backends.kafka.bootstrap_servers
    assert read.auth.url.startswith("postgresql://shop_web@postgres/shop_web")
    assert read.run.drain_seconds + read.run.shutdown_seconds < GRACE_SECONDS
    if component != "processor":
        limits = getattr(read, component).limits
        assert limits.max_records == given_plane.resource.spec.ingest.values()["max_records"]
    if given_plane is PLANES["full"]:
        assert read.kafka.password.get_secret_value() == "web-backends/kafka-password"
        assert read.auth.password.get_secret_value() == "web-backends/postgres-password"
        assert "sslmode=verify-full&sslrootcert=" in read.auth.url
        if component != "collector":
            assert read.store.url == CONTENTS["url"]
            assert read.store.cluster == "logs"
        if component != "processor":
            redaction = getattr(read, component).redaction
            assert redaction.hash_key.get_secret_value() == CONTENTS["hash"]
            assert [rule.action for rule in redaction.rules] == ["hash", "mask"]


CONTENTS = {"url": "https://clickhouse:8443", "hash": "0123456789abcdef"}


def mounted(text: str, deployment: Object, folder: Path, authority: str) -> str:
    """The settings with paths of files below `folder` in place of the pod's; most files hold where they are from."""
    contents = {**CONTENTS, "ca.crt": authority}
    for volume in deployment["spec"]["template"]["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", ()):
            secret = source["secret"]
            for item in secret["items"]:
                path = folder / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(contents.get(item["key"], f"{secret['name']}/{item['key']}"))
    return text.replace(SECRETS, str(folder))


@given(st.dictionaries(st.text("abc_", min_size=1), st.text() | st.integers() | st.booleans() | st.lists(st.text())))
def test_any_setting_comes_back(values: dict[str, Any]) -> None:
    assert yaml.safe_load(dump({"run": values, "log": {"format": "json"}})) == {
        "run": values or None, "log": {"format": "json"},
    }  # fmt: skip


def test_settings_are_immutable_and_named_by_what_they_say() -> None:
    before, after = (of(render(plane(ingest={"maxRecords": records})), "ConfigMap") for records in (5, 6))
    assert all(config["immutable"] for config in before)
    names = [[config["metadata"]["name"] for config in found] for found in (before, after)]
    changed = [old != new for old, new in zip(*names, strict=True)]
    # The processor holds nobody to these limits: its pods stay.
    assert dict(zip(COMPONENTS, changed, strict=True)) == {"collector": True, "processor": False, "api": True}


@each_plane
def test_no_secret_is_in_settings_or_environment(given_plane: DataPlane) -> None:
    """Secrets are named, and mounted as files; nothing takes one by envFrom or valueFrom."""
    for deployment in of(render(given_plane), "Deployment"):
        found = container(deployment)
        assert "envFrom" not in found
        assert all(set(variable) == {"name", "value"} for variable in found["env"])


@pytest.mark.parametrize(
    ("component", "folders"),
    [
        ("collector", {"kafka", "postgres", "redaction"}),
        ("processor", {"kafka", "postgres", "clickhouse"}),
        ("api", {"kafka", "postgres", "clickhouse", "redaction"}),
    ],
)
def test_pods_get_the_secrets_that_they_need(component: str, folders: set[str]) -> None:
    deployment = one(render(PLANES["full"]), "Deployment", component)
    (volume,) = (one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "secrets")
    paths = [item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]]
    assert {path.split("/")[0] for path in paths} == folders
    assert len(paths) == len(set(paths))


# Pods


def restricted(pod: Object) -> None:
    """Pod Security Standards, "restricted", of Kubernetes 1.34."""
    for forbidden in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        assert forbidden not in pod
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context.get("runAsUser") != 0
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"sysctls", "seLinuxOptions", "appArmorProfile"} & context.keys()
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= allowed
    for found in pod["containers"] + pod.get("initContainers", []):
        own = found["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["runAsNonRoot"] is True
        assert own["readOnlyRootFilesystem"] is True
        assert not {"privileged", "procMount"} & own.keys()
        assert all("hostPort" not in port for port in found["ports"])
        assert "lifecycle" not in found
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert "host" not in found[probe]["httpGet"]


@each_plane
def test_every_pod_is_restricted(given_plane: DataPlane) -> None:
    deployments = of(render(given_plane), "Deployment")
    assert len(deployments) == 3
    for deployment in deployments:
        restricted(deployment["spec"]["template"]["spec"])


@each_plane
def test_pods_ask_the_api_server_nothing(given_plane: DataPlane) -> None:
    objects = render(given_plane)
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    for deployment in of(objects, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["serviceAccountName"] == one(objects, "ServiceAccount")["metadata"]["name"]


@each_plane
def test_every_file_that_is_named_is_mounted(given_plane: DataPlane) -> None:
    objects = render(given_plane)
    configs = {config["metadata"]["name"]: config for config in of(objects, "ConfigMap")}
    for deployment in of(objects, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container(deployment)["volumeMounts"]}
        assert set(volumes) == {mount["name"] for mount in container(deployment)["volumeMounts"]}
        text = configs[mounts[FOLDER]["configMap"]["name"]]["data"][FILE]
        named = set(re.findall(rf"{SECRETS}/([\w/-]+)", text.replace("%2F", "/")))
        sources = mounts.get(SECRETS, {}).get("projected", {}).get("sources", ())
        there = {item["path"] for source in sources for item in source["secret"]["items"]}
        assert named == there


def test_probes_mean_something() -> None:
    for deployment in of(render(plane()), "Deployment"):
        found = container(deployment)
        assert found["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health", "scheme": "HTTP"}
        assert found["startupProbe"]["httpGet"]["path"] == "/livez"
        assert found["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert {"name": "health", "containerPort": 8082, "protocol": "TCP"} in found["ports"]
        # A check of /readyz may take three seconds.
        assert found["readinessProbe"]["timeoutSeconds"] > 3


def test_overrides_reach_the_pods() -> None:
    pod_template = one(render(PLANES["full"]), "Deployment", "collector")["spec"]["template"]
    given_spec = FULL["collector"]["podTemplate"]["spec"]
    assert pod_template["metadata"]["labels"]["team"] == "shop"
    assert pod_template["metadata"]["annotations"]["example.com/cost"] == "42"
    pod = pod_template["spec"]
    for field in (
        "nodeSelector", "affinity", "priorityClassName", "runtimeClassName", "schedulerName", "imagePullSecrets",
        "tolerations",
    ):  # fmt: skip
        assert pod[field] == given_spec[field]
    (constraint,) = pod["topologySpreadConstraints"]
    assert constraint.pop("labelSelector")["matchLabels"]["app.kubernetes.io/component"] == "collector"
    assert constraint == given_spec["topologySpreadConstraints"][0]


def test_pods_are_spread_unless_told_otherwise() -> None:
    def constraints(**spec: Any) -> list[str]:
        pod = one(render(plane(**spec)), "Deployment", "api")["spec"]["template"]["spec"]
        return [constraint["topologyKey"] for constraint in pod.get("topologySpreadConstraints", ())]

    assert constraints() == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert constraints(api={"podTemplate": {"spec": {"topologySpreadConstraints": []}}}) == []


@pytest.mark.parametrize(
    ("given_resources", "requests", "limits"),
    [
        ({}, {"cpu": "250m", "memory": "256Mi"}, {"memory": "1Gi"}),
        ({"requests": {"memory": "4Gi"}}, {"cpu": "250m", "memory": "4Gi"}, {"memory": "4Gi"}),
        ({"requests": {"memory": "512Mi"}}, {"cpu": "250m", "memory": "512Mi"}, {"memory": "1Gi"}),
        ({"limits": {"memory": "128Mi"}}, {"cpu": "250m", "memory": "128Mi"}, {"memory": "128Mi"}),
        ({"limits": {"cpu": 2}}, {"cpu": "250m", "memory": "256Mi"}, {"memory": "1Gi", "cpu": "2"}),
        ({"limits": {"cpu": "100m"}}, {"cpu": "100m", "memory": "256Mi"}, {"memory": "1Gi", "cpu": "100m"}),
    ],
)
def test_requests_are_never_more_than_limits(given_resources: Any, requests: Any, limits: Any) -> None:
    found = container(one(render(plane(api={"resources": given_resources})), "Deployment", "api"))["resources"]
    assert found == {"requests": requests, "limits": limits}


def test_a_changed_password_rolls_the_pods() -> None:
    annotations = [
        deployment["spec"]["template"]["metadata"]["annotations"] for deployment in of(render(plane()), "Deployment")
    ]
    assert {one["logstream.dev/secrets-checksum"] for one in annotations} == {"c0ffee"}


# How many


def test_replicas() -> None:
    def counts(**spec: Any) -> list[int | None]:
        deployments = of(render(plane(cluster=cluster, **spec)), "Deployment")
        return [deployment["spec"].get("replicas") for deployment in deployments]

    cluster = EVERYTHING
    assert counts() == [2, 2, 2]
    assert counts(collector={"replicas": 0}, processor={"replicas": 7}) == [0, 7, 2]
    scaled = {"autoscaling": {"minReplicas": 3, "maxReplicas": 9}}
    # Left out: an apply would fight the autoscaler.
    assert counts(collector=scaled, processor=scaled, api=scaled) == [None, None, None]
    cluster = NOTHING
    assert counts(processor=scaled) == [2, 3, 2]


def test_autoscaler() -> None:
    objects = render(PLANES["full"])
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-collector"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert scaler["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}


def test_scaling_on_lag_of_every_topic() -> None:
    given_plane = PLANES["full"]
    objects = render(given_plane)
    scaled = one(objects, "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (1, 6)
    topics = [trigger["metadata"]["topic"] for trigger in scaled["triggers"]]
    assert sorted(topics) == sorted(stream.stream().topic for stream in given_plane.streams)
    for trigger in scaled["triggers"]:
        assert trigger["metadata"]["consumerGroup"] == f"{trigger['metadata']['topic']}.processor"
        assert trigger["metadata"]["lagThreshold"] == "5000"
        assert trigger["metadata"]["sasl"] == "scram_sha512"
        assert trigger["metadata"]["tls"] == "enable"
    credentials = one(objects, "TriggerAuthentication")
    assert scaled["triggers"][0]["authenticationRef"]["name"] == credentials["metadata"]["name"]
    assert {"parameter": "password", "name": "web-backends", "key": "kafka-password"} in credentials["spec"][
        "secretTargetRef"
    ]
    (variable,) = credentials["spec"]["env"]
    environment = container(one(objects, "Deployment", "processor"))["env"]
    assert {"name": variable["name"], "value": "shop_web"} in environment


def test_a_sharer_that_cannot_be_used_stops_nobody() -> None:
    scaled = one(render(plane(cluster=EVERYTHING, sharers=("1a", "b"), **FULL)), "ScaledObject")["spec"]
    assert len(scaled["triggers"]) == 2


def test_no_keda_no_scaled_object() -> None:
    assert not of(render(PLANES["without options"]), "ScaledObject")
    plain = render(plane(cluster=EVERYTHING, processor={"autoscaling": {"maxReplicas": 4}}))
    assert one(plain, "ScaledObject")
    assert not of(plain, "TriggerAuthentication")


# Around the pods


def test_services_reach_the_pods() -> None:
    objects = render(plane())
    for component, port in (("collector", 8080), ("api", 8081)):
        service = one(objects, "Service", component)
        labels = one(objects, "Deployment", component)["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        (found,) = service["spec"]["ports"]
        assert found["port"] == port
        assert {"name": found["targetPort"], "containerPort": port, "protocol": "TCP"} in container(
            one(objects, "Deployment", component)
        )["ports"]
        kind = "ingest" if component == "collector" else "api"
        assert endpoints("web", "shop")[kind] == f"http://{service['metadata']['name']}.shop.svc:{port}"
    gathered = one(objects, "Service", "metrics")["spec"]
    assert gathered["clusterIP"] == "None"
    for deployment in of(objects, "Deployment"):
        assert gathered["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_disruption_budgets() -> None:
    objects = render(plane())
    budgets = of(objects, "PodDisruptionBudget")
    assert len(budgets) == 3
    for component, budget in zip(COMPONENTS, budgets, strict=True):
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == one(objects, "Deployment", component)["spec"]["selector"]


def test_network_policies_open_what_is_served_and_needed() -> None:
    def ports(rules: list[Object]) -> set[int]:
        return {port["port"] for rule in rules for port in rule["ports"]}

    objects = render(plane())
    policies = {component: one(objects, "NetworkPolicy", component)["spec"] for component in COMPONENTS}
    assert {name: ports(policy["ingress"]) for name, policy in policies.items()} == {
        "collector": {8080, 8082}, "processor": {8082}, "api": {8081, 8082},
    }  # fmt: skip
    assert {name: ports(policy["egress"]) for name, policy in policies.items()} == {
        "collector": {53, 9092, 5432}, "processor": {53, 9092, 5432, 8123}, "api": {53, 9092, 5432, 8123},
    }  # fmt: skip
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())
    assert not of(render(plane(networkPolicy={"enabled": False})), "NetworkPolicy")


def test_ingress_and_route() -> None:
    found = one(render(PLANES["full"]), "Ingress")
    (rule,) = found["spec"]["rules"]
    assert rule["host"] == "logs.example.com"
    assert [(path["path"], path["backend"]["service"]["name"]) for path in rule["http"]["paths"]] == [
        ("/ingest", "web-collector"), ("/", "web-api"),
    ]  # fmt: skip
    assert found["spec"]["tls"] == [{"hosts": ["logs.example.com"], "secretName": "logs-tls"}]
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["metadata"]["annotations"] == FULL["ingress"]["annotations"]
    route = one(render(PLANES["gateway"]), "HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "infra", "port": 443}]
    assert [rule["backendRefs"][0] for rule in route["rules"]] == [
        {"name": "web-collector", "port": 8080}, {"name": "web-api", "port": 8081},
    ]  # fmt: skip
    without = plane(gateway={"parentRefs": [{"name": "public"}]})
    assert not of(render(without), "HTTPRoute")


# Monitoring


def names_of_metrics() -> set[str]:
    assert metrics.exposition()
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        family.name + suffix
        for family in REGISTRY.collect()
        if family.name.startswith("logstream_")
        for suffix in suffixes[family.type]
    }


def test_dashboard_and_alerts_name_metrics_that_there_are() -> None:
    objects = render(PLANES["full"])
    (config,) = (found for found in of(objects, "ConfigMap", "metrics"))
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    model = json.loads(next(iter(config["data"].values())))
    expressions = [target["expr"] for panel in model["panels"] for target in panel["targets"]]
    (group,) = one(objects, "PrometheusRule")["spec"]["groups"]
    expressions += [rule["expr"] for rule in group["rules"]]
    named = {name for text in expressions for name in re.findall(r"\blogstream_\w+", text)}
    assert named
    assert named <= names_of_metrics()
    assert all('namespace="shop",logstream="web"' in text for text in expressions)
    assert all(text.count("(") == text.count(")") and text.count("{") == text.count("}") for text in expressions)
    assert len(model["uid"]) <= 40
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in model["panels"]]
    assert len(set(places)) == len(places)


def test_service_monitor_finds_the_service_and_its_port() -> None:
    objects = render(PLANES["full"])
    monitor = one(objects, "ServiceMonitor")["spec"]
    service = one(objects, "Service", "metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    for component in ("collector", "api"):
        labels = one(objects, "Service", component)["metadata"]["labels"]
        assert not monitor["selector"]["matchLabels"].items() <= labels.items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == {
        port["name"] for port in service["spec"]["ports"]
    }


def test_what_the_cluster_does_not_know_is_left_out() -> None:
    kinds = {obj["kind"] for obj in render(PLANES["without options"])}
    assert not kinds & {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule", "HTTPRoute"}
    assert len(of(render(PLANES["without options"]), "ConfigMap")) == 3


GOLDEN = Path(__file__).parents[1] / "golden" / "operator"


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_golden(name: str) -> None:
    """The whole, to be read: a change of it is meant. `REGENERATE=1 pytest …` writes it anew."""
    text = yaml.safe_dump_all(json.loads(json.dumps(render(PLANES[name]))), sort_keys=True, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("REGENERATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def test_a_plane_of_another_resource_is_another_plane() -> None:
    assert parsed("a").uid == parsed("b").uid
    names = [{(obj["kind"], obj["metadata"]["name"]) for obj in render(plane(name))} for name in ("a", "b")]
    assert not names[0] & names[1]
