"""The ServiceAccount of a data plane's pods. They ask the API server nothing, so they get no token."""

from logstream_operator.objects.meta import Object, make
from logstream_operator.objects.plane import DataPlane
from logstream_operator.spec import child_name


def service_account_name(plane: DataPlane) -> str:
    return child_name(plane.resource.name, "pods")


def service_account(plane: DataPlane) -> Object:
    body = {"automountServiceAccountToken": False}
    return make(plane, "ServiceAccount", service_account_name(plane), "pods", body)
