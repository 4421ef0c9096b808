"""The Secrets of a key: the one that programs read, and the one with a key that is not in use yet."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logstream.auth.keys import MalformedCredential, parse_key
from logstream_operator.cluster.kinds import API_KEY, SECRET, Object
from logstream_operator.cluster.objects import controlled_by
from logstream_operator.external.problem import Refused
from logstream_operator.objects.meta import endpoints
from logstream_operator.reconcile.connect import owner_reference
from logstream_operator.reconcile.context import Context
from logstream_operator.spec import LogStreamAPIKey, child_name

KEY_TYPE = "logstream.dev/api-key"
PENDING_TYPE = "logstream.dev/pending-api-key"
KEY, INGEST_URL, API_URL = "LOGSTREAM_API_KEY", "LOGSTREAM_INGEST_URL", "LOGSTREAM_API_URL"
LABEL = "logstream.dev/api-key"


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A Secret of ours as it was read. key_id, digest: empty when it does not hold a key."""

    obj: Object
    values: Mapping[str, str] = field(repr=False)
    key_id: str = ""
    digest: bytes = field(default=b"", repr=False)


def pending_name(resource: LogStreamAPIKey) -> str:
    return child_name(resource.name, "pending", limit=253)


async def read(context: Context, resource: LogStreamAPIKey, name: str, kind: str) -> KeySecret | None:
    """None when there is none. Raises Refused for one that is somebody else's."""
    found = await context.cluster.get(SECRET, resource.namespace, name)
    if found is None:
        return None
    if found.get("type") != kind or not controlled_by(found, resource.uid):
        raise Refused("SecretNotOurs", _whose(found, name), field="spec.secretName")
    values = {}
    for key, text in (found.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(text).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    try:
        parsed = parse_key(values.get(KEY, ""))
    except MalformedCredential:
        return KeySecret(found, values)
    return KeySecret(found, values, parsed.id, parsed.digest)


def _whose(found: Object, name: str) -> str:
    for owner in found["metadata"].get("ownerReferences", ()):
        if owner.get("controller") and owner.get("kind") == API_KEY.name:
            return (
                f"Secret {name} is that of LogStreamAPIKey {owner['name']}: give this one another spec.secretName, "
                "which means to make it anew"
            )
    return (
        f"Secret {name} is there and is not of this LogStreamAPIKey: delete it, or make this key anew with another "
        "spec.secretName; a Secret of somebody else is never changed"
    )


def make(
    resource: LogStreamAPIKey, owner: Mapping[str, Any], name: str, kind: str, values: Mapping[str, str]
) -> Object:
    """The whole Secret, for an apply."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {
            "name": name,
            "namespace": resource.namespace,
            "labels": {
                "app.kubernetes.io/name": "logstream",
                "app.kubernetes.io/managed-by": "logstream-operator",
                "app.kubernetes.io/component": "api-key",
                LABEL: resource.name if len(resource.name) <= 63 else child_name(resource.name),
            },
            "ownerReferences": [owner_reference(owner)],
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def contents(text: str, plane: str, namespace: str) -> dict[str, str]:
    """What programs get by envFrom. text: the key."""
    urls = endpoints(plane, namespace)
    return {KEY: text, INGEST_URL: urls["ingest"], API_URL: urls["api"]}
