"""Saved views over HTTP: what comes back, who may do what, and that nobody overwrites unseen."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.accounts_app import Running, start

from logstream.api import errors, saved
from logstream.auth.principal import Scope
from logstream.stream import make_stream

VIEWS = "/api/v1/saved"
QUERY = 'service:payment level>=warn "card declined"'


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with start(tmp_path) as running:
        running.app.include_router(saved.create_router(running.accounts, running.gate))
        errors.install(running.app)
        mine = await running.accounts.create_key(
            "mine", scopes=[Scope.READ], owner_id=running.user_ids["member"], stream="default"
        )
        running.credentials["member's key"] = mine.text
        running.credentials["other key"] = (
            await running.accounts.create_key("o", scopes=[Scope.READ, Scope.ADMIN], stream="other")
        ).text
        yield running


async def save(running: Running, caller: str, name: str, **content: Any) -> dict[str, Any]:
    answer = await running.call("POST", VIEWS, caller, json={"name": name, **content})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(running: Running, caller: str, **params: Any) -> list[str]:
    answer = await running.call("GET", VIEWS, caller, params=params)
    assert answer.status_code == 200, answer.text
    return [view["name"] for view in answer.json()["views"]]


async def test_a_view_is_saved_read_changed_and_deleted(running: Running) -> None:
    body = {
        "name": "declined", "stream": "default", "query": QUERY, "since": "24h", "start_time": None, "end_time": None,
        "columns": ["timestamp", "user_id"], "description": "two\nlines", "shared": False,
    }  # fmt: skip
    made = await save(running, "viewer", **body)
    assert {name: made[name] for name in body} == body
    assert (made["owner"], made["mine"], made["has_pipes"]) == ("viewer@example.com", True, False)
    place = f"{VIEWS}/{made['id']}"
    answer = await running.call("GET", place, "viewer")
    assert answer.json() == made
    changed = await running.call(
        "PUT", place, "viewer", json={"name": "counted", "query": "error | stats count() by service",
                                                    "start_time": "2026-01-31T12:00:00.5+01:00"},
    )  # fmt: skip
    assert changed.status_code == 200, changed.text
    found = changed.json()
    assert (found["name"], found["has_pipes"], found["since"], found["columns"]) == ("counted", True, None, [])
    assert (found["start_time"], found["end_time"]) == ("2026-01-31T11:00:00.500Z", None)
    assert (await running.call("DELETE", place, "viewer")).status_code == 204
    assert (await running.call("GET", place, "viewer")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": "level:warn ("}, 400, {"code": "query_syntax", "field": "query", "column": 13}),
        ({"query": "| nonsense"}, 400, {"code": "query_syntax", "column": 3}),
        ({"query": "q" * 4_097}, 400, {"field": "query", "limit": 4_096}),
        ({"name": "n" * 101}, 400, {"field": "name", "limit": 100}),
        ({"columns": ["c"] * 51}, 400, {"field": "columns", "limit": 50}),
        ({"columns": "c"}, 400, {"field": "columns"}),
        ({"since": "yesterday"}, 400, {"field": "since"}),
        ({"start_time": "yesterday"}, 400, {"field": "start_time"}),
        ({"end_time": "9999-01-01T00:00:00Z"}, 400, {"field": "end_time"}),
        ({"stream": "nowhere"}, 404, {"field": "stream"}),
        ({"name": "there"}, 409, {"field": "name"}),
        ({"unknown": 1}, 400, {"field": "unknown"}),
    ],
)
async def test_what_is_wrong_is_named(running: Running, body: dict[str, Any], status: int, said: dict[str, Any]):
    await save(running, "member", "there")
    answer = await running.call("POST", VIEWS, "member", json={"name": "n", **body})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert {name: error.get(name) for name in said} == said
    assert await listed(running, "member") == ["there"]


async def test_who_sees_what(running: Running) -> None:
    hers = await save(running, "member", "a private")
    shared = await save(running, "member", "b shared", shared=True)
    elsewhere = await save(running, "member", "c other", shared=True, stream="other")
    seen = {
        "member": ["a private", "b shared", "c other"],
        "member's key": ["a private", "b shared"],
        "viewer": ["b shared", "c other"],
        "admin": ["b shared", "c other"],
        "read key": ["b shared"],
        "other key": ["c other"],
    }
    for caller, names in seen.items():
        assert await listed(running, caller) == names, caller
        for view in (hers, shared, elsewhere):
            status = (await running.call("GET", f"{VIEWS}/{view['id']}", caller)).status_code
            assert status == (200 if view["name"] in names else 404), (caller, view["name"])
    assert await listed(running, "member", stream="other") == ["c other"]
    assert await listed(running, "member", name="b shared") == ["b shared"]
    assert (await running.call("GET", VIEWS, "ingest key")).status_code == 403
    assert (await running.call("GET", VIEWS, "read key", params={"stream": "other"})).status_code == 403
    assert (await running.call("GET", VIEWS)).status_code == 401
    await running.accounts.update_stream("default", anonymous_reads=True)
    assert await listed(running, "anonymous") == ["b shared"]
    (view,) = (await running.call("GET", VIEWS)).json()["views"]
    assert (view["owner"], view["mine"]) == (None, False)
    assert (await running.call("GET", f"{VIEWS}/{hers['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("caller", "private", "shared"),
    [
        ("member", 200, 200),
        ("admin", 404, 200),
        ("admin key", 404, 200),
        ("platform key", 404, 200),
        ("other key", 404, 404),
        ("viewer", 404, 403),
        ("read key", 403, 403),
        ("member's key", 403, 403),
        ("anonymous", 401, 401),
    ],
)
async def test_who_changes_what(running: Running, caller: str, private: int, shared: int) -> None:
    for is_shared, expected in ((False, private), (True, shared)):
        name = "shared" if is_shared else "private"
        view = await save(running, "member", name, shared=is_shared)
        place, body = f"{VIEWS}/{view['id']}", {"name": f"{name} 2", "shared": is_shared}
        answer = await running.call("PUT", place, caller, json=body)
        assert answer.status_code == expected, answer.text
        answer = await running.call("DELETE", place, caller)
        assert answer.status_code == (204 if expected == 200 else expected)
        left = await running.call("GET", place, "member")
        assert left.status_code == (404 if expected == 200 else 200)
        if expected != 200:
            assert left.json() == view


async def test_only_people_save_and_only_owners_unshare(running: Running) -> None:
    for caller in ("read key", "admin key", "platform key", "member's key"):
        assert (await running.call("POST", VIEWS, caller, json={"name": "n"})).status_code == 403
    place = f"{VIEWS}/{(await save(running, 'member', 'shared', shared=True))['id']}"
    answer = await running.call("PUT", place, "admin", json={"name": "shared"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (403, "shared")
    moved = {"name": "shared", "shared": True, "stream": "other"}
    assert (await running.call("PUT", place, "admin key", json=moved)).status_code == 403
    assert (await running.call("PUT", place, "member", json={"name": "shared"})).status_code == 200
    assert (await running.call("GET", place, "admin")).status_code == 404


async def test_nobody_overwrites_what_they_have_not_seen(running: Running) -> None:
    made = await running.call("POST", VIEWS, "member", json={"name": "n", "shared": True})
    place, first = f"{VIEWS}/{made.json()['id']}", made.headers["ETag"]
    assert (await running.call("GET", place, "admin")).headers["ETag"] == first

    async def put(caller: str, name: str, tag: str) -> Any:
        return await running.client.put(
            place,
            json={"name": name, "shared": True},
            headers={"If-Match": tag, "Authorization": f"Bearer {running.credentials[caller]}"},
        )

    changed = await put("admin", "by the admin", first)
    assert changed.status_code == 200
    late = await put("member", "by the member", first)
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert (await put("member", "x", "nonsense")).status_code == 400
    assert (await put("member", "by the member", changed.headers["ETag"])).json()["name"] == "by the member"
    assert (await put("member", "by anybody", "*")).status_code == 200


async def test_long_lists_come_in_pages(running: Running) -> None:
    names = [f"view {i}" for i in range(5)]
    for name in names:
        await save(running, "member", name)
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await running.call("GET", VIEWS, "member", params=params)).json()
        seen += [view["name"] for view in page["views"]]
        if page["next"] is None:
            break
        assert len(page["views"]) == 2
        params["cursor"] = page["next"]
    assert seen == names
    for forged in ("x", "WzEsMl0=", "bnVsbA==", "größe", "W1tbW1s="):
        answer = await running.call("GET", VIEWS, "member", params={"cursor": forged})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "cursor"), forged


async def test_views_of_a_stream_made_later(running: Running) -> None:
    assert (await running.call("POST", VIEWS, "member", json={"name": "n", "stream": "late"})).status_code == 404
    await running.accounts.ensure_stream(make_stream("late"))
    await save(running, "member", "n", stream="late")
