"""Kinds of objects that the operator reads or writes, and where the API server has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROUP = "logstream.dev"
VERSION = "v1alpha1"

Object = dict[str, Any]
"""An object as the API server has it, in JSON."""


@dataclass(frozen=True, slots=True)
class Kind:
    """api_version: "apps/v1", or "v1" for the core. optional: its API may not be installed."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    optional: bool = False

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """namespace None: of all namespaces."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        middle = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        end = "" if name is None else f"/{name}" + (f"/{subresource}" if subresource else "")
        return f"{root}{middle}/{self.plural}{end}"


LOGSTREAM = Kind(f"{GROUP}/{VERSION}", "LogStream", "logstreams")
API_KEY = Kind(f"{GROUP}/{VERSION}", "LogStreamAPIKey", "logstreamapikeys")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
POD = Kind("v1", "Pod", "pods")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
EVENT = Kind("events.k8s.io/v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
PDB = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
HPA = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects", optional=True)
TRIGGER_AUTHENTICATION = Kind("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications", optional=True)
TRIGGER_AUTHENTICATION = Kind("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications", optional=True)
SERVICE_MONITOR = Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", optional=True)
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules", optional=True)
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", optional=True)

CHILDREN: tuple[Kind, ...] = (
    SERVICE_ACCOUNT, CONFIG_MAP, SERVICE, DEPLOYMENT, PDB, HPA, NETWORK_POLICY, INGRESS,
    TRIGGER_AUTHENTICATION, SCALED_OBJECT, SERVICE_MONITOR, PROMETHEUS_RULE, HTTP_ROUTE,
)  # fmt: skip
"""What a LogStream may have, but for Secrets, which are looked up one by one, by name."""

_ALL = {(kind.api_version, kind.name): kind for kind in (*CHILDREN, LOGSTREAM, API_KEY, SECRET, LEASE, EVENT, POD)}


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """Raises KeyError for what is not listed here."""
    return _ALL[obj["apiVersion"], obj["kind"]]
