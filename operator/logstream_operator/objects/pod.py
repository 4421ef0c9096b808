"""The pod of a component: what Kubernetes calls restricted, with probes, spread over nodes, with what users add."""

from collections.abc import Mapping

from logstream_operator.objects import config, secrets
from logstream_operator.objects.meta import (
    CONFIG_ANNOTATION,
    HEALTH_PORT,
    PROCESSOR,
    SECRETS_ANNOTATION,
    SERVED,
    Object,
    labels,
    selector,
)
from logstream_operator.objects.plane import DataPlane, SecretFile
from logstream_operator.objects.serviceaccount import service_account_name
from logstream_operator.spec.pods import Component, PodSpec, Resources
from logstream_operator.spec.quantity import amount

GRACE_SECONDS = config.DRAIN_SECONDS + config.SHUTDOWN_SECONDS + 17
"""More than both: what is still open is closed after them, and the image's start and end take their time."""
_ZONE, _NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
# Peak memory under full load was 133, 321 and 150 MB; what is bounded by settings comes on top.
DEFAULT_RESOURCES: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "collector": ({"cpu": "250m", "memory": "256Mi"}, {"memory": "1Gi"}),
    "processor": ({"cpu": "250m", "memory": "384Mi"}, {"memory": "1Gi"}),
    "api": ({"cpu": "250m", "memory": "256Mi"}, {"memory": "1Gi"}),
}
TMP_SIZE = "1Gi"
USERNAME = "LOGSTREAM_KAFKA_USERNAME"
"""In the environment of processors that KEDA scales, which reads it there; the same is in the settings file."""


def template(plane: DataPlane, component: str, spec: Component, config_map: Object) -> Object:
    """A pod template. config_map: the component's own."""
    overrides = spec.pod_template
    annotations = {
        **overrides.metadata.annotations,
        CONFIG_ANNOTATION: config.checksum(config_map["data"][config.FILE]),
        SECRETS_ANNOTATION: plane.backends.checksum,
    }
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": config_map["metadata"]["name"], "defaultMode": 0o444}},
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
    ]
    mounts: list[Object] = [
        {"name": "config", "mountPath": config.FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 — the pod's own.
    ]
    if (mounted := secrets.volume(plane, component)) is not None:
        volumes.append(mounted)
        mounts.append({"name": "secrets", "mountPath": secrets.FOLDER, "readOnly": True})
    return {
        "metadata": {
            "labels": {**overrides.metadata.labels, **labels(plane, component)},
            "annotations": annotations,
        },
        "spec": {
            "serviceAccountName": service_account_name(plane),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(plane, component, spec.resources, mounts)],
            "volumes": volumes,
            **_placement(plane, component, overrides.spec),
        },
    }


def _container(plane: DataPlane, component: str, resources: Resources, mounts: list[Object]) -> Object:
    ports = [{"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"}]
    if component in SERVED:
        ports.insert(0, {"name": "http", "containerPort": SERVED[component], "protocol": "TCP"})
    return {
        "name": component,
        "image": plane.image,
        "imagePullPolicy": plane.pull_policy,
        "command": ["logstream"],
        "args": [component, "--config", f"{config.FOLDER}/{config.FILE}"],
        "env": _environment(plane, component),
        "ports": ports,
        "resources": _resources(component, resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        # It answers before any backend was reached; what takes time is the interpreter on a busy node.
        "startupProbe": {**_probe("/livez"), "periodSeconds": 2, "failureThreshold": 60},
        # A process whose event loop stands still ends itself after 60 s; this one is for what cannot do that.
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 15, "failureThreshold": 6},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 5, "failureThreshold": 2},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _probe(path: str) -> Object:
    return {"httpGet": {"path": path, "port": "health", "scheme": "HTTP"}, "timeoutSeconds": 5}


def needs_username(plane: DataPlane) -> bool:
    """Whether KEDA signs in to Kafka as the processors do."""
    return (
        plane.cluster.keda
        and plane.resource.spec.processor.autoscaling is not None
        and plane.backends.kafka.security_protocol.startswith("SASL")
    )


def _environment(plane: DataPlane, component: str) -> list[Object]:
    """Never a secret: whoever sees a pod sees this."""
    found = [{"name": "HOME", "value": "/tmp"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}]  # noqa: S108
    accounts = plane.backends.postgres
    if accounts.ca is not None and isinstance(accounts.url, SecretFile):
        found.append({"name": "PGSSLROOTCERT", "value": secrets.path("postgres/ca")})
    if component == PROCESSOR and needs_username(plane):
        found.append({"name": USERNAME, "value": plane.backends.kafka.username})
    return found


def _resources(component: str, given: Resources) -> Object:
    requests, limits = (dict(default) for default in DEFAULT_RESOURCES[component])
    wanted = {name: str(value) for name, value in given.requests.items()}
    bounds = {name: str(value) for name, value in given.limits.items()}
    # A default gives way to what was asked for: the API server takes no request above its limit.
    for name, value in wanted.items():
        if name in limits and amount(value) > amount(limits[name]):
            limits[name] = value
    for name, value in bounds.items():
        if name in requests and amount(value) < amount(requests[name]):
            requests[name] = value
    return {"requests": {**requests, **wanted}, "limits": {**limits, **bounds}}


def _placement(plane: DataPlane, component: str, spec: PodSpec) -> Object:
    found: Object = {}
    if spec.node_selector:
        found["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        found["tolerations"] = [
            {name: value for name, value in one.model_dump(by_alias=True, exclude_none=True).items() if value != ""}
            for one in spec.tolerations
        ]
    if spec.affinity is not None:
        found["affinity"] = spec.affinity
    for field, value in (
        ("priorityClassName", spec.priority_class_name),
        ("runtimeClassName", spec.runtime_class_name),
        ("schedulerName", spec.scheduler_name),
    ):
        if value:
            found[field] = value
    if spec.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": one.name} for one in spec.image_pull_secrets]
    own = {"matchLabels": selector(plane.resource.name, component)}
    if spec.topology_spread_constraints is None:
        constraints = [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"} for key in (_ZONE, _NODE)
        ]
    else:
        constraints = [one.model_dump(by_alias=True, exclude_none=True) for one in spec.topology_spread_constraints]
    if constraints:
        found["topologySpreadConstraints"] = [{**one, "labelSelector": own} for one in constraints]
    return found
