"""The API server: reads, server-side apply, patches, deletions. One session, all calls from one event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from logstream.errors import StartupError
from logstream_operator.cluster.errors import ClusterAway, ClusterRefused, Denied, Missing, Outdated
from logstream_operator.cluster.kinds import Kind, Object, kind_of
from logstream_operator.metrics import API_REQUESTS

FIELD_MANAGER = "logstream-operator"
REQUEST_SECONDS = 15.0
_PAGE = 500
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_LATER = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of an apply. taken_from: field managers that had set one of our fields to something else."""

    obj: Object
    taken_from: Sequence[str] = field(default_factory=tuple)


class Cluster:
    """Every method may raise ClusterAway (try again), Denied, ClusterRefused."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> "Cluster":
        """By the file, else the pod's ServiceAccount, else the user's own file. Nothing is asked of the server yet.

        Raises StartupError.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None:
                try:
                    config.load_incluster_config(client_configuration=configuration)
                except config.ConfigException:
                    await config.load_kube_config(client_configuration=configuration, persist_config=False)
            else:
                await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        except (config.ConfigException, OSError) as error:
            raise StartupError(f"there is no way to an API server: {error}") from error
        return cls(configuration)

    @property
    def host(self) -> str:
        """Of the API server: a URL."""
        return str(self._configuration.host)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """None when there is no such object."""
        try:
            found: Object = await self._ask("GET", kind.path(namespace, name), "get", kind)
        except Missing:
            return None
        return found

    async def list(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> Sequence[Object]:
        """All of them, read in pages. Of a kind whose API is not installed: none. apiVersion and kind are filled in."""
        return [item async for item in self._pages(kind, namespace, labels, fields)]

    async def _pages(self, kind: Kind, namespace: str | None, labels: str, fields: str) -> AsyncIterator[Object]:
        query = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            try:
                page = await self._ask("GET", kind.path(namespace), "list", kind, query=query)
            except Missing:
                if kind.optional:
                    return
                raise
            for item in page["items"]:
                yield {"apiVersion": kind.api_version, "kind": kind.name, **item}
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def apply(self, obj: Object) -> Applied:
        """Server-side apply of the whole of what we want of it. Fields that others have set otherwise become ours."""
        kind, meta = kind_of(obj), obj["metadata"]
        path = kind.path(meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            return Applied(await self._ask("PATCH", path, "apply", kind, query=query, body=obj, content=_APPLY))
        except Outdated as conflict:
            if conflict.reason != "Conflict":
                raise
            taken_from = _managers(conflict.message)
        query["force"] = "true"
        return Applied(await self._ask("PATCH", path, "apply", kind, query=query, body=obj, content=_APPLY), taken_from)

    async def create(self, obj: Object) -> Object:
        """Raises Outdated when there is one of this name."""
        kind = kind_of(obj)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._ask(
            "POST", kind.path(obj["metadata"].get("namespace")), "create", kind, query=query, body=obj
        )

    async def replace(self, obj: Object) -> Object:
        """As it was read, changed. Raises Outdated when it is not any more as it was read, Missing."""
        kind, meta = kind_of(obj), obj["metadata"]
        query = {"fieldManager": FIELD_MANAGER}
        return await self._ask(
            "PUT", kind.path(meta.get("namespace"), meta["name"]), "update", kind, query=query, body=obj
        )

    async def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        change: Mapping[str, object],
        *,
        subresource: str | None = None,
    ) -> Object:
        """A JSON merge patch. With metadata.resourceVersion in it: raises Outdated when it was changed since."""
        query = {"fieldManager": FIELD_MANAGER}
        path = kind.path(namespace, name, subresource)
        return await self._ask("PATCH", path, "patch", kind, query=query, body=dict(change), content=_MERGE)

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> None:
        """What it owns goes with it, in the background. uid: only if it is still that one. Nothing happens when it is
        not there."""
        body: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._ask("DELETE", kind.path(namespace, name), "delete", kind, body=body)
        except Missing:
            return
        except Outdated:
            # Another one of the name: not ours to delete.
            return

    async def ready(self) -> None:
        """Raises ClusterAway."""
        await self._ask("GET", "/version", "get", None)

    async def has(self, kind: Kind) -> bool:
        """Whether the API of an optional kind is installed."""
        root = f"/apis/{kind.api_version}"
        try:
            found = await self._ask("GET", root, "get", None)
        except Missing:
            return False
        return any(entry["kind"] == kind.name for entry in found["resources"])

    async def credentials(self) -> tuple[Configuration, str | None]:
        """How to reach the API server, for another client; the bearer token, fresh."""
        return self._configuration, await self._configuration.get_api_key_with_prefix("BearerToken")

    async def close(self) -> None:
        """Idempotent."""
        await self._rest.close()

    async def _ask(
        self,
        method: str,
        path: str,
        verb: str,
        kind: Kind | None,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        content: str = "application/json",
    ) -> Object:
        url = self.host.rstrip("/") + quote(path) + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": FIELD_MANAGER}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        API_REQUESTS.labels(verb, kind.plural if kind else "").inc()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._rest.request(
                    method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(REQUEST_SECONDS)
                )
                answer = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ClusterAway(
                f"the API server at {self.host} does not answer: {str(error) or type(error).__name__}"
            ) from error
        if response.status < 300:
            return cast(Object, json.loads(answer))
        raise _refusal(response.status, answer, f"{verb} {path}")


def _refusal(status: int, answer: bytes, what: str) -> "ClusterRefused | ClusterAway":
    try:
        told = json.loads(answer)
        message, reason = str(told["message"]), str(told.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        # A proxy in front of it may answer anything.
        message, reason = answer[:200].decode(errors="replace"), ""
    text = f"{what}: {message}"
    if status in _LATER:
        return ClusterAway(text)
    kind: type[ClusterRefused] = {401: Denied, 403: Denied, 404: Missing, 409: Outdated}.get(status, ClusterRefused)
    return kind(text, answered=status, reason=reason)


def _managers(message: str) -> tuple[str, ...]:
    """Of 'Apply failed with 2 conflicts: conflicts with "kubectl-edit" using apps/v1: …', each once."""
    pieces = message.split('conflict with "')[1:] + message.split('conflicts with "')[1:]
    return tuple(sorted({piece.partition('"')[0] for piece in pieces} - {FIELD_MANAGER}))
