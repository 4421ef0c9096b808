"""Services: collector and API for programs, and one without an address of its own for who gathers metrics."""

from logstream_operator.objects.meta import HEALTH_PORT, SERVED, Object, component_name, make, selector
from logstream_operator.objects.plane import DataPlane
from logstream_operator.spec import child_name

METRICS = "metrics"


def service(plane: DataPlane, component: str) -> Object:
    """Of a component in SERVED."""
    body = {
        "type": "ClusterIP",
        "selector": selector(plane.resource.name, component),
        "ports": [
            {"name": "http", "port": SERVED[component], "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
        ],
    }
    return make(plane, "Service", component_name(plane.resource.name, component), component, {"spec": body})


def metrics_service(plane: DataPlane) -> Object:
    """All pods, ready or not: those that are not are of interest."""
    body = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(plane.resource.name),
        "ports": [{"name": "health", "port": HEALTH_PORT, "targetPort": "health", "protocol": "TCP"}],
    }
    return make(plane, "Service", child_name(plane.resource.name, METRICS), METRICS, {"spec": body})
