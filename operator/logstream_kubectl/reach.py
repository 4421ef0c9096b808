"""Asking a stream's API: with the key of a LogStreamAPIKey, by a forwarded port or a given address."""

import base64
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from logstream.cli.failure import Failure
from logstream_kubectl.forward import way
from logstream_kubectl.kubectl import Kubectl
from logstream_kubectl.resources import (
    API_KEY,
    LOGSTREAM,
    SECRET_FIELD,
    Object,
    data_plane,
    key_stream,
    keys_for,
    name_of,
    scopes,
    secret_name,
    spec_of,
)

_VARIABLES = ("LOGSTREAM_API_KEY", "LOGSTREAM_API_URL", "LOGSTREAM_INGEST_URL", "LOGSTREAM_CONTEXT", "LOGSTREAM_CONFIG")


@dataclass(frozen=True, slots=True)
class Reached:
    """api_key: None for reads without a key. key: name of the LogStreamAPIKey that it is of."""

    url: str
    key: str
    api_key: str | None = field(repr=False)


@contextlib.contextmanager
def reach(kubectl: Kubectl, stream: str, scope: str, *, key: str | None, url: str | None) -> Iterator[Reached]:
    """A way to the API of a LogStream. key: name of the LogStreamAPIKey to use; None: one that may do `scope`.

    Raises Failure.
    """
    resource = kubectl.get(LOGSTREAM, stream)
    chosen = _choose(kubectl, resource, scope, key)
    secret = None if chosen is None else _secret(kubectl, chosen)
    with way(kubectl, data_plane(resource), url) as address, _alone():
        try:
            yield Reached(address, "" if chosen is None else name_of(chosen), secret)
        except Failure as failure:
            raise _told(failure, kubectl, stream, chosen) from failure


def _choose(kubectl: Kubectl, resource: Object, scope: str, name: str | None) -> Object | None:
    stream = name_of(resource)
    if name is not None:
        key = kubectl.get(API_KEY, name)
        if key_stream(key) != stream:
            raise Failure(f"LogStreamAPIKey {name} is of LogStream {key_stream(key)}, not of {stream}", status=2)
        if scope not in scopes(key):
            may = ", ".join(sorted(scopes(key)))
            raise Failure(
                f"LogStreamAPIKey {name} may {may}, and this needs {scope}: take another one with --as-key", status=2
            )
        return key
    found = keys_for(kubectl.all(API_KEY), stream, scope, datetime.now(UTC))
    if found:
        return found[0]
    if scope == "read" and spec_of(resource).get("anonymousReads"):
        return None
    raise Failure(
        f"LogStream {stream} has no key that may {scope}; make one with:",
        detail=manifest(f"{stream}-{scope}", stream, scope, kubectl.hint("kubectl apply")),
    )


def manifest(name: str, stream: str, scope: str, apply: str) -> list[str]:
    """A command that makes a key."""
    return [
        f"{apply} -f - <<'END'",
        "apiVersion: logstream.dev/v1alpha1",
        "kind: LogStreamAPIKey",
        f"metadata: {{name: {name}}}",
        f"spec: {{logStreamRef: {{name: {stream}}}, scopes: [{scope}]}}",
        "END",
    ]


def _secret(kubectl: Kubectl, key: Object) -> str:
    """The key itself, which is never shown. Raises Failure."""
    name = secret_name(key)
    see = kubectl.hint(f"kubectl logstream keys list {key_stream(key)}")
    data = kubectl.get("secrets", name).get("data") or {}
    try:
        text = base64.b64decode(data[SECRET_FIELD], validate=True).decode("ascii")
    except (KeyError, ValueError):
        raise Failure(
            f"Secret {name} holds no {SECRET_FIELD}; see whether LogStreamAPIKey {name_of(key)} is ready with: {see}"
        ) from None
    return text


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Without the person's own log-ins: they are of other platforms, and no key of theirs may be sent to this one."""
    kept = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    os.environ["LOGSTREAM_CONFIG"] = os.devnull
    try:
        yield
    finally:
        del os.environ["LOGSTREAM_CONFIG"]
        os.environ.update(kept)


def _told(failure: Failure, kubectl: Kubectl, stream: str, key: Object | None) -> Failure:
    """The command line's failures give advice that is for its own log-ins and addresses."""
    said = failure.message
    if failure.code == "unauthenticated":
        said = said.partition("; log in with")[0]
        see = kubectl.hint(f"kubectl logstream keys list {stream}")
        said += f"; the key is that of LogStreamAPIKey {name_of(key)}: {see}" if key is not None else f"; see: {see}"
    elif failure.code == "forbidden":
        said = said.partition("; use a key")[0] + "; take another LogStreamAPIKey with --as-key"
    else:
        said, told, _ = said.partition("; start it with `logstream up`")
        said += f"; see: {kubectl.hint(f'kubectl logstream status {stream}')}" if told else ""
    return Failure(
        said, status=failure.status, detail=failure.detail, code=failure.code, field=failure.field, limit=failure.limit
    )
