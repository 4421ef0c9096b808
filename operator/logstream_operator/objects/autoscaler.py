"""HorizontalPodAutoscalers of collector and API, on CPU; the processor's is in `scaledobject`."""

from logstream_operator.objects.deployment import component_spec
from logstream_operator.objects.meta import Object, component_name, make
from logstream_operator.objects.plane import DataPlane
from logstream_operator.spec.pods import CpuAutoscaling


def autoscaler(plane: DataPlane, component: str) -> Object | None:
    """None where the resource has a number of replicas."""
    scaling = component_spec(plane, component).autoscaling
    if not isinstance(scaling, CpuAutoscaling):
        return None
    name = component_name(plane.resource.name, component)
    body = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": scaling.target_cpu},
                },
            }
        ],
        # Up at once, down slowly: senders come in bursts.
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    return make(plane, "HorizontalPodAutoscaler", name, component, {"spec": body}, api_version="autoscaling/v2")
