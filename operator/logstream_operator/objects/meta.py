"""What every object of a data plane has: its name, labels and owner; and the ports and paths they agree on."""

from collections.abc import Mapping
from typing import Any

from logstream_operator.objects.plane import DataPlane
from logstream_operator.spec import API_VERSION, child_name

Object = dict[str, Any]
"""A Kubernetes object as JSON has it."""

FIELD_MANAGER = "logstream-operator"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_LABEL = "app.kubernetes.io/managed-by"
LOGSTREAM_LABEL = "logstream.dev/logstream"
SECRETS_ANNOTATION = "logstream.dev/secrets-checksum"
CONFIG_ANNOTATION = "logstream.dev/config-checksum"

COLLECTOR, PROCESSOR, API = "collector", "processor", "api"
COMPONENTS = (COLLECTOR, PROCESSOR, API)
COLLECTOR_PORT, API_PORT, HEALTH_PORT = 8080, 8081, 8082
SERVED = {COLLECTOR: COLLECTOR_PORT, API: API_PORT}
"""The port of each component that has one beside that for probes and metrics."""


def selector(name: str, component: str | None = None) -> dict[str, str]:
    """The labels by which pods are found; a Deployment's can never change."""
    labels = {"app.kubernetes.io/name": "logstream", INSTANCE_LABEL: name}
    return labels if component is None else {**labels, COMPONENT_LABEL: component}


def labels(plane: DataPlane, component: str) -> dict[str, str]:
    name = plane.resource.name
    own = {**selector(name, component), MANAGED_LABEL: FIELD_MANAGER, LOGSTREAM_LABEL: name}
    return {**plane.labels, **own}


def make(
    plane: DataPlane,
    kind: str,
    name: str,
    component: str,
    body: Mapping[str, Any],
    *,
    api_version: str = "v1",
    annotations: Mapping[str, str] | None = None,
    extra_labels: Mapping[str, str] | None = None,
) -> Object:
    """An object that belongs to the data plane: it goes when the LogStream does."""
    owner = plane.resource
    metadata: Object = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**(extra_labels or {}), **labels(plane, component)},
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "LogStream",
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def component_name(owner: str, component: str) -> str:
    """Of a component's Deployment, Service, disruption budget and autoscaler."""
    return child_name(owner, component)


def service_host(owner: str, namespace: str, component: str) -> str:
    """Without the cluster's domain, which each cluster may choose: resolvers add it."""
    return f"{component_name(owner, component)}.{namespace}.svc"


def endpoints(owner: str, namespace: str) -> dict[str, str]:
    """`ingest` and `api`, as programs in the cluster reach them; for status.endpoints and for Secrets of keys."""
    return {
        "ingest": f"http://{service_host(owner, namespace, COLLECTOR)}:{COLLECTOR_PORT}",
        "api": f"http://{service_host(owner, namespace, API)}:{API_PORT}",
    }
