"""What to do next about a LogStream: pure. Most of it the conditions say themselves."""

from collections.abc import Callable, Sequence
from datetime import datetime

from logstream_kubectl import ages
from logstream_kubectl.resources import (
    Object,
    condition,
    data_plane,
    is_ready,
    is_stale,
    is_usable,
    moment,
    name_of,
    spec_of,
    status_of,
)

Hint = Callable[[str], str]
"""A command with the namespace that it has to be run in."""
OLD_SECONDS = 60.0
"""A log that waits longer than this to be stored is worth a word."""


def advise(stream: Object, keys: Sequence[Object], hint: Hint, now: datetime) -> list[str]:
    """Sentences, the most urgent first; none when all is well. keys: those of the stream."""
    return [*_operator(stream, hint), *_pods(stream, hint), *_logs(stream, hint), *_keys(stream, keys, hint, now)]


def _operator(stream: Object, hint: Hint) -> list[str]:
    name = name_of(stream)
    paused = condition(stream, "Paused")
    if spec_of(stream).get("paused") or (paused is not None and paused.status == "True"):
        return [f"it is paused and changed by nobody; go on with: {hint(f'kubectl logstream resume {name}')}"]
    if is_stale(stream):
        seen = "its last change" if status_of(stream) else "it"
        running = "kubectl get deployments -A -l app.kubernetes.io/name=logstream-operator"
        return [f"the operator has not seen {seen} yet; is it running, and does it watch this namespace? {running}"]
    return []


def _pods(stream: Object, hint: Hint) -> list[str]:
    found = condition(stream, "Ready")
    if found is None or found.reason != "PodsNotReady":
        return []
    pods = f"-l app.kubernetes.io/name=logstream,app.kubernetes.io/instance={data_plane(stream)}"
    return [f"see why the pods are not ready with: {hint(f'kubectl describe pods {pods}')}"]


def _logs(stream: Object, hint: Hint) -> list[str]:
    name, status = name_of(stream), status_of(stream)
    said = []
    oldest = status.get("oldestUnsavedSeconds")
    if isinstance(oldest, int | float) and oldest > OLD_SECONDS:
        pods = f"-l app.kubernetes.io/instance={data_plane(stream)},app.kubernetes.io/component=processor"
        said.append(
            f"logs wait {ages.span(oldest)} to be stored; see the processors with: {hint(f'kubectl logs {pods}')}, and "
            "give them more replicas (at most as many as the topic has partitions) when they only cannot keep up"
        )
    dead = status.get("deadLettered")
    if isinstance(dead, int) and dead > 0:
        command = hint(f"kubectl logstream deadletters {name} list")
        said.append(f"ClickHouse has refused {dead:,} logs so far; see what waits for a decision with: {command}")
    use = status.get("quotaUse") or {}
    if any(isinstance(part, int | float) and part >= 90 for part in use.values()):
        said.append("the quota is nearly used up, and what exceeds it is refused: raise spec.quota, or send less")
    return said


def _keys(stream: Object, keys: Sequence[Object], hint: Hint, now: datetime) -> list[str]:
    said = []
    for key in keys:
        name, end = name_of(key), moment(status_of(key).get("expiresAt") or spec_of(key).get("expiresAt"))
        if end is not None and not spec_of(key).get("revoked") and end - now < ages.SOON:
            ends = f"has ended {ages.until(end, now)}" if end <= now else f"ends {ages.until(end, now)}"
            said.append(f"key {name} {ends}: set a later spec.expiresAt, or make another one before")
        elif is_usable(key, now) and not is_ready(key):
            found = condition(key, "Ready")
            why = "the operator has not come to it" if found is None else found.message or found.reason
            said.append(f"key {name} is not ready: {why}")
    if not any(is_usable(key, now) for key in keys):
        command = "kubectl explain logstreamapikeys.spec"
        said.append(
            f"it has no key, so that nobody can send to {name_of(stream)}: make a LogStreamAPIKey; see {command}"
        )
    return said
