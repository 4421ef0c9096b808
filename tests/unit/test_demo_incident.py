"""The demo's incident: it shows, its lines lead to the cause, and the decoys do not."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from logstream.demo import Incident, Plan, backfill, incident
from logstream.demo.plan import MINUTE
from logstream.demo.season import HOUR
from logstream.demo.shop import EUROPE

END = 1_795_514_400 * 10**9
Entry = dict[str, Any]
PLANS = {
    "a week": Plan(1, END, 7, lines_per_day=20_000),
    "another seed": Plan(99, END + 5 * HOUR, 3, lines_per_day=15_000),
    "a day": Plan(1, END, 1, lines_per_day=60_000),
}


@pytest.fixture(scope="module", params=PLANS.values(), ids=PLANS.keys())
def plan(request: pytest.FixtureRequest) -> Plan:
    found: Plan = request.param
    return found


@pytest.fixture(scope="module")
def trouble(plan: Plan) -> Incident:
    found = incident(plan)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def entries(plan: Plan) -> list[Entry]:
    return [msgspec.json.decode(record) for _, record in backfill(plan)]


@pytest.fixture(scope="module")
def failed(entries: list[Entry]) -> list[Entry]:
    """The symptom: orders that came to nothing."""
    return [e for e in entries if e["service"] == "checkout" and e["level"] == "error"]


def test_orders_fail_in_one_region_and_only_then(failed: list[Entry], trouble: Incident) -> None:
    assert len(failed) >= 8
    assert {e["metadata"]["region"] for e in failed} == {EUROPE.name}
    assert all(trouble.start < e["timestamp"] < trouble.end + 2 * MINUTE for e in failed)


def test_the_gateway_answers_502_for_them(entries: list[Entry], failed: list[Entry]) -> None:
    bad = {e["trace_id"] for e in entries if e["service"] == "gateway" and e["metadata"].get("status") == "502"}
    assert bad == {e["trace_id"] for e in failed}


def test_their_traces_lead_to_the_pool_and_the_version(
    entries: list[Entry], failed: list[Entry], trouble: Incident
) -> None:
    traces = {e["trace_id"] for e in failed}
    causes = [e for e in entries if e.get("trace_id") in traces and e["service"] == "payment" and e["level"] == "error"]
    assert {e["trace_id"] for e in causes} == traces
    assert {e["metadata"]["error"] for e in causes} == {"PoolTimeoutError"}
    assert all("pool payment-db" in e["message"] for e in causes)
    late = [e for e in causes if e["timestamp"] > trouble.start + 5 * MINUTE]
    assert {e["metadata"]["version"] for e in late} == {trouble.version}
    assert all(float(e["metadata"]["latency_ms"]) > 3_000 for e in causes)


def test_the_version_came_with_the_incident_and_went_with_it(entries: list[Entry], trouble: Incident) -> None:
    said = [e for e in entries if e["service"] == "payment" and e["metadata"].get("event")]
    bad = [e for e in said if trouble.version in e["message"]]
    assert [e["metadata"]["event"] for e in bad] == ["deploy", "rollback"]
    assert [e["timestamp"] // MINUTE * MINUTE for e in bad] == [trouble.start, trouble.end]
    assert {e["metadata"]["region"] for e in bad} == {EUROPE.name}
    assert "max_size 40 -> 4" in bad[0]["message"]


def test_it_stands_out(entries: list[Entry], trouble: Incident) -> None:
    """The hours with the most errors of one service in one region are those of the incident."""
    errors = Counter(
        (e["timestamp"] // HOUR, e["service"], e["metadata"]["region"])
        for e in entries
        if e["level"] in ("error", "fatal")
    )
    (hour, service, region), count = errors.most_common(1)[0]
    assert (service, region) == ("payment", EUROPE.name)
    assert trouble.start // HOUR <= hour <= trouble.end // HOUR
    usual = max(c for (h, _, _), c in errors.items() if not trouble.start // HOUR <= h <= trouble.end // HOUR)
    assert count > 1.5 * usual


def test_payment_gets_slower_before_it_fails(entries: list[Entry], trouble: Incident) -> None:
    def mean(start: int, end: int) -> float:
        took = [
            float(e["metadata"]["latency_ms"]) for e in entries
            if e["service"] == "payment" and start <= e["timestamp"] < end
            and e["metadata"]["region"] == EUROPE.name and "latency_ms" in e["metadata"]
        ]  # fmt: skip
        return sum(took) / len(took)

    third = (trouble.end - trouble.start) // 3
    before = mean(trouble.start - 4 * HOUR, trouble.start)
    assert before * 1.5 < mean(trouble.start, trouble.start + third // 2)
    assert mean(trouble.start, trouble.start + third // 2) < mean(trouble.start + third, trouble.end)


def test_another_deploy_shortly_before_is_innocent(
    entries: list[Entry], failed: list[Entry], trouble: Incident
) -> None:
    near = [e for e in entries if e["metadata"].get("event") == "deploy"
            and trouble.innocent <= e["timestamp"] < trouble.start]  # fmt: skip
    assert [e["service"] for e in near] == ["catalog"]
    traces = {e["trace_id"] for e in failed}
    assert not any(e["service"] == "catalog" for e in entries if e.get("trace_id") in traces)


def test_a_warning_is_noisy_and_harmless(entries: list[Entry], trouble: Incident) -> None:
    noisy = [e for e in entries if "price_cents is deprecated" in e["message"]]
    assert len(noisy) > 100
    assert noisy[0]["timestamp"] >= trouble.innocent
    assert {e["level"] for e in noisy} == {"warn"}
    # It outlives the incident.
    assert noisy[-1]["timestamp"] > trouble.end + HOUR


@pytest.mark.parametrize("days", [0.0, 0.01])
def test_a_few_minutes_have_no_incident(days: float) -> None:
    plan = Plan(1, END, days)
    assert incident(plan) is None
    assert not any(b"payment-db within" in record for _, record in backfill(plan))


def test_no_pod_writes_before_it_starts_or_after_it_has_ended(entries: list[Entry]) -> None:
    started = {e["metadata"]["pod"]: e["timestamp"] for e in entries if e["metadata"].get("event")}
    ended = {e["metadata"]["pod"]: e["timestamp"] for e in entries if e["message"] == "Shutdown complete"}
    assert ended
    for entry in entries:
        pod, at = entry["metadata"]["pod"], entry["timestamp"]
        assert at >= started.get(pod, at)
        # Requests under way, and jobs, come to their end.
        assert at <= ended.get(pod, at) + 20 * MINUTE
