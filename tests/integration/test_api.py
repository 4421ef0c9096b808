"""Search, statistics, health and the form of errors, over HTTP against everything real."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query.time import MIN_NS, format_time
from logstream.record import Level, Record
from logstream.settings import ApiSettings

pytestmark = pytest.mark.engine

MINUTE = 60 * 10**9
BASE = 1_700_000_040 * 10**9  # 2023-11-14T22:14:00Z
FROM = format_time(BASE)


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url, settings=ApiSettings(max_limit=5_000)) as running:
        yield running


def lines(count: int, *, base: int = BASE, step: int = 10**9) -> list[Record]:
    return [
        Record(base + i * step, ("payment", "checkout", "auth")[i % 3], 1 + i % 6, f"Line {i} done", {"n": str(i)})
        for i in range(count)
    ]


async def test_logs_come_newest_first_in_the_original_form(api: Api):
    await api.store_all([
        Record(BASE + 1, "payment", Level.ERROR, 'card "declined"\n\0', {"user_id": "42", "é": "ü"}),
        Record(BASE, "checkout", Level.INFO, "paid"),
        Record(BASE + MINUTE, "auth", Level.WARN, "traced", {}, "trace", "span"),
    ])  # fmt: skip
    answer = await api.get("/logs", start_time=FROM)
    assert answer.status_code == 200
    assert answer.json() == [
        {"timestamp": "2023-11-14T22:15:00Z", "service": "auth", "level": "warn", "message": "traced", "metadata": {},
         "trace_id": "trace", "span_id": "span"},
        {"timestamp": "2023-11-14T22:14:00.000000001Z", "service": "payment", "level": "error",
         "message": 'card "declined"\n\0', "metadata": {"user_id": "42", "é": "ü"}},
        {"timestamp": "2023-11-14T22:14:00Z", "service": "checkout", "level": "info", "message": "paid",
         "metadata": {}},
    ]  # fmt: skip


async def test_every_parameter_narrows(api: Api):
    await api.store_all(lines(60))

    async def found(**params: str | int) -> list[str]:
        answer = await api.get("/logs", **{"start_time": FROM, **params})
        assert answer.status_code == 200, answer.text
        return [entry["metadata"]["n"] for entry in answer.json()]

    assert await found() == [str(i) for i in reversed(range(60))]
    assert await found(limit=2) == ["59", "58"]
    assert await found(service="payment", limit=2) == ["57", "54"]
    assert await found(service="payment, auth", limit=3) == ["59", "57", "56"]
    assert await found(level="ERROR,crit", limit=3) == ["59", "58", "53"]
    assert await found(search="LINE 5 d") == ["5"]
    assert await found(start_time=str(BASE + 58 * 10**9)) == ["59", "58"]
    assert await found(end_time="2023-11-15T00:14:01+02:00") == ["1", "0"]
    assert await found(service="nobody") == []
    assert await found(service="", level="", search="", end_time="", limit="") == await found()


async def test_the_default_is_the_last_hour_and_what_the_future_holds(api: Api):
    now = api.gate._clock.now_ns()
    await api.store_all([
        Record(now - 2 * 60 * MINUTE, "s", 3, "two hours ago"),
        Record(now - 30 * MINUTE, "s", 3, "half an hour ago"),
        Record(now + 5 * MINUTE, "s", 3, "a fast clock"),
    ])  # fmt: skip
    assert [entry["message"] for entry in (await api.get("/logs")).json()] == ["a fast clock", "half an hour ago"]
    assert sum(minute["count"] for minute in (await api.get("/stats")).json()) == 2


async def test_wide_ranges_are_searched_to_their_ends(api: Api):
    now = api.gate._clock.now_ns()
    ages = [0, 50 * MINUTE, 5 * 60 * MINUTE, 20 * 60 * MINUTE, 3 * 1440 * MINUTE, 400 * 1440 * MINUTE]
    times = [now - age for age in ages] + [0, -1, MIN_NS]
    await api.store_all([Record(at, "s", 3, f"line {i}") for i, at in enumerate(times)])
    for limit in range(1, len(times) + 1):
        answer = await api.get("/logs", start_time="1900-01-01", limit=limit)
        assert [entry["message"] for entry in answer.json()] == [f"line {i}" for i in range(limit)]


async def test_lines_of_one_instant_come_in_the_reverse_order_of_arrival(api: Api):
    await api.store_all([Record(BASE, "s", 3, f"a{i}") for i in range(5)])
    await api.store_all([Record(BASE, "s", 3, f"b{i}") for i in range(5)])
    found = [entry["message"] for entry in (await api.get("/logs", start_time=FROM)).json()]
    assert found == ["b4", "b3", "b2", "b1", "b0", "a4", "a3", "a2", "a1", "a0"]


async def test_stats_count_per_minute(api: Api):
    await api.store_all([*lines(150), Record(-1, "old", 3, "before 1970")])
    answer = await api.get("/stats", start_time=FROM)
    assert answer.json() == [
        {"timestamp": "2023-11-14T22:14:00Z", "count": 60},
        {"timestamp": "2023-11-14T22:15:00Z", "count": 60},
        {"timestamp": "2023-11-14T22:16:00Z", "count": 30},
    ]
    assert [m["count"] for m in (await api.get("/stats", start_time=FROM, service="payment")).json()] == [20, 20, 10]
    assert (await api.get("/stats", start_time=FROM, limit=1)).json()[0]["count"] == 30
    assert (await api.get("/stats", start_time="1969-12-31", end_time="1970-01-01")).json() == [
        {"timestamp": "1969-12-31T23:59:00Z", "count": 1}
    ]


@pytest.mark.parametrize(
    ("params", "field", "limit"),
    [
        ({"limit": "0"}, "limit", 1),
        ({"limit": "5001"}, "limit", 5_000),
        ({"limit": "many"}, "limit", None),
        ({"level": "loud"}, "level", "trace, debug, info, warn, error, fatal"),
        ({"start_time": "yesterday"}, "start_time", None),
        ({"end_time": "2300-01-01T00:00:00Z"}, "end_time", "1900-01-01/2262-04-11"),
        ({"start_time": "2000-01-02", "end_time": "2000-01-01"}, "start_time", "2000-01-01"),
        ({"search": "x" * 1025}, "search", 1024),
        ({"service": ",".join(map(str, range(101)))}, "service", 100),
    ],
)
@pytest.mark.parametrize("path", ["/logs", "/stats"])
async def test_a_wrong_parameter_is_named(api: Api, path: str, params: dict[str, str], field: str, limit: object):
    answer = await api.get(path, **params)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_value"
    assert error["field"] == field
    assert error.get("limit") == limit
    assert field in error["message"]


async def test_reads_need_a_key_unless_the_stream_is_open(api: Api):
    for path in ("/logs", "/stats", "/api/v1/ledger", "/api/v1/deadletters", "/api/v1/tail", "/ws"):
        answer = await api.client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthenticated"
    await api.accounts.update_stream("default", anonymous_reads=True)
    assert (await api.client.get("/logs")).status_code == 200
    assert (await api.client.get("/logs", headers={"Authorization": "Bearer nonsense"})).status_code == 401
    assert (await api.get("/logs", stream="other")).status_code == 403


async def test_unknown_paths_and_methods_have_the_same_form(api: Api):
    answer = await api.client.get("/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = await api.client.post("/logs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    answer = await api.client.post("/api/v1/login", content=b"x" * 70_000)
    assert (answer.status_code, answer.json()["error"]["limit"]) == (413, 65_536)
    answer = await api.client.post("/api/v1/login", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_health_says_what_is_away(api: Api):
    for path in ("/health", "/livez", "/readyz"):
        answer = await api.client.get(path)
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
    await api.bus.close()
    answer = await api.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["store"] == "ok"
    assert answer.json()["checks"]["log"] != "ok"
    assert (await api.client.get("/health")).json()["status"] == "degraded"
    assert (await api.client.get("/livez")).status_code == 200


async def test_the_ledger_balances_and_counts_what_is_present(api: Api):
    await api.store_all(lines(60))
    answer = await api.get("/api/v1/ledger")
    assert answer.status_code == 200
    counts = {"accepted": 60, "stored": 60, "deduplicated": 0, "dead_lettered": 0, "in_flight": 0, "present": 60}
    counts |= {"dead_letters": dict.fromkeys(("waiting", "replaying", "replayed", "discarded", "expired"), 0)}
    assert answer.json() == {
        "stream": "default", "start_time": None, "end_time": None, "balanced": True, "total": counts,
        "keys": [{**counts, "key_id": api.key_id}],
    }  # fmt: skip


async def test_the_ledger_of_a_time_says_which_minutes_it_counted(api: Api):
    # Minutes of long ago are not kept.
    second = int(time.time()) // 60 * 60 - 86_400
    minute = second * 10**9
    for number, received in enumerate((minute - 1, minute, minute + 59 * 10**9, minute + 60 * 10**9)):
        await api.send(lines(number + 1), received_at=received)
    await api.stored()

    async def of(**times: str) -> tuple[object, object, int, int]:
        answer = (await api.get("/api/v1/ledger", **times)).json()
        assert answer["balanced"]
        assert answer["total"]["accepted"] == answer["total"]["stored"] + answer["total"]["in_flight"]
        return answer["start_time"], answer["end_time"], answer["total"]["accepted"], answer["total"]["present"]

    def at(seconds: int) -> str:
        return datetime.fromtimestamp(second + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    start, end = at(0), at(60)
    assert await of(start_time=start, end_time=end) == (start, end, 5, 5)
    assert await of(start_time=at(30), end_time=str(second + 31)) == (start, end, 5, 5)
    assert await of(start_time=end) == (end, None, 4, 4)
    assert await of(end_time=start) == (None, start, 1, 1)
    assert await of() == (None, None, 10, 10)


async def test_metrics_and_cors(api: Api):
    await api.get("/logs")
    text = (await api.client.get("/metrics")).text
    assert 'logstream_api_requests_total{route="/logs",status="200"}' in text
    preflight = await api.client.options(
        "/logs",
        headers={
            "Origin": "https://example.com",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert (await api.client.get("/nothing", headers={"Origin": "https://e.com"})).headers[
        "access-control-allow-origin"
    ] == "*"
