"""The full list of a data plane's objects."""

from logstream_operator.objects.deployment import workloads
from logstream_operator.objects.meta import API, COLLECTOR, Object
from logstream_operator.objects.plane import DataPlane
from logstream_operator.objects.service import metrics_service, service
from logstream_operator.objects.serviceaccount import service_account


def render(plane: DataPlane) -> list[Object]:
    """Every object that there should be, in the order in which they are applied. What is not in the list and carries
    our labels should not be there.

    The same plane gives the same list. Raises InvalidSpec where the resource's name cannot be used.
    """
    plane.resource.stream()
    return [
        service_account(plane),
        *(service(plane, component) for component in (COLLECTOR, API)),
        metrics_service(plane),
        *workloads(plane),
    ]
