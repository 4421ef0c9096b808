"""PodDisruptionBudgets: a node's drain takes one pod of a component at a time."""

from logstream_operator.objects.meta import Object, component_name, make, selector
from logstream_operator.objects.plane import DataPlane


def disruption_budget(plane: DataPlane, component: str) -> Object:
    """maxUnavailable, not minAvailable: with a single replica that would stop every drain."""
    body = {
        "maxUnavailable": 1,
        # Pods that are not ready do nothing that an eviction could interrupt.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(plane.resource.name, component)},
    }
    name = component_name(plane.resource.name, component)
    return make(plane, "PodDisruptionBudget", name, component, {"spec": body}, api_version="policy/v1")
