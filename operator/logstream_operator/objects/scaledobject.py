"""KEDA's ScaledObject and TriggerAuthentication: processors by the lag of every topic that they serve."""

import contextlib

from logstream_operator.objects.deployment import component_spec
from logstream_operator.objects.meta import PROCESSOR, Object, component_name, make
from logstream_operator.objects.plane import DataPlane, KafkaBackend
from logstream_operator.objects.pod import USERNAME, needs_username
from logstream_operator.spec import InvalidSpec
from logstream_operator.spec.pods import LagAutoscaling

API_VERSION = "keda.sh/v1alpha1"
_SASL = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}


def scaled_object(plane: DataPlane) -> list[Object]:
    """Empty where the resource has a number of replicas, or the cluster no KEDA.

    KEDA takes the largest of its triggers: the stream that is furthest behind.
    """
    scaling = component_spec(plane, PROCESSOR).autoscaling
    if not isinstance(scaling, LagAutoscaling) or not plane.cluster.keda:
        return []
    name = component_name(plane.resource.name, PROCESSOR)
    credentials = _credentials(plane, name)
    body = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": 15,
        "cooldownPeriod": 300,
        # Each change moves partitions: not for every wave.
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}}},
        "triggers": [
            _trigger(plane.backends.kafka, topic, scaling.lag_threshold, credentials, name) for topic in _topics(plane)
        ],
    }
    scaled = make(plane, "ScaledObject", name, PROCESSOR, {"spec": body}, api_version=API_VERSION)
    return [credentials, scaled] if credentials else [scaled]


def _topics(plane: DataPlane) -> list[str]:
    """Of every stream that can have one: a sharer whose name cannot be used is no reason to do nothing."""
    found = set()
    for stream in plane.streams:
        with contextlib.suppress(InvalidSpec):
            found.add(stream.stream().topic)
    return sorted(found)


def _trigger(kafka: KafkaBackend, topic: str, threshold: int, credentials: Object | None, name: str) -> Object:
    metadata = {
        "bootstrapServers": kafka.bootstrap_servers,
        "topic": topic,
        # As `logstream.bus.kafka` names the group of a topic's processors.
        "consumerGroup": f"{topic}.processor",
        "lagThreshold": str(threshold),
        # A partition without a position was not read yet: all of it waits.
        "offsetResetPolicy": "earliest",
    }
    if kafka.security_protocol.startswith("SASL"):
        metadata["sasl"] = _SASL[kafka.sasl_mechanism]
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        metadata["tls"] = "enable"
    trigger: Object = {"type": "kafka", "metadata": metadata}
    if credentials is not None:
        trigger["authenticationRef"] = {"name": name}
    return trigger


def _credentials(plane: DataPlane, name: str) -> Object | None:
    """Where KEDA finds what the processors know: in the Secrets themselves, and the user's name in their environment,
    because it takes one from nowhere else."""
    kafka = plane.backends.kafka
    files = (("password", kafka.password), ("ca", kafka.ca), ("cert", kafka.certificate), ("key", kafka.key))
    targets = [
        {"parameter": parameter, "name": file.secret, "key": file.key} for parameter, file in files if file is not None
    ]
    spec: Object = {}
    if targets:
        spec["secretTargetRef"] = targets
    if needs_username(plane):
        spec["env"] = [{"parameter": "username", "name": USERNAME, "containerName": PROCESSOR}]
    if not spec:
        return None
    return make(plane, "TriggerAuthentication", name, PROCESSOR, {"spec": spec}, api_version=API_VERSION)
