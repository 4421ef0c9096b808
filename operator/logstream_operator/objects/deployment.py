"""The Deployments of the three components."""

from logstream_operator.objects import config
from logstream_operator.objects.meta import (
    API,
    COLLECTOR,
    COMPONENTS,
    PROCESSOR,
    Object,
    component_name,
    make,
    selector,
)
from logstream_operator.objects.plane import DataPlane
from logstream_operator.objects.pod import template
from logstream_operator.spec.pods import DEFAULT_REPLICAS, Component

# New pods first, where requests must always find one. Processors share partitions: some go, then others come, and no
# partition moves twice. A quarter is one at least.
_STRATEGY = {
    COLLECTOR: {"maxSurge": "25%", "maxUnavailable": 0},
    PROCESSOR: {"maxSurge": 0, "maxUnavailable": "25%"},
    API: {"maxSurge": "25%", "maxUnavailable": 0},
}


def component_spec(plane: DataPlane, component: str) -> Component:
    spec = plane.resource.spec
    by_name: dict[str, Component] = {COLLECTOR: spec.collector, PROCESSOR: spec.processor, API: spec.api}
    return by_name[component]


def is_autoscaled(plane: DataPlane, component: str) -> bool:
    """Whether an autoscaler sets the replicas. A processor's needs KEDA; without it there are minReplicas."""
    return component_spec(plane, component).autoscaling is not None and (component != PROCESSOR or plane.cluster.keda)


def replicas(plane: DataPlane, component: str) -> int | None:
    """None: an autoscaler's to say."""
    spec = component_spec(plane, component)
    if is_autoscaled(plane, component):
        return None
    if spec.autoscaling is not None:
        return spec.autoscaling.min_replicas
    return DEFAULT_REPLICAS if spec.replicas is None else spec.replicas


def deployment(plane: DataPlane, component: str, config_map: Object) -> Object:
    """config_map: the component's own."""
    body: Object = {
        "selector": {"matchLabels": selector(plane.resource.name, component)},
        # Old templates name ConfigMaps that are gone: there is nothing to go back to but the resource itself.
        "revisionHistoryLimit": 1,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _STRATEGY[component]},
        "template": template(plane, component, component_spec(plane, component), config_map),
    }
    if (count := replicas(plane, component)) is not None:
        body["replicas"] = count
    name = component_name(plane.resource.name, component)
    return make(plane, "Deployment", name, component, {"spec": body}, api_version="apps/v1")


def workloads(plane: DataPlane) -> list[Object]:
    """ConfigMap and Deployment of each component; first what the next one needs."""
    found: list[Object] = []
    for component in COMPONENTS:
        settings = config.config_map(plane, component)
        found += [settings, deployment(plane, component, settings)]
    return found
