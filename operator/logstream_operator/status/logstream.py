"""A LogStream's conditions: one for each thing it depends on, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from logstream_operator.objects.plane import ClusterFacts
from logstream_operator.spec import LogStream
from logstream_operator.status.condition import DEGRADED, PAUSED, PROGRESSING, READY, Finding

WORKLOADS = "WorkloadsReady"
WAITING = "Waiting"
"""Reason of a step that was not begun, because of another one."""
LAGGING_SECONDS = 600.0


def is_lagging(oldest_unsaved_seconds: float | None) -> bool:
    return (oldest_unsaved_seconds or 0) > LAGGING_SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one step of a reconcile. message: where it failed, with what to do; where it succeeded, a warning
    or nothing."""

    succeeded: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """A component's Deployment. wanted: replicas; current: whether its controller has seen the last change; refused:
    why pods cannot be made; stuck: why a rollout does not go on."""

    component: str
    name: str
    exists: bool
    wanted: int = 0
    ready: int = 0
    replicas: int = 0
    updated: int = 0
    current: bool = False
    refused: str = ""
    stuck: str = ""

    @classmethod
    def of(cls, component: str, name: str, deployment: Mapping[str, Any] | None) -> Self:
        """From a Deployment as the API server has it."""
        if deployment is None:
            return cls(component, name, exists=False)
        status = deployment.get("status") or {}
        said = {one["type"]: one for one in status.get("conditions") or ()}
        failure, progress = said.get("ReplicaFailure"), said.get("Progressing")
        return cls(
            component,
            name,
            exists=True,
            wanted=int((deployment.get("spec") or {}).get("replicas", 1)),
            ready=int(status.get("readyReplicas", 0)),
            replicas=int(status.get("replicas", 0)),
            updated=int(status.get("updatedReplicas", 0)),
            current=int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0)),
            refused=str(failure.get("message", "")) if failure is not None and failure["status"] == "True" else "",
            stuck=str(progress.get("message", "")) if progress is not None and progress["status"] == "False" else "",
        )

    @property
    def is_ready(self) -> bool:
        """Enough pods work, though a rollout may be under way."""
        return self.exists and self.ready >= self.wanted > 0

    @property
    def is_settled(self) -> bool:
        """No rollout is under way."""
        return self.exists and self.current and self.updated == self.replicas == self.wanted and self.is_ready


@dataclass(frozen=True, slots=True)
class Observed:
    """What one reconcile saw. steps: by the type of their condition, such as TopicReady. workloads: none of a
    LogStream that shares another one's. unmet: see `unmet`. oldest_unsaved_seconds: None where it is not known."""

    steps: Mapping[str, Step]
    workloads: Sequence[Workload] = ()
    unmet: Sequence[tuple[str, str]] = field(default=())
    oldest_unsaved_seconds: float | None = None


def unmet(resource: LogStream, cluster: ClusterFacts) -> list[tuple[str, str]]:
    """What was asked for and cannot be had in this cluster: reason and message each."""
    spec = resource.spec
    found = []
    if spec.processor.autoscaling is not None and not cluster.keda:
        text = (
            "spec.processor.autoscaling needs KEDA, which this cluster does not have: install it, or give "
            f"spec.processor.replicas; until then there are minReplicas, {spec.processor.autoscaling.min_replicas}"
        )
        found.append(("KedaMissing", text))
    if spec.gateway is not None and not cluster.http_routes:
        text = "spec.gateway needs the Gateway API, which this cluster does not have: install it, or give spec.ingress"
        found.append(("GatewayAPIMissing", text))
    if spec.dashboard.enabled:
        text = "spec.dashboard: this release has no dashboard yet; set enabled to false"
        found.append(("DashboardMissing", text))
    return found


