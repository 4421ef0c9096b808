"""The status of a LogStream, written only when it says something else than before; transitions become Events."""

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
from logstream_operator.reconcile.known import Figures
from logstream_operator.reconcile.steps import Failure, Steps
from logstream_operator.spec import InvalidSpec, LogStream, LogStreamAPIKey

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one reconcile saw. children: of the data plane's own, as they are now."""

    resource: LogStream
    plane: LogStream
    stream: Stream
    steps: Steps
    topics: TopicsState | None
    children: Mapping[Identity, Object]
    figures: Figures | None
    plane_ready: Condition | None = None
    """WorkloadsReady of the data plane, of one that shares it; None while it says nothing."""


async def write_status(context: Context, obj: Object, seen: Seen) -> bool:
    """Whether the condition that others depend on has changed. Raises ClusterAway, ClusterRefused."""
    resource, stream = seen.resource, seen.stream
    status: dict[str, Any] = {
        "streamId": stream.stream_id,
        "topic": stream.topic,
        "deadLetterTopic": stream.dead_letter_topic,
        "database": stream.database,
        "endpoints": endpoints(seen.plane.name, seen.plane.namespace),
    }
    conditions: dict[str, Condition] = {}
    for step in sorted(seen.steps.succeeded):
        conditions[step] = _condition(step, True, step, "")
    for step, failure in seen.steps.failures.items():
        conditions[step] = _condition(step, False, failure.reason, failure.message)
    if seen.topics is not None and seen.topics.warnings and "TopicReady" in seen.steps.succeeded:
        conditions["TopicReady"]["message"] = "; ".join(seen.topics.warnings)
        conditions["TopicReady"]["reason"] = "ReplicationDiffers"
    waiting: Failure | None = None
    if not resource.is_data_plane and seen.plane_ready is not None and seen.plane_ready["status"] != "True":
        told = seen.plane_ready
        waiting = Failure(told["reason"], f"LogStream {seen.plane.name}, whose pods serve it: {told['message']}")
    if resource.is_data_plane:
        for component in COMPONENTS:
            found = seen.children.get(("Deployment", component_name(resource.name, component)))
            replicas = _replicas(found)
            status[component] = replicas
            if waiting is None and (found is None or _lacking(found)):
                name = component_name(resource.name, component)
                ready = replicas["readyReplicas"]
                waiting = Failure("PodsNotReady", f"Deployment {name} has {ready} of {_wanted(found)} pods ready")
        status["collector"]["selector"] = ",".join(
            f"{key}={value}" for key, value in sorted(selector(resource.name, COLLECTOR).items())
        )
    if resource.is_data_plane or seen.plane_ready is not None:
        conditions["WorkloadsReady"] = (
            _condition("WorkloadsReady", True, "PodsReady", "")
            if waiting is None
            else _condition("WorkloadsReady", False, waiting.reason, waiting.message)
        )
    if seen.figures is not None:
        status |= {
            "lag": seen.figures.lag,
            "oldestUnsavedSeconds": seen.figures.oldest_unsaved_seconds,
            "accepted": seen.figures.accepted,
            "stored": seen.figures.stored,
            "deadLettered": seen.figures.dead_lettered,
        }
    failures = sorted(seen.steps.failures.values(), key=lambda found: found.reason == "Waiting")
    problem = failures[0] if failures else None
    conditions["Degraded"] = (
        _condition("Degraded", False, "AsExpected", "")
        if problem is None
        else _condition("Degraded", True, problem.reason, problem.message)
    )
    progressing = problem is None and waiting is not None
    conditions["Progressing"] = (
        _condition("Progressing", True, waiting.reason, waiting.message)
        if progressing and waiting is not None
        else _condition("Progressing", False, "Settled" if problem is None else problem.reason, "")
    )
    bad = problem if problem is not None else waiting
    conditions["Ready"] = (
        _condition("Ready", True, "Ready", "") if bad is None else _condition("Ready", False, bad.reason, bad.message)
    )
    conditions["Paused"] = _condition("Paused", False, "NotPaused", "")
    await _write(context, LOGSTREAM, obj, status, conditions)
    before, after = condition_of(obj, "WorkloadsReady"), conditions.get("WorkloadsReady")
    return (before or {}).get("status") != (after or {}).get("status")


def condition_of(obj: Object, name: str) -> Condition | None:
    """As the API server has it."""
    return next((found for found in (obj.get("status") or {}).get("conditions", ()) if found["type"] == name), None)


async def write_invalid(
    context: Context, obj: Object, error: InvalidSpec, *, kind: Kind = LOGSTREAM, condition: str = ""
) -> None:
    """Nothing is done for it until somebody changes it."""
    conditions = {
        name: _condition(name, value, error.reason, error.message)
        for name, value in (("Ready", False), ("Degraded", True), ("Progressing", False))
    }
    if condition:
        conditions[condition] = _condition(condition, False, error.reason, error.message)
    await _write(context, kind, obj, {}, conditions, keep=True)


