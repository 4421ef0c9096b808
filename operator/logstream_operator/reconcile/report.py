"""The status of a resource, written only when it says something else than before; transitions become Events."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from logstream.auth.api_keys import ApiKey
from logstream.clock import NS_PER_SECOND
from logstream.stream import Stream
from logstream_operator.cluster.errors import Missing
from logstream_operator.cluster.kinds import API_KEY, LOGSTREAM, Kind, Object
from logstream_operator.cluster.objects import Identity
from logstream_operator.external.topics import TopicsState
from logstream_operator.objects.meta import COLLECTOR, COMPONENTS, component_name, endpoints, selector
from logstream_operator.reconcile.context import Context
from logstream_operator.reconcile.known import Figures, Place
from logstream_operator.reconcile.steps import Steps
from logstream_operator.spec import InvalidSpec, LogStream, LogStreamAPIKey
from logstream_operator.status import (
    Finding,
    Observed,
    ObservedKey,
    Step,
    Workload,
    events,
    findings,
    key_findings,
    stamped,
    unmet,
)

WORKLOADS, READY = "WorkloadsReady", "Ready"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one reconcile saw. children: of the data plane's own, as they are now. plane_ready: WorkloadsReady of the
    data plane, of one that shares it; None while it says nothing."""

    resource: LogStream
    plane: LogStream
    stream: Stream
    steps: Steps
    topics: TopicsState | None
    children: Mapping[Identity, Object]
    figures: Figures | None
    plane_ready: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class KeySeen:
    """What one reconcile of a key saw. current: the key in the Secret; previous: those that still work beside it;
    confirming: id of one that no collector lets in yet."""

    resource: LogStreamAPIKey
    current: ApiKey | None
    previous: Sequence[ApiKey]
    confirming: str = ""
    expired: bool = False
    revoked: bool = False


async def write_status(context: Context, obj: Object, seen: Seen) -> bool:
    """Whether the condition that others depend on has changed. Raises ClusterAway, ClusterRefused."""
    resource, figures = seen.resource, seen.figures
    workloads = _workloads(seen) if resource.is_data_plane else []
    found = findings(
        Observed(
            _steps(seen),
            workloads,
            unmet(resource, context.facts),
            None if figures is None else figures.oldest_unsaved_seconds,
        )
    )
    if seen.plane_ready is not None:
        found = _with_plane(found, seen.plane.name, seen.plane_ready)
    status: dict[str, Any] = {
        "streamId": seen.stream.stream_id,
        "topic": seen.stream.topic,
        "deadLetterTopic": seen.stream.dead_letter_topic,
        "database": seen.stream.database,
        "endpoints": endpoints(seen.plane.name, seen.plane.namespace),
    }
    for workload in workloads:
        status[workload.component] = {"replicas": workload.replicas, "readyReplicas": workload.ready}
    if workloads:
        labels = sorted(selector(resource.name, COLLECTOR).items())
        status[COLLECTOR]["selector"] = ",".join(f"{key}={value}" for key, value in labels)
    if figures is not None:
        status |= {name: value for name, value in _told(figures).items() if value is not None}
    before = condition_of(obj, WORKLOADS)
    after = await _write(context, LOGSTREAM, obj, status, found)
    now = next((one for one in after if one["type"] == WORKLOADS), None)
    return (before or {}).get("status") != (now or {}).get("status")


async def write_figures(context: Context, place: Place, figures: Figures) -> None:
    """Of a stream, without a look at anything else of it. Raises ClusterAway, ClusterRefused."""
    with contextlib.suppress(Missing):
        await context.cluster.patch(LOGSTREAM, *place, {"status": _told(figures)}, subresource="status")


def _told(figures: Figures) -> dict[str, Any]:
    """By the status' fields; None: there is no such field then."""
    return {
        "lag": figures.lag,
        "accepted": figures.accepted,
        "stored": figures.stored,
        "deadLettered": figures.dead_lettered,
        "oldestUnsavedSeconds": figures.oldest_unsaved_seconds,
    }


def condition_of(obj: Object, name: str) -> Mapping[str, Any] | None:
    """As the API server has it."""
    return next((found for found in (obj.get("status") or {}).get("conditions", ()) if found["type"] == name), None)


