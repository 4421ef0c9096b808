"""What is said about a resource."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.planes import EVERYTHING, NOTHING, parsed

from logstream_operator.spec.status import Condition, LogStreamStatus
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

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
DONE = {"TopicReady": Step(True, "TopicReady"), "SchemaReady": Step(True, "SchemaReady")}
READY_PODS = tuple(Workload(name, f"web-{name}", True, 2, 2, 2, 2, True) for name in ("collector", "processor", "api"))


def conditions(seen: Observed, before: list[dict[str, Any]] | None = None, now: datetime = NOW) -> list[dict[str, Any]]:
    return stamped(findings(seen), before or [], generation=3, now=now)


def by_type(seen: Observed) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in conditions(seen)}


def pods(component: str, **changes: Any) -> tuple[Workload, ...]:
    given = {"wanted": 2, "ready": 2, "replicas": 2, "updated": 2, "current": True} | changes
    other = Workload(component, f"web-{component}", exists=True, **given)
    return tuple(other if one.component == component else one for one in READY_PODS)


def test_all_is_well() -> None:
    assert by_type(Observed(DONE, READY_PODS)) == {
        "Ready": ("True", "Ready"),
        "Degraded": ("False", "AsExpected"),
        "Paused": ("False", "NotPaused"),
        "Progressing": ("False", "Settled"),
        "SchemaReady": ("True", "SchemaReady"),
        "TopicReady": ("True", "TopicReady"),
        "WorkloadsReady": ("True", "PodsReady"),
    }
    assert conditions(Observed(DONE, READY_PODS))[0]["type"] == "Ready"


def test_a_stream_that_shares_pods_has_none_of_its_own() -> None:
    found = by_type(Observed(DONE))
    assert found["Ready"] == ("True", "Ready")
    assert "WorkloadsReady" not in found


def test_the_cause_is_told_and_not_what_waits_for_it() -> None:
    steps = {
        "AccountsReady": Step(False, "Waiting", "waits for ConnectionsReady"),
        "ConnectionsReady": Step(False, "SecretMissing", "spec.connections.kafka.secretRef: there is no Secret a"),
        **DONE,
    }
    found = by_type(Observed(steps, READY_PODS))
    assert found["Ready"] == ("False", "SecretMissing")
    assert found["Degraded"] == ("True", "SecretMissing")
    assert found["AccountsReady"] == ("False", "Waiting")
    assert found["TopicReady"] == ("True", "TopicReady")


@pytest.mark.parametrize(
    ("workloads", "ready", "progressing", "degraded"),
    [
        ((Workload("collector", "web-collector", False),), "DeploymentMissing", False, "AsExpected"),
        (pods("api", ready=1), "PodsNotReady", True, "AsExpected"),
        (pods("api", ready=0, current=False), "PodsNotReady", True, "AsExpected"),
        (pods("api", ready=1, stuck="ReplicaSet has timed out progressing"), "RolloutStuck", False, "RolloutStuck"),
        (pods("api", ready=0, refused="exceeded quota: small"), "PodsRefused", False, "PodsRefused"),
        (pods("processor", wanted=0, ready=0, replicas=0, updated=0), "Stopped", False, "AsExpected"),
        (pods("api", updated=1), "", True, "AsExpected"),
        (pods("api", current=False), "", True, "AsExpected"),
    ],
)
def test_pods(workloads: tuple[Workload, ...], ready: str, progressing: bool, degraded: str) -> None:
    found = by_type(Observed(DONE, workloads))
    assert found["Ready"] == (("False", ready) if ready else ("True", "Ready"))
    assert found["Progressing"][0] == str(progressing)
    assert found["Degraded"][1] == degraded


def test_a_deployment_is_read_as_kubernetes_has_it() -> None:
    deployment = {
        "metadata": {"generation": 4},
        "spec": {"replicas": 3},
        "status": {
            "observedGeneration": 4, "replicas": 2, "readyReplicas": 1, "updatedReplicas": 2,
            "conditions": [
                {"type": "Progressing", "status": "False", "message": "timed out"},
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
            ],
        },
    }  # fmt: skip
    assert Workload.of("api", "web-api", deployment) == Workload(
        "api", "web-api", True, 3, 1, 2, 2, True, "exceeded quota", "timed out"
    )
    new = Workload.of("api", "web-api", {"metadata": {"generation": 1}, "spec": {"replicas": 3}})
    assert (new.exists, new.current, new.ready, new.refused, new.stuck) == (True, False, 0, "", "")
    assert not Workload.of("api", "web-api", None).exists


def test_a_stream_that_is_behind() -> None:
    found = by_type(Observed(DONE, READY_PODS, oldest_unsaved_seconds=601))
    assert found["Ready"] == ("True", "Ready")
    assert found["Degraded"] == ("True", "Lagging")
    assert by_type(Observed(DONE, READY_PODS, oldest_unsaved_seconds=599))["Degraded"] == ("False", "AsExpected")


def test_what_the_cluster_cannot_give() -> None:
    asked = parsed(
        processor={"autoscaling": {"minReplicas": 3, "maxReplicas": 9}}, gateway={"parentRefs": [{"name": "a"}]},
        dashboard={"enabled": True},
    )  # fmt: skip
    assert [reason for reason, _ in unmet(asked, NOTHING)] == ["KedaMissing", "GatewayAPIMissing", "DashboardMissing"]
    assert [reason for reason, _ in unmet(asked, EVERYTHING)] == ["DashboardMissing"]
    assert not unmet(parsed(), NOTHING)
    (degraded,) = (
        one for one in conditions(Observed(DONE, READY_PODS, unmet(asked, NOTHING))) if one["type"] == "Degraded"
    )
    assert degraded["reason"] == "KedaMissing"
    assert "minReplicas, 3" in degraded["message"]
    assert "spec.gateway needs" in degraded["message"]


def test_the_schema_takes_every_condition() -> None:
    seen = [
        findings(Observed({"TopicReady": Step(False, "TopicConflict", "x" * 5000)}, pods("api", ready=0))),
        *(key_findings(one) for one in KEYS),
    ]
    for found in seen:
        whole = stamped(found, [], generation=1, now=NOW)
        assert len(LogStreamStatus.model_validate({"conditions": whole}).conditions or ()) == len(whole)
        for one in whole:
            Condition.model_validate(one)


def test_looking_twice_says_the_same() -> None:
    first = conditions(Observed(DONE, READY_PODS))
    assert conditions(Observed(DONE, READY_PODS), first, LATER) == first
    assert events(first, first) == []


def test_time_moves_with_the_status_and_not_with_the_reason() -> None:
    def ready(step: Step, before: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
        return conditions(Observed({"TopicReady": step}, READY_PODS), before, now)[0]

    away = Step(False, "KafkaAway", "no answer")
    first = ready(away, [], NOW)
    assert first["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    other = ready(Step(False, "KafkaRefused", "wrong password"), [first], LATER)
    assert (other["reason"], other["lastTransitionTime"]) == ("KafkaRefused", first["lastTransitionTime"])
    assert ready(Step(True, "TopicReady"), [first], LATER)["lastTransitionTime"] == "2026-01-02T03:09:05Z"


def test_a_paused_resource_keeps_what_was_known() -> None:
    before = conditions(Observed(DONE, READY_PODS))
    after = stamped(
        [Finding("Paused", True, "Paused", "spec.paused is true")], before, generation=4, now=LATER, keep=True
    )
    assert [one["type"] for one in after] == [one["type"] for one in before]
    assert after[0] == before[0]
    (event,) = events(before, after)
    assert (event.reason, event.warning) == ("Paused", False)


def test_what_nobody_knows() -> None:
    (one,) = stamped([Finding("Ready", None, "Unknown")], [], generation=1, now=NOW)
    assert one["status"] == "Unknown"


def test_events_tell_transitions_once() -> None:
    well = conditions(Observed(DONE, READY_PODS))
    assert [(one.reason, one.warning) for one in events([], well)] == [("Ready", False)]
    away = conditions(Observed({**DONE, "TopicReady": Step(False, "KafkaAway", "no answer")}, READY_PODS), well)
    (event,) = events(well, away)
    assert event.warning
    assert event.note == "TopicReady is False: no answer"
    assert events(away, away) == []
    refused = conditions(Observed({**DONE, "TopicReady": Step(False, "KafkaRefused", "no")}, READY_PODS), away)
    assert [one.reason for one in events(away, refused)] == ["KafkaRefused"]
    assert [(one.reason, one.warning) for one in events(refused, well)] == [("Ready", False)]


def test_events_of_a_rotation_are_no_warnings() -> None:
    settled, rotating = (
        stamped(key_findings(seen), [], generation=1, now=NOW)
        for seen in (ObservedKey("k1"), ObservedKey("k2", previous_id="k1"))
    )
    assert [(one.reason, one.warning) for one in events(settled, rotating)] == [("Overlap", False)]
    assert [(one.reason, one.warning) for one in events([], rotating)] == [("InUse", False), ("Overlap", False)]


KEYS = {
    ObservedKey("k1"): ("True", "InUse", "False", "Settled"),
    ObservedKey("k2", previous_id="k1"): ("True", "InUse", "True", "Overlap"),
    ObservedKey("k1", confirming_id="k2"): ("True", "InUse", "True", "Confirming"),
    ObservedKey(confirming_id="k1"): ("False", "Confirming", "True", "Confirming"),
    ObservedKey("k1", previous_id="k0", expired=True): ("False", "Expired", "False", "Settled"),
    ObservedKey(revoked=True, expired=True): ("False", "Revoked", "False", "Settled"),
}


@pytest.mark.parametrize("seen", KEYS, ids=repr)
def test_keys(seen: ObservedKey) -> None:
    found = {one.type: one for one in key_findings(seen)}
    ready, rotating = found["Ready"], found["Rotating"]
    assert (str(ready.holds), ready.reason, str(rotating.holds), rotating.reason) == KEYS[seen]


def test_every_bad_condition_says_what_to_do() -> None:
    bad = [
        one for workloads in (pods("api", ready=0), pods("api", wanted=0, ready=0), pods("api", refused="quota"))
        for one in findings(Observed(DONE, workloads)) if not one.is_good and one.type == "Ready"
    ] + [one for seen in KEYS for one in key_findings(seen) if not one.is_good and one.type == "Ready"]  # fmt: skip
    assert len(bad) == 6
    for one in bad:
        assert re.search(r"\b(see|give|raise|set|make|look)\b", one.message), one
