"""What the plugin knows of the operator's resources; pure. Tests hold the names against the operator's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]
"""An object as the API server has it, in JSON."""

LOGSTREAM = "logstreams.logstream.dev"
API_KEY = "logstreamapikeys.logstream.dev"
ROTATE = "logstream.dev/rotate"
"""Annotation of a key: a time; a key that was made before it is replaced."""
SECRET_FIELD = "LOGSTREAM_API_KEY"  # noqa: S105 — the field's name
API_PORT = 8081
_WORDS = {LOGSTREAM: "LogStream", API_KEY: "LogStreamAPIKey", "secrets": "Secret", "pods": "pod"}


def word(kind: str) -> str:
    """How people call a kind."""
    return _WORDS.get(kind, kind)


@dataclass(frozen=True, slots=True)
class Condition:
    """status: True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None

    @property
    def is_well(self) -> bool:
        """Degraded, Progressing, Paused and Rotating are well when they are not so."""
        return (self.status == "True") != (self.type in {"Degraded", "Progressing", "Paused", "Rotating"})


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def status_of(obj: Object) -> Mapping[str, Any]:
    """Empty while the operator has not spoken."""
    return obj.get("status") or {}


def spec_of(obj: Object) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def conditions(obj: Object) -> Iterator[Condition]:
    """In the order that the operator gives them: Ready first."""
    for found in status_of(obj).get("conditions") or ():
        yield Condition(
            str(found.get("type", "")),
            str(found.get("status", "Unknown")),
            str(found.get("reason", "")),
            str(found.get("message", "")),
            moment(found.get("lastTransitionTime")),
        )


def condition(obj: Object, kind: str) -> Condition | None:
    return next((found for found in conditions(obj) if found.type == kind), None)


def is_ready(obj: Object) -> bool:
    found = condition(obj, "Ready")
    return found is not None and found.status == "True"


def is_stale(obj: Object) -> bool:
    """Whether the operator has not seen the last change of the spec."""
    return int(status_of(obj).get("observedGeneration") or 0) < int(obj["metadata"].get("generation") or 0)


def data_plane(obj: Object) -> str:
    """Name of the LogStream whose pods serve this one."""
    ref = spec_of(obj).get("dataPlaneRef") or {}
    return str(ref.get("name") or name_of(obj))


def key_stream(key: Object) -> str:
    """Name of the LogStream that a key is of."""
    return str((spec_of(key).get("logStreamRef") or {}).get("name", ""))


def secret_name(key: Object) -> str:
    return str(spec_of(key).get("secretName") or name_of(key))


def scopes(key: Object) -> frozenset[str]:
    return frozenset(spec_of(key).get("scopes") or ("ingest",))


def is_usable(key: Object, now: datetime) -> bool:
    """Neither revoked nor expired nor being deleted."""
    end = moment(spec_of(key).get("expiresAt"))
    gone = spec_of(key).get("revoked") or key["metadata"].get("deletionTimestamp")
    return not gone and (end is None or end > now)


def keys_for(keys: Sequence[Object], stream: str, scope: str, now: datetime) -> list[Object]:
    """Keys of a LogStream that may do `scope`: those that work first, then those that may do the least."""
    fitting = [key for key in keys if key_stream(key) == stream and scope in scopes(key) and is_usable(key, now)]
    return sorted(fitting, key=lambda key: (not is_ready(key), len(scopes(key)), name_of(key)))


def api_labels(plane: str) -> dict[str, str]:
    """Of the API's pods of a data plane."""
    return {
        "app.kubernetes.io/name": "logstream",
        "app.kubernetes.io/instance": plane,
        "app.kubernetes.io/component": "api",
    }


def ready_pods(pods: Sequence[Object]) -> list[Object]:
    """Pods that take requests, the oldest first: it is known to work."""
    found = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and is_ready(pod)]
    return sorted(found, key=lambda pod: (str(pod["metadata"].get("creationTimestamp", "")), name_of(pod)))


def http_port(pod: Object) -> int:
    """The port that the API's pod serves."""
    for container in spec_of(pod).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == "http":
                return int(port["containerPort"])
    return API_PORT


def moment(text: object) -> datetime | None:
    """A time as Kubernetes writes it; None for none, and for what is none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