def _steps(seen: Seen) -> dict[str, Step]:
    """In the order in which they were done: the first cause is the one that is told."""
    found: dict[str, Step] = {}
    for name in seen.steps.order:
        failure = seen.steps.failures.get(name)
        found[name] = Step(True, name) if failure is None else Step(False, failure.reason, failure.message)
    if seen.topics is not None and seen.topics.warnings and found["TopicReady"].succeeded:
        found["TopicReady"] = Step(True, "ReplicationDiffers", "; ".join(seen.topics.warnings))
    return found


def _workloads(seen: Seen) -> list[Workload]:
    found = []
    for component in COMPONENTS:
        name = component_name(seen.resource.name, component)
        found.append(Workload.of(component, name, seen.children.get(("Deployment", name))))
    return found


def _with_plane(found: Sequence[Finding], plane: str, workloads: Mapping[str, Any]) -> list[Finding]:
    """Whose pods are not ready is not ready either."""
    ready = workloads["status"] == "True"
    message = "" if ready else f"LogStream {plane}, whose pods serve it: {workloads['message']}"
    told = Finding(WORKLOADS, ready, workloads["reason"], message)
    return [
        *(
            Finding(READY, False, told.reason, message) if one.type == READY and one.holds and not ready else one
            for one in found
        ),
        told,
    ]


async def write_invalid(
    context: Context, obj: Object, error: InvalidSpec, *, kind: Kind = LOGSTREAM, condition: str = ""
) -> None:
    """Nothing is done for it until somebody changes it."""
    found = [
        Finding("Ready", False, error.reason, error.message),
        Finding("Degraded", True, error.reason, error.message),
    ]
    if kind is LOGSTREAM:
        found.append(Finding("Progressing", False, error.reason))
    if condition:
        found.append(Finding(condition, False, error.reason, error.message))
    await _write(context, kind, obj, {}, found, keep=True)


async def write_paused(context: Context, obj: Object) -> None:
    """What was there when it was paused stays in the status."""
    found = [Finding("Paused", True, "Paused", "spec.paused is true: nothing is changed until it is false again")]
    await _write(context, LOGSTREAM, obj, {}, found, keep=True)


async def write_key_status(context: Context, obj: Object, seen: KeySeen) -> None:
    """Raises ClusterAway, ClusterRefused."""
    status: dict[str, Any] = {"secretName": seen.resource.secret_name}
    last = max(seen.previous, key=lambda key: key.created_at, default=None)
    if seen.current is not None:
        status |= {"keyId": seen.current.id, "rotatedAt": _time(seen.current.created_at)}
        if seen.current.expires_at is not None:
            status["expiresAt"] = _time(seen.current.expires_at)
    if last is not None:
        status["previousKeyId"] = last.id
        if last.expires_at is not None:
            status["previousExpiresAt"] = _time(last.expires_at)
    observed = ObservedKey(
        key_id="" if seen.current is None else seen.current.id,
        previous_id="" if last is None else last.id,
        confirming_id=seen.confirming,
        expired=seen.expired,
        revoked=seen.revoked,
    )
    await _write(context, API_KEY, obj, status, key_findings(observed))


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _write(
    context: Context,
    kind: Kind,
    obj: Object,
    status: Mapping[str, Any],
    found: Sequence[Finding],
    *,
    keep: bool = False,
) -> Sequence[Mapping[str, Any]]:
    """Conditions as they are now. keep: what the status has and was not found anew stays."""
    before = obj.get("status") or {}
    old = before.get("conditions") or []
    generation = obj["metadata"].get("generation", 0)
    now = datetime.fromtimestamp(context.clock.now_ns() / NS_PER_SECOND, UTC)
    conditions = stamped(found, old, generation=generation, now=now, keep=keep)
    wanted = {**status, "conditions": conditions, "observedGeneration": generation}
    change: dict[str, Any] = {key: value for key, value in wanted.items() if before.get(key) != value}
    if not keep:
        change |= {key: None for key in before if key not in wanted}
    if not change:
        return conditions
    meta = obj["metadata"]
    try:
        await context.cluster.patch(kind, meta["namespace"], meta["name"], {"status": change}, subresource="status")
    except Missing:
        return conditions
    for event in events(old, conditions):
        await context.recorder.tell(obj, event.reason, event.note, warning=event.warning)
    return conditions
