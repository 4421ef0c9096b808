"""NetworkPolicies: pods are reached on the ports that they serve, and reach DNS and their backends."""

from collections.abc import Sequence

from logstream_operator.objects.meta import COLLECTOR, HEALTH_PORT, SERVED, Object, component_name, make, selector
from logstream_operator.objects.plane import DataPlane


def network_policy(plane: DataPlane, component: str) -> Object | None:
    """None where the resource does without. By ports alone: the backends' addresses are names, which policies do not
    know, and may be anywhere."""
    if not plane.resource.spec.network_policy.enabled:
        return None
    served = [HEALTH_PORT] + ([SERVED[component]] if component in SERVED else [])
    body = {
        "podSelector": {"matchLabels": selector(plane.resource.name, component)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": _tcp(sorted(served))}],
        "egress": _egress(plane, component),
    }
    name = component_name(plane.resource.name, component)
    return make(plane, "NetworkPolicy", name, component, {"spec": body}, api_version="networking.k8s.io/v1")


def _egress(plane: DataPlane, component: str) -> list[Object]:
    backends = plane.backends
    needed = [backends.kafka.ports, backends.postgres.ports]
    if component != COLLECTOR:
        needed.append(backends.clickhouse.ports)
    if not all(needed):
        return [{}]
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    return [dns, {"ports": _tcp(sorted({port for ports in needed for port in ports}))}]


def _tcp(ports: Sequence[int]) -> list[Object]:
    return [{"port": port, "protocol": "TCP"} for port in ports]
