"""The full list of a data plane's objects."""

from logstream_operator.objects.autoscaler import autoscaler
from logstream_operator.objects.dashboard import grafana_dashboard
from logstream_operator.objects.deployment import workloads
from logstream_operator.objects.disruption import disruption_budget
from logstream_operator.objects.ingress import http_route, ingress
from logstream_operator.objects.meta import API, COLLECTOR, COMPONENTS, Object
from logstream_operator.objects.monitoring import prometheus_rule, service_monitor
from logstream_operator.objects.networkpolicy import network_policy
from logstream_operator.objects.plane import DataPlane
from logstream_operator.objects.scaledobject import scaled_object
from logstream_operator.objects.service import metrics_service, service
from logstream_operator.objects.serviceaccount import service_account


def render(plane: DataPlane) -> list[Object]:
    """Every object that there should be, in the order in which they are applied: what pods need comes before them.
    What is not in the list and carries our labels should not be there.

    The same plane gives the same list. Raises InvalidSpec where the resource's name cannot be used.
    """
    plane.resource.stream()
    wanted: list[Object | None] = [
        service_account(plane),
        *(network_policy(plane, component) for component in COMPONENTS),
        *(service(plane, component) for component in (COLLECTOR, API)),
        metrics_service(plane),
        *workloads(plane),
        *(disruption_budget(plane, component) for component in COMPONENTS),
        *(autoscaler(plane, component) for component in (COLLECTOR, API)),
        *scaled_object(plane),
        ingress(plane),
        http_route(plane),
        service_monitor(plane),
        prometheus_rule(plane),
        grafana_dashboard(plane),
    ]
    return [one for one in wanted if one is not None]
