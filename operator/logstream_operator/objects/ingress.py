"""The way in from outside: an Ingress, or an HTTPRoute of the Gateway API."""

from logstream_operator.objects.meta import API, API_PORT, COLLECTOR, COLLECTOR_PORT, Object, component_name, make
from logstream_operator.objects.plane import DataPlane
from logstream_operator.spec import child_name

INGEST_PATH = "/ingest"
_PUBLIC = "public"


def ingress(plane: DataPlane) -> Object | None:
    """None where none was asked for. The paths do not overlap: the API has no /ingest."""
    wanted = plane.resource.spec.ingress
    if wanted is None:
        return None
    name = plane.resource.name
    paths = [
        {
            "path": path,
            "pathType": kind,
            "backend": {"service": {"name": component_name(name, component), "port": {"name": "http"}}},
        }
        for path, kind, component in ((INGEST_PATH, "Exact", COLLECTOR), ("/", "Prefix", API))
    ]
    spec: Object = {"rules": [{"host": wanted.host, "http": {"paths": paths}}]}
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls is not None:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls.secret_name}]
    return make(
        plane, "Ingress", child_name(name, _PUBLIC), _PUBLIC, {"spec": spec},
        api_version="networking.k8s.io/v1", annotations=wanted.annotations,
    )  # fmt: skip


def http_route(plane: DataPlane) -> Object | None:
    """None where none was asked for, or where the cluster has no Gateway API."""
    wanted = plane.resource.spec.gateway
    if wanted is None or not plane.cluster.http_routes:
        return None
    name = plane.resource.name
    parents = [
        {key: value for key, value in one.model_dump(by_alias=True, exclude_none=True).items() if value != ""}
        for one in wanted.parent_refs
    ]
    rules = [
        {
            "matches": [{"path": {"type": kind, "value": path}}],
            "backendRefs": [{"name": component_name(name, component), "port": port}],
        }
        for path, kind, component, port in (
            (INGEST_PATH, "Exact", COLLECTOR, COLLECTOR_PORT), ("/", "PathPrefix", API, API_PORT),
        )
    ]  # fmt: skip
    spec: Object = {"parentRefs": parents, "rules": rules}
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    return make(
        plane, "HTTPRoute", child_name(name, _PUBLIC), _PUBLIC, {"spec": spec},
        api_version="gateway.networking.k8s.io/v1",
    )  # fmt: skip
