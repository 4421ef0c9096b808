"""Reads under way on the real engine: seen, cancelled, limited, and ended when their client leaves."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import Api
from tests.support.engine import EngineProcess
from tests.support.reads import api_with_slow_route, in_engine, until_in_engine, until_queries

from logstream.api import answer
from logstream.auth.principal import Scope
from logstream.record import Level, Record
from logstream.settings import ApiSettings

pytestmark = pytest.mark.engine

NUMBERS = "SELECT sum(sipHash64(number)) FROM numbers(100000000000) SETTINGS max_threads = 1"


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with api_with_slow_route(tmp_path, engine.url, monkeypatch) as running:
        yield running


async def key(api: Api, name: str, *scopes: Scope) -> dict[str, str]:
    created = await api.accounts.create_key(name, scopes=scopes)
    await api.gate.refresh()
    return {"Authorization": f"Bearer {created.text}"}


def read(api: Api, headers: dict[str, str] | None = None, **params: str) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(api.client.get("/slow", params=params, headers=headers or api.headers))


async def test_a_read_ends_in_the_engine_when_its_client_leaves(api: Api) -> None:
    task = read(api)
    await until_in_engine(api, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_in_engine(api, 0)
    # It is listed until the engine has answered that it ended what is left.
    await until_queries(api, 0)


async def test_a_read_shows_how_far_it_is(api: Api) -> None:
    task = read(api, api.headers | {"X-Query-Id": "count-1"}, sql=NUMBERS)
    async with asyncio.timeout(15):
        while True:
            [found] = await until_queries(api, 1)
            if found["rows_read"]:
                break
    assert found["id"] == "count-1"
    assert (found["kind"], found["stream"], found["caller"], found["caller_kind"]) == (
        "slow",
        "default",
        "reader",
        "key",
    )
    assert found["rows_total"] == 100_000_000_000
    assert 0 <= found["percent"] < 100
    assert found["bytes_read"] == found["rows_read"] * 8
    assert found["memory"] >= 0
    await asyncio.sleep(0.3)
    [later] = await until_queries(api, 1)
    assert later["rows_read"] > found["rows_read"]
    assert later["elapsed_seconds"] > found["elapsed_seconds"]
    assert (await api.client.delete("/api/v1/queries/count-1", headers=api.headers)).status_code == 204
    answer = await task
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cancelled"
    assert answer.headers["x-query-id"] == "count-1"
    await until_in_engine(api, 0, "sipHash64")


async def test_reads_belong_to_their_caller_and_to_admins(api: Api) -> None:
    other = await key(api, "other", Scope.READ)
    admin = await key(api, "admin", Scope.READ, Scope.ADMIN)
    task = read(api, api.headers | {"X-Query-Id": "mine"})
    await until_queries(api, 1)
    path = "/api/v1/queries"
    assert (await api.client.get(path, headers=other)).json() == {"queries": []}
    assert (await api.client.get(path, headers=other, params={"all": "true"})).status_code == 403
    assert (await api.client.get(path)).status_code == 401
    assert (await api.client.delete(f"{path}/mine", headers=other)).status_code == 404
    assert (await api.client.get(path, headers=admin)).json() == {"queries": []}
    everybodys = (await api.client.get(path, headers=admin, params={"all": "true"})).json()["queries"]
    assert [query["id"] for query in everybodys] == ["mine"]
    taken = await api.client.get("/slow", headers=api.headers | {"X-Query-Id": "mine"})
    assert (taken.status_code, taken.json()["error"]["field"]) == (409, "X-Query-Id")
    # Names are the caller's own: another's is neither seen nor in the way.
    theirs = read(api, other | {"X-Query-Id": "mine"})
    await until_in_engine(api, 2)
    assert (await api.client.delete(f"{path}/mine", headers=other)).status_code == 204
    assert (await theirs).status_code == 409
    assert (await api.client.delete(f"{path}/mine", headers=other)).status_code == 404
    own = read(api, admin | {"X-Query-Id": "mine"})
    await until_in_engine(api, 2)
    assert (await api.client.delete(f"{path}/mine", headers=admin)).status_code == 204
    assert (await own).status_code == 409
    assert not task.done()
    assert (await api.client.delete(f"{path}/mine", headers=admin)).status_code == 204
    assert (await task).status_code == 409
    assert (await api.client.delete(f"{path}/mine", headers=admin)).status_code == 404


async def test_a_read_that_waits_can_be_cancelled(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_with_slow_route(tmp_path, engine.url, monkeypatch, ApiSettings(max_reads=1)) as api:
        first = read(api)
        await until_queries(api, 1)
        second = read(api, api.headers | {"X-Query-Id": "second"})
        async with asyncio.timeout(15):
            while len(found := (await api.get("/api/v1/queries")).json()["queries"]) < 2:
                await asyncio.sleep(0.02)
        assert [query["state"] for query in found] == ["running", "waiting"]
        assert (found[1]["rows_read"], found[1]["percent"], found[1]["memory"]) == (0, None, None)
        assert (await api.client.delete("/api/v1/queries/second", headers=api.headers)).status_code == 204
        assert (await second).json()["error"]["code"] == "cancelled"
        assert [query["id"] for query in (await api.get("/api/v1/queries")).json()["queries"]] == [found[0]["id"]]
        assert (await api.client.delete(f"/api/v1/queries/{found[0]['id']}", headers=api.headers)).status_code == 204
        assert (await first).status_code == 409


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "'; DROP"])
async def test_a_name_that_is_none_is_refused(api: Api, name: str) -> None:
    answer = await api.client.get("/logs", headers=api.headers | {"X-Query-Id": name})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "X-Query-Id")


async def test_the_answer_says_its_id(api: Api) -> None:
    made_up = await api.get("/logs")
    assert len(made_up.headers["x-query-id"]) == 32
    chosen = await api.client.get("/stats", headers=api.headers | {"X-Query-Id": "a.b_c-1"})
    assert chosen.headers["x-query-id"] == "a.b_c-1"


async def test_a_client_may_lower_the_time(api: Api) -> None:
    answer = await api.get("/slow", timeout="0.2")
    assert answer.status_code == 422
    assert answer.json()["error"] | {"message": ""} == {
        "code": "query_too_expensive", "message": "", "field": "timeout", "limit": 0.2,
    }  # fmt: skip
    await until_in_engine(api, 0)
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        answer = await api.get("/slow", timeout=wrong)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "timeout")


@pytest.mark.parametrize(
    ("setting", "sql", "status", "field"),
    [
        ({"max_rows_read": 1000}, "SELECT count() FROM numbers(5000000) WHERE number % 3 = 1", 422, "rows_read"),
        ({"max_bytes_read": 1000}, "SELECT count() FROM numbers(5000000) WHERE number % 3 = 1", 422, "bytes_read"),
        (
            {"max_query_seconds": 0.2},
            "SELECT count() FROM numbers(9000000000) WHERE sipHash64(number) = 1",
            422,
            "timeout",
        ),
        ({}, "SELECT length(groupArray(toString(number))) FROM numbers(100000000)", 422, "memory"),
        ({}, "SELECT number, count() FROM numbers(9000000) GROUP BY number LIMIT 1", 422, "groups"),
        ({"max_result_bytes": 2**20}, "SELECT number FROM numbers(1000000)", 413, "limit"),
    ],
)
async def test_what_exceeds_a_limit_is_named(
    setting: dict[str, float], sql: str, status: int, field: str, tmp_path: Path, engine: EngineProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if field == "memory":
        # Far below what the engine allows all queries together: that limit means "not now" and names nobody.
        monkeypatch.setattr("logstream.query.limits._MAX_MEMORY", 64 * 2**20)
    settings = ApiSettings(**setting)
    async with api_with_slow_route(tmp_path, engine.url, monkeypatch, settings) as api:
        answer = await api.get("/slow", sql=sql)
        assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
        assert answer.json()["error"]["limit"] == next(iter(setting.values()), answer.json()["error"]["limit"])
        assert "retry-after" not in answer.headers


async def test_a_range_may_be_too_long(tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_with_slow_route(tmp_path, engine.url, monkeypatch, ApiSettings(max_query_days=7)) as api:
        for path in ("/logs", "/stats"):
            allowed = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-08T00:00:00Z"}
            assert (await api.get(path, **allowed)).status_code == 200
            answer = await api.get(path, **(allowed | {"end_time": "2026-01-08T00:00:01Z"}))
            assert answer.status_code == 400
            assert answer.json()["error"] | {"message": ""} == {
                "code": "invalid_value", "message": "", "field": "start_time", "limit": 7,
            }  # fmt: skip


async def test_one_caller_leaves_turns_to_others(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ApiSettings(max_reads=3, max_reads_per_key=2, max_waiting_reads_per_key=15)
    async with api_with_slow_route(tmp_path, engine.url, monkeypatch, settings) as api:
        other = await key(api, "other", Scope.READ)
        await api.store_all([Record(1_767_225_600_000_000_000, "a", Level.INFO, "hello")])
        greedy = [read(api) for _ in range(20)]
        await until_in_engine(api, 2)
        done, _ = await asyncio.wait(greedy, timeout=15, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status_code, refused.json()["error"]["field"]) == (429, "reads_per_key")
        assert int(refused.headers["retry-after"]) >= 1
        answer = await api.client.get("/logs", params={"start_time": "2026-01-01T00:00:00Z"}, headers=other)
        assert [line["message"] for line in answer.json()] == ["hello"]
        assert await in_engine(api) == 2
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)
        await until_in_engine(api, 0)
        assert (await api.get("/logs")).status_code == 200


@pytest.mark.parametrize("path", ["logs", "stats", "search", "histogram", "facets", "fields", "patterns", "query"])
async def test_answers_are_written_in_a_thread_within_the_read(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    names: list[tuple[str, ...]] = []
    written = answer._written

    def seen(*args: Any) -> tuple[bytes, bool]:
        loop = asyncio.run_coroutine_threadsafe(api.get("/api/v1/queries"), running)
        kinds = [query["kind"] for query in loop.result(15).json()["queries"]]
        names.append((threading.current_thread().name, *kinds))
        return written(*args)

    running = asyncio.get_running_loop()
    monkeypatch.setattr(answer, "_written", seen)
    found = await api.get(f"/{path}" if path in ("logs", "stats") else f"/api/v1/{path}")
    assert found.status_code == 200
    ((thread, kind),) = names
    assert kind == path
    assert thread != threading.main_thread().name
