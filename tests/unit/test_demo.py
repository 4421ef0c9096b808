"""The demo's logs: believable, in order, and the same for the same plan."""

import re
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.demo import Incident, Plan, backfill, batches, incident, live
from logstream.demo.fleet import Fleet
from logstream.demo.plan import MINUTE
from logstream.demo.season import DAY, HOUR, volume
from logstream.demo.shop import AMERICA, EUROPE, REGIONS, SERVICES
from logstream.query.patterns import ShapeCounter, learn
from logstream.record import parse_level

END = 1_795_514_400 * 10**9
"""2026-11-24T10:00:00Z"""
WEEK = Plan(1, END, 7, lines_per_day=12_000)
Entry = dict[str, Any]


@pytest.fixture(scope="module")
def week() -> list[Entry]:
    return [msgspec.json.decode(record) for _, record in backfill(WEEK)]


@pytest.fixture(scope="module")
def trouble() -> Incident:
    found = incident(WEEK)
    assert found is not None
    return found


def is_error(entry: Entry) -> bool:
    return entry["level"] in ("error", "fatal")


def in_trouble(entry: Entry, trouble: Incident) -> bool:
    # The last requests of the incident end a little later.
    return bool(trouble.start <= entry["timestamp"] < trouble.end + 2 * MINUTE)


def test_the_same_plan_is_the_same_lines() -> None:
    plan = Plan(7, END + 123 * 10**9, 0.2)
    assert list(backfill(plan)) == list(backfill(plan))
    assert list(islice(live(plan), 200)) == list(islice(live(plan), 200))


@pytest.mark.parametrize("other", [Plan(8, END, 0.2), Plan(7, END - 30 * MINUTE, 0.2)])
def test_another_seed_or_end_is_something_else(other: Plan) -> None:
    assert list(backfill(other)) != list(backfill(Plan(7, END, 0.2)))


def test_lines_come_in_the_order_of_their_times(week: list[Entry]) -> None:
    times = [entry["timestamp"] for entry in week]
    assert times == sorted(times)
    assert WEEK.start_ns <= times[0] < WEEK.start_ns + 20 * MINUTE
    assert END - 20 * MINUTE < times[-1] < END


@pytest.mark.parametrize(("days", "lines_per_day"), [(1.0, 100_000.0), (7.0, 12_000.0)])
def test_there_are_as_many_lines_as_asked_for(days: float, lines_per_day: float) -> None:
    count = sum(1 for _ in backfill(Plan(3, END, days, lines_per_day)))
    assert 0.85 < count / (days * lines_per_day) < 1.2


def test_a_year_begins_at_once() -> None:
    assert len(list(islice(backfill(Plan(1, END, 365, 1_000_000)), 1_000))) == 1_000


def test_batches_hold_every_line_once() -> None:
    plan = Plan(1, END, 0.1)
    lines = list(backfill(plan))
    made = list(batches(iter(lines), 100))
    assert [record for batch in made for record in batch.records] == [record for _, record in lines]
    assert [batch.number for batch in made] == list(range(len(made)))
    assert {len(batch.records) for batch in made[:-1]} == {100}
    assert made[-1].until == lines[-1][0]


def test_live_goes_on_where_the_backfill_ends_at_its_rate() -> None:
    plan = Plan(1, END + 17 * 10**9, 0.1, live_rate=50)
    *_, (last, _) = backfill(plan)
    lines = list(islice(live(plan), 20_000))
    times = [at for at, _ in lines]
    assert last < plan.end_ns <= times[0] < plan.end_ns + 10 * 10**9
    assert times == sorted(times)
    # The first minute is still the back-fill's.
    rate = (len(lines) - 100) / ((times[-1] - plan.end_ns) / 1e9 - 43)
    assert 35 < rate < 65


def test_records_have_the_form_that_is_decoded_fastest(week: list[Entry]) -> None:
    for entry in week:
        assert set(entry) <= {"timestamp", "service", "level", "message", "metadata", "trace_id", "span_id"}
        assert parse_level(entry["level"]) is not None
        assert entry["message"]
        assert all(isinstance(value, str) for value in entry["metadata"].values())
        assert entry["metadata"]["demo"] == "1"
        if "trace_id" in entry:
            assert re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{16}", f"{entry['trace_id']} {entry['span_id']}")


def test_every_service_writes_in_every_region(week: list[Entry]) -> None:
    seen = {(entry["service"], entry["metadata"]["region"]) for entry in week}
    assert seen == {(service.name, region.name) for service in SERVICES for region in REGIONS}


def test_levels_are_those_of_a_shop(week: list[Entry], trouble: Incident) -> None:
    quiet = [entry for entry in week if not in_trouble(entry, trouble)]
    share = {level: count / len(quiet) for level, count in Counter(entry["level"] for entry in quiet).items()}
    assert 0.01 <= share["error"] + share.get("fatal", 0) <= 0.02
    assert 0.02 < share["warn"] < 0.06
    assert 0.8 < share["info"] < 0.93