def findings(seen: Observed) -> list[Finding]:
    """All conditions of a LogStream that is neither paused nor invalid."""
    found = [Finding(name, step.succeeded, step.reason, step.message) for name, step in sorted(seen.steps.items())]
    workloads = _workloads(seen.workloads) if seen.workloads else None
    if workloads is not None:
        found.append(workloads)
    failed = [step for step in seen.steps.values() if not step.succeeded]
    # The first cause, not what waits for it.
    causes = [step for step in failed if step.reason != WAITING] or failed
    problem = causes[0] if causes else None
    moving = any(not workload.is_settled and workload.wanted > 0 for workload in seen.workloads)
    found += [
        _ready(problem, workloads),
        _progressing(problem, moving, workloads),
        _degraded(problem, workloads, seen),
        Finding(PAUSED, False, "NotPaused"),
    ]
    return found


def _workloads(workloads: Sequence[Workload]) -> Finding:
    for one in workloads:
        if not one.exists:
            return Finding(WORKLOADS, False, "DeploymentMissing", f"Deployment {one.name} is not there yet")
        if one.refused:
            return Finding(
                WORKLOADS, False, "PodsRefused",
                f"pods of Deployment {one.name} cannot be made: {one.refused}: raise the namespace's quota, or change "
                f"spec.{one.component}",
            )  # fmt: skip
    for one in workloads:
        if one.wanted == 0:
            return Finding(
                WORKLOADS, False, "Stopped",
                f"spec.{one.component} has 0 replicas: {_STOPPED[one.component]}; give it one or more to go on",
            )  # fmt: skip
    for one in workloads:
        if not one.is_ready:
            late = f" ({one.stuck})" if one.stuck else ""
            return Finding(
                WORKLOADS, False, "RolloutStuck" if one.stuck else "PodsNotReady",
                f"Deployment {one.name} has {one.ready} of {one.wanted} pods ready{late}: see kubectl describe pods -l "
                f"app.kubernetes.io/component={one.component}, and /readyz of the pods for what they wait for",
            )  # fmt: skip
    return Finding(WORKLOADS, True, "PodsReady")


_STOPPED = {
    "collector": "no logs are taken",
    "processor": "logs wait in Kafka",
    "api": "nothing can be searched",
}


def _ready(problem: Step | None, workloads: Finding | None) -> Finding:
    if problem is not None:
        return Finding(READY, False, problem.reason, problem.message)
    if workloads is not None and not workloads.is_good:
        return Finding(READY, False, workloads.reason, workloads.message)
    return Finding(READY, True, "Ready")


def _progressing(problem: Step | None, moving: bool, workloads: Finding | None) -> Finding:
    """True while it comes to rest by itself."""
    if problem is not None:
        return Finding(PROGRESSING, False, problem.reason)
    if moving:
        waits = workloads is not None and not workloads.is_good
        reason = workloads.reason if waits and workloads is not None else "RollingOut"
        return Finding(PROGRESSING, reason not in ("PodsRefused", "RolloutStuck"), reason)
    return Finding(PROGRESSING, False, "Settled")


def _degraded(problem: Step | None, workloads: Finding | None, seen: Observed) -> Finding:
    """True where it does not come to rest by itself, or does less than was asked for."""
    if problem is not None:
        return Finding(DEGRADED, True, problem.reason, problem.message)
    if workloads is not None and workloads.reason in ("PodsRefused", "RolloutStuck"):
        return Finding(DEGRADED, True, workloads.reason, workloads.message)
    if is_lagging(seen.oldest_unsaved_seconds):
        return Finding(
            DEGRADED, True, "Lagging",
            f"records have waited in Kafka for more than {LAGGING_SECONDS / 60:g} minutes: see /readyz of the "
            "processors, and whether there are enough of them",
        )  # fmt: skip
    if seen.unmet:
        reason, message = seen.unmet[0]
        return Finding(DEGRADED, True, reason, "; ".join([message, *(text for _, text in seen.unmet[1:])]))
    return Finding(DEGRADED, False, "AsExpected")