async def write_paused(context: Context, obj: Object, resource: LogStream) -> None:
    """What was there when it was paused stays in the status."""
    conditions = {"Paused": _condition("Paused", True, "Paused", "spec.paused is true: nothing is changed")}
    await _write(context, LOGSTREAM, obj, {}, conditions, keep=True)


def _condition(name: str, value: bool, reason: str, message: str) -> Condition:
    return {"type": name, "status": "True" if value else "False", "reason": reason, "message": message[:4096]}


def _replicas(deployment: Object | None) -> dict[str, Any]:
    status = (deployment or {}).get("status") or {}
    return {"replicas": status.get("replicas", 0), "readyReplicas": status.get("readyReplicas", 0)}


def _wanted(deployment: Object | None) -> int:
    return int(((deployment or {}).get("spec") or {}).get("replicas", 1))


def _lacking(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    generation = deployment["metadata"].get("generation", 0)
    stale = int(status.get("observedGeneration", 0)) < generation
    return stale or int(status.get("readyReplicas", 0)) < _wanted(deployment)


async def _write(
    context: Context,
    kind: Kind,
    obj: Object,
    status: dict[str, Any],
    conditions: dict[str, Condition],
    *,
    keep: bool = False,
) -> None:
    """keep: of the conditions that there are, those that are not given stay."""
    before = obj.get("status") or {}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    generation = obj["metadata"].get("generation", 0)
    old = {condition["type"]: condition for condition in before.get("conditions", ())}
    if keep:
        conditions = {**old, **conditions}
    whole: list[Condition] = []
    for name in sorted(conditions, key=lambda name: (name != "Ready", name)):
        condition = dict(conditions[name])
        was = old.get(name)
        same = was is not None and was["status"] == condition["status"]
        condition["lastTransitionTime"] = was["lastTransitionTime"] if was is not None and same else now
        condition["observedGeneration"] = generation
        whole.append(condition)
    wanted = {**status, "conditions": whole, "observedGeneration": generation}
    change = {key: value for key, value in wanted.items() if before.get(key) != value}
    if not keep:
        change |= {key: None for key in before if key not in wanted}
    if not change:
        return
    meta = obj["metadata"]
    try:
        await context.cluster.patch(kind, meta["namespace"], meta["name"], {"status": change}, subresource="status")
    except Missing:
        return
    for condition in whole:
        was = old.get(condition["type"])
        if condition["type"] not in ("Ready", "Degraded", "Paused") or (
            was is not None and (was["status"], was["reason"]) == (condition["status"], condition["reason"])
        ):
            continue
        if was is None and condition["type"] in ("Degraded", "Paused") and condition["status"] == "False":
            continue
        bad = condition["status"] == ("True" if condition["type"] == "Degraded" else "False")
        note = f"{condition['type']} is {condition['status']}" + (
            f": {condition['message']}" if condition["message"] else ""
        )
        await context.recorder.tell(obj, condition["reason"], note, warning=bad and condition["type"] == "Degraded")


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


async def write_key_status(context: Context, obj: Object, seen: KeySeen) -> None:
    """Raises ClusterAway, ClusterRefused."""
    status: dict[str, Any] = {"secretName": seen.resource.secret_name}
    if seen.current is not None:
        status |= {"keyId": seen.current.id, "rotatedAt": _time(seen.current.created_at)}
        if seen.current.expires_at is not None:
            status["expiresAt"] = _time(seen.current.expires_at)
    if seen.previous:
        last = max(seen.previous, key=lambda key: key.created_at)
        status["previousKeyId"] = last.id
        if last.expires_at is not None:
            status["previousExpiresAt"] = _time(last.expires_at)
    if seen.revoked:
        ready = _condition("Ready", False, "Revoked", "spec.revoked is true: the key works no more")
    elif seen.expired:
        ready = _condition("Ready", False, "Expired", "spec.expiresAt has passed: set a later one to have a key again")
    elif seen.current is None:
        ready = _condition("Ready", False, "Confirming", "the collectors have not heard of the key yet")
    else:
        ready = _condition("Ready", True, "InUse", "")
    rotating = (
        _condition("Rotating", True, "Confirming", f"the collectors have not heard of key {seen.confirming} yet")
        if seen.confirming
        else _condition("Rotating", True, "Overlap", f"key {status['previousKeyId']} still works beside it")
        if seen.previous
        else _condition("Rotating", False, "Settled", "")
    )
    conditions = {"Ready": ready, "Rotating": rotating, "Degraded": _condition("Degraded", False, "AsExpected", "")}
    await _write(context, API_KEY, obj, status, conditions)


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