def test_there_are_a_hundred_kinds_of_message(week: list[Entry]) -> None:
    counter = ShapeCounter()
    counter.add(entry["message"] for entry in week)
    templates = set(learn(counter.shapes.keys()).values())
    assert 80 <= len(templates) <= 150
    assert any("\n\tat " in entry["message"] for entry in week), "no stack trace"


def test_requests_pass_several_services_under_one_trace(week: list[Entry]) -> None:
    traces: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in week:
        if "trace_id" in entry:
            traces[entry["trace_id"]][entry["service"]].add(entry["span_id"])
    assert all(len(spans) == 1 for services in traces.values() for spans in services.values())
    whole = {"gateway", "checkout", "cart", "inventory", "payment", "shipping", "notification"}
    assert sum(whole <= services.keys() for services in traces.values()) > 100
    sizes = Counter(len(services) for services in traces.values())
    assert sum(count for size, count in sizes.items() if size >= 3) > len(traces) / 2


def test_some_users_come_often_and_most_seldom(week: list[Entry]) -> None:
    users = Counter(entry["metadata"]["user_id"] for entry in week if "user_id" in entry["metadata"])
    total = sum(users.values())
    assert 0.002 < users.most_common(1)[0][1] / total < 0.03
    assert len(users) > 2_000
    assert sum(count for _, count in users.most_common(len(users) // 10)) > 0.3 * total


def test_latencies_have_a_long_tail(week: list[Entry]) -> None:
    took = sorted(float(e["metadata"]["latency_ms"]) for e in week
                  if e["service"] == "storefront" and "latency_ms" in e["metadata"])  # fmt: skip
    median, late = took[len(took) // 2], took[len(took) * 99 // 100]
    assert 25 < median < 45
    assert 2.2 < late / median < 4


def test_the_day_has_a_night_and_two_peaks() -> None:
    # 2026-11-24 was a Tuesday; Europe is an hour ahead of UTC.
    tuesday = END // DAY * DAY - HOUR
    by_hour = [volume(tuesday + hour * HOUR, EUROPE) for hour in range(24)]
    assert by_hour[3] < 0.2 < 1.4 < by_hour[12] < by_hour[20]
    assert by_hour[15] < by_hour[12]
    saturday = tuesday + 4 * DAY
    assert volume(saturday + 20 * HOUR, EUROPE) > by_hour[20]
    assert volume(tuesday, AMERICA) == volume(tuesday - 6 * HOUR, EUROPE)
    mean = sum(volume(tuesday + n * 10 * MINUTE, EUROPE) for n in range(7 * 144)) / (7 * 144)
    assert mean == pytest.approx(1, abs=0.01)


def test_volume_follows_the_day(week: list[Entry]) -> None:
    hours = Counter(
        (entry["timestamp"] // HOUR + 1) % 24 for entry in week if entry["metadata"]["region"] == EUROPE.name
    )
    assert hours[3] * 5 < hours[12] < hours[20]


def test_deploys_change_pods_and_version(week: list[Entry]) -> None:
    deploys = Fleet(WEEK).deploys
    assert 4 <= len({(d.service, d.version) for d in deploys if not d.rollback}) <= 16
    places: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in week:
        places[entry["service"], entry["metadata"]["region"]].append(entry)
    for deploy in deploys:
        place = places[deploy.service, deploy.region]
        before = [e for e in place if e["timestamp"] < deploy.at][-30:]
        after = [e for e in place if deploy.at + 2 * MINUTE <= e["timestamp"]][:30]
        assert {e["metadata"]["version"] for e in before[-3:]} <= {deploy.previous}
        assert {e["metadata"]["version"] for e in after[:3]} <= {deploy.version}
        assert not {e["metadata"]["pod"] for e in before} & {e["metadata"]["pod"] for e in after}
        said = [e for e in place if e["metadata"].get("event") and deploy.at <= e["timestamp"] < deploy.at + MINUTE]
        assert [e["metadata"]["change"] for e in said] == [deploy.change]
        assert f"version {deploy.version} (was {deploy.previous})" in said[0]["message"]


@given(st.integers(0, 7 * 1440), st.floats(0, 30))
def test_the_incident_is_where_it_can_be_found(minutes: int, days: float) -> None:
    plan = Plan(1, END + minutes * MINUTE, days)
    found = incident(plan)
    if days < 0.04:
        assert found is None
    if found is not None:
        assert plan.start_ns < found.innocent < found.start < found.end < plan.end_ns
        assert found.start % MINUTE == found.end % MINUTE == 0
        if days >= 3:
            assert 17 * HOUR < plan.end_ns - found.start < 42 * HOUR
            assert volume(found.start, EUROPE) > 1.2
