"""Watching by kopf: every event puts a key into the queue, and nothing else happens here.

kopf's other machinery is left out on purpose: no state in annotations, no finalizers, no Events, no peering, no timers.
A watcher of kopf's that meets an error it does not know dies alone; `alive` tells, and /livez fails then.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from logstream.clock import Clock
from logstream_operator import metrics
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.kinds import API_KEY, CHILDREN, LOGSTREAM, Kind
from logstream_operator.objects.meta import LOGSTREAM_LABEL, MANAGED_LABEL
from logstream_operator.reconcile.context import Key
from logstream_operator.reconcile.known import Known

Add = Callable[[Key], None]
SAMPLE_SECONDS = 2.0
_WATCHED_CHILDREN = tuple(kind for kind in CHILDREN if not kind.optional)
_DELETED = "DELETED"


class Stopped(Exception):
    """Somebody asked for it."""


class Watch:
    """namespaces: empty: the whole cluster. optional: kinds beside those that each cluster has."""

    def __init__(
        self,
        cluster: Cluster,
        known: Known,
        add: Add,
        clock: Clock,
        *,
        namespaces: tuple[str, ...],
        optional: tuple[Kind, ...] = (),
    ) -> None:
        self._cluster = cluster
        self._known = known
        self._add = add
        self._clock = clock
        self._namespaces = namespaces
        self._children = (*_WATCHED_CHILDREN, *optional)
        self._alive: dict[str, float] = {}
        self._seen: dict[tuple[str, str, str], tuple[object, ...]] = {}
        self._began = clock.monotonic()
        self._registry = kopf.OperatorRegistry()
        self._register()

    def age(self) -> float:
        """Seconds since the watcher that was silent longest was known to be alive; of one that never was: since the
        start."""
        now = self._clock.monotonic()
        ages = {name: now - self._alive.get(name, self._began) for name in self._expected()}
        for name, age in ages.items():
            metrics.WATCHER_AGE.labels(name).set(age)
        return max(ages.values())

    @property
    def begun(self) -> bool:
        """Whether each watcher was alive once."""
        return all(name in self._alive for name in self._expected())

    def _expected(self) -> list[str]:
        return [f"{kind.plural}.{kind.group}" if kind.group else kind.plural for kind in self._kinds()]

    def _kinds(self) -> tuple[Kind, ...]:
        return (LOGSTREAM, API_KEY, *self._children)

    async def run(self) -> None:
        """Until it is cancelled. Raises Stopped after SIGTERM or SIGINT, which kopf takes to itself."""
        # It tells what each handler did, at a level that means something else here.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_news)
        sampling = asyncio.create_task(self._sample(), name="samples of watchers")
        try:
            await kopf.operator(
                registry=self._registry,
                settings=self._settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                identity=None,
            )
        finally:
            sampling.cancel()
        raise Stopped

    async def _sample(self) -> None:
        """kopf tells nobody that a watcher has died: its task is not there any more."""
        while True:
            running = [task.get_name() for task in asyncio.all_tasks() if not task.done()]
            now = self._clock.monotonic()
            for kind, name in zip(self._kinds(), self._expected(), strict=True):
                found = sum(1 for task in running if task.startswith("watcher for ") and _names(task, kind))
                if found >= max(1, len(self._namespaces)):
                    self._alive[name] = now
            self.age()
            await asyncio.sleep(SAMPLE_SECONDS)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.persistence.finalizer = "logstream.dev/kopf"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="logstream.dev")
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="logstream.dev")
        # A worker only puts a key into the queue; one that waits for a next event of its object keeps others out.
        settings.queueing.worker_limit = 200
        settings.queueing.idle_timeout = 0.1
        settings.watching.chunk_size = 500
        settings.watching.reconnect_backoff = 0.5
        settings.networking.request_timeout = 30
        settings.process.ultimate_exiting_timeout = None
        for kind in self._children:
            settings.watching.label_selectors[kind.group, kind.api_version.rpartition("/")[2], kind.plural] = (
                f"{MANAGED_LABEL}=logstream-operator"
            )
        return settings

    def _register(self) -> None:
        registry = self._registry

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            configuration, header = await self._cluster.credentials()
            token = header.partition(" ")[2] if header else None
            return kopf.ConnectionInfo(
                server=configuration.host,
                ca_path=configuration.ssl_ca_cert,
                insecure=not configuration.verify_ssl,
                scheme="Bearer" if token else None,
                token=token,
                certificate_path=configuration.cert_file,
                private_key_path=configuration.key_file,
                proxy_url=configuration.proxy,
            )

        @kopf.on.event(LOGSTREAM.group, "v1alpha1", LOGSTREAM.plural, registry=registry)
        async def on_stream(body: kopf.Body, **event: Any) -> None:
            self.saw_stream(body, gone=event["type"] == _DELETED)

        @kopf.on.event(API_KEY.group, "v1alpha1", API_KEY.plural, registry=registry)
        async def on_key(body: kopf.Body, **event: Any) -> None:
            self.saw_key(body, gone=event["type"] == _DELETED)

        for kind in self._children:
            version = kind.api_version.rpartition("/")[2]

            @kopf.on.event(kind.group, version, kind.plural, registry=registry, id=f"child-{kind.plural}")
            async def on_child(body: kopf.Body, **event: Any) -> None:
                self.saw_child(body, gone=event["type"] == _DELETED)

    def saw_stream(self, body: Mapping[str, Any], *, gone: bool) -> None:
        meta = body["metadata"]
        place = meta["namespace"], meta["name"]
        if not gone:
            self._known.saw_stream(body)
        before = self._seen.get((LOGSTREAM.name, *place))
        if not self._is_new(LOGSTREAM, body, gone=gone):
            return
        if gone or not self._known.is_own_write(meta):
            self._add(Key("LogStream", *place))
        if not gone and before is not None and before[:3] == _identity(meta):
            # Finalizers and annotations say nothing to others.
            return
        for other in self._known.sharers(place):
            self._add(Key("LogStream", *other))
        for other in self._known.keys_of(place):
            self._add(Key("LogStreamAPIKey", *other))

    def saw_key(self, body: Mapping[str, Any], *, gone: bool) -> None:
        meta = body["metadata"]
        if not gone:
            self._known.saw_key(body)
        if self._is_new(API_KEY, body, gone=gone):
            self._add(Key("LogStreamAPIKey", meta["namespace"], meta["name"]))

    def _is_new(self, kind: Kind, body: Mapping[str, Any], *, gone: bool) -> bool:
        """Whether anything but the status has changed, which is what we write ourselves."""
        meta = body["metadata"]
        place = kind.name, meta["namespace"], meta["name"]
        if gone:
            self._seen.pop(place, None)
            return True
        state = (
            *_identity(meta),
            tuple(sorted((meta.get("annotations") or {}).items())),
            tuple(meta.get("finalizers") or ()),
        )
        if self._seen.get(place) == state:
            return False
        self._seen[place] = state
        return True

    def saw_child(self, body: Mapping[str, Any], *, gone: bool = False) -> None:
        meta = body["metadata"]
        name = (meta.get("labels") or {}).get(LOGSTREAM_LABEL)
        if name and (gone or not self._known.is_own_write(meta)):
            self._add(Key("LogStream", meta["namespace"], name))


def _identity(meta: Mapping[str, Any]) -> tuple[object, object, object]:
    """What changes with the spec, with the resource itself, and when it is to go."""
    return meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp")


def _is_news(record: logging.LogRecord) -> bool:
    """While the API server is away each watcher tells of each attempt, a dozen a second; the workers tell it once."""
    return not (record.name.startswith("kopf") and str(record.msg).startswith("Request attempt"))


def _names(task: str, kind: Kind) -> bool:
    """Whether the name of a task of kopf's is that of a watcher of `kind`."""
    what = task.removeprefix("watcher for ").partition("@")[0].partition(" ")[0]
    return what.split(".")[0] == kind.plural and (not kind.group or what.endswith(kind.group))
