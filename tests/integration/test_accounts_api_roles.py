"""Every caller × every route of accounts, keys, users and streams, over HTTP, against the one table of rights."""

from pathlib import Path
from typing import Any

import pytest
from tests.integration.accounts_app import PASSWORD, Running, start

from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import Action, may
from logstream.clock import NS_PER_SECOND

ANYBODY = "anybody"
CALLER = "any caller with a credential"
KEYS = "OWN_KEYS or ALL_KEYS"

# Route → right, and a body with which it succeeds; in an order in which each leaves what the next ones need.
ROUTES: dict[tuple[str, str], tuple[Action | str, dict[str, Any] | None]] = {
    ("POST", "/api/v1/signup"): (ANYBODY, {"email": "signed.up@example.com", "password": PASSWORD}),
    ("POST", "/api/v1/login"): (ANYBODY, {"email": "viewer@example.com", "password": PASSWORD}),
    ("GET", "/api/v1/me"): (CALLER, None),
    ("POST", "/api/v1/tickets"): (Action.READ_LOGS, None),
    ("GET", "/api/v1/streams"): (Action.SEE_STREAMS, None),
    ("GET", "/api/v1/streams/{name}"): (Action.SEE_STREAMS, None),
    ("PATCH", "/api/v1/streams/{name}"): (Action.CHANGE_STREAMS, {"anonymous_reads": True}),
    ("POST", "/api/v1/streams"): (Action.MAKE_STREAMS, {"name": "made"}),
    ("DELETE", "/api/v1/streams/{name}"): (Action.MAKE_STREAMS, None),
    ("GET", "/api/v1/keys"): (KEYS, None),
    ("POST", "/api/v1/keys"): (KEYS, {"name": "new", "scopes": ["ingest"]}),
    ("GET", "/api/v1/keys/{key_id}"): (KEYS, None),
    ("PATCH", "/api/v1/keys/{key_id}"): (KEYS, {"name": "renamed"}),
    ("DELETE", "/api/v1/keys/{key_id}"): (KEYS, None),
    ("GET", "/api/v1/users"): (Action.USERS, None),
    ("POST", "/api/v1/users"): (Action.USERS, {"email": "made@example.com"}),
    ("GET", "/api/v1/users/{user_id}"): (Action.USERS, None),
    ("POST", "/api/v1/users/{user_id}/password"): (Action.USERS, {}),
    ("PATCH", "/api/v1/users/{user_id}"): (Action.USERS, {"role": "member"}),
    ("DELETE", "/api/v1/users/{user_id}"): (Action.USERS, None),
    ("POST", "/api/v1/password"): (
        Action.OWN_ACCOUNT,
        {"current_password": PASSWORD, "new_password": "another one entirely"},
    ),
    ("POST", "/api/v1/logout"): (Action.OWN_ACCOUNT, None),
}
CALLERS = ("anonymous", "admin", "member", "viewer", "ingest key", "read key", "admin key", "platform key")


async def attempt(running: Running, method: str, path: str, caller: str, target: dict[str, str]) -> int:
    body = ROUTES[method, path][1]
    arguments: dict[str, Any] = {} if body is None else {"json": body}
    if (method, path) == ("DELETE", "/api/v1/streams/{name}"):
        target, arguments = {"name": "made"}, {"params": {"confirm": "made"}}
    return (await running.call(method, path.format(**target), caller, **arguments)).status_code


async def test_no_route_is_forgotten(tmp_path: Path) -> None:
    async with start(tmp_path, people=False) as running:
        paths = running.app.openapi()["paths"]
        found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
        assert found == set(ROUTES)


@pytest.mark.parametrize("caller", CALLERS)
async def test_the_matrix(caller: str, tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        credential = running.credentials[caller]
        principal = running.gate.authenticate(credential) if credential is not None else None
        # The key at stake is the caller's own where they are a person.
        owner_id = running.user_ids.get(caller)
        key = await running.accounts.create_key("a key", scopes=[Scope.READ], owner_id=owner_id)
        target = {"user_id": running.user_ids["viewer"], "key_id": key.key.id, "name": "default"}
        for (method, path), (right, _) in ROUTES.items():
            status = await attempt(running, method, path, caller, target)
            if right == ANYBODY or (right == CALLER and principal is not None):
                assert status < 300, (method, path, status)
            elif principal is None:
                assert status == 401, (method, path, status)
            elif is_allowed(principal, right):
                assert status < 300, (method, path, status)
            else:
                assert status == 403, (method, path, status)


def is_allowed(principal: Principal, right: Action | str) -> bool:
    if right == KEYS:
        return may(principal, Action.OWN_KEYS) or may(principal, Action.ALL_KEYS)
    assert isinstance(right, Action)
    return may(principal, right)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("caller", "status"), [("admin", 200), ("platform key", 200), ("member", 404), ("admin key", 404), ("viewer", 403)]
)
async def test_keys_of_others(caller: str, method: str, status: int, tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        key = await running.accounts.create_key("theirs", scopes=[Scope.READ], stream=None)
        path = "/api/v1/keys/{key_id}"
        assert await attempt(running, method, path, caller, {"key_id": key.key.id}) == status
        assert ((await running.accounts.keys.get(key.key.id)).revoked_at is not None) == (
            method == "DELETE" and status == 200
        )


@pytest.mark.parametrize(
    ("caller", "change", "status"),
    [
        ("member", {}, 201),
        ("member", {"scopes": ["ingest", "read"]}, 201),
        ("member", {"scopes": ["admin"]}, 403),
        ("member", {"stream": None}, 403),
        ("member", {"stream": "other"}, 201),
        ("member", {"stream": "nowhere"}, 404),
        ("member", {"shared": True}, 403),
        ("admin", {"scopes": ["admin"], "stream": None, "shared": True}, 201),
        ("admin key", {"scopes": ["admin"]}, 201),
        ("admin key", {"stream": "other"}, 403),
        ("admin key", {"stream": None}, 403),
        ("platform key", {"stream": None}, 201),
        ("platform key", {"stream": "other"}, 201),
    ],
)
async def test_nobody_makes_a_key_that_can_more(
    caller: str, change: dict[str, Any], status: int, tmp_path: Path
) -> None:
    async with start(tmp_path) as running:
        body = {"name": "new", "scopes": ["ingest"], **change}
        answer = await running.call("POST", "/api/v1/keys", caller, json=body)
        assert answer.status_code == status, answer.text
        if status == 201:
            made = running.gate.authenticate(answer.json()["secret"])
            assert made.scopes == set(body["scopes"])
            owner = answer.json()["key"]["owner_id"]
            assert owner == (None if change.get("shared") else running.user_ids.get(caller))


async def test_the_admin_of_a_stream_does_not_lift_its_quota(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        body = {"quota": {"records_per_second": None}}
        for caller, status in (("admin key", 403), ("platform key", 200), ("admin", 200), ("member", 403)):
            assert (await running.call("PATCH", "/api/v1/streams/default", caller, json=body)).status_code == status


async def test_a_key_sees_its_own_stream_only(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        answer = await running.call("GET", "/api/v1/streams", "read key")
        assert [stream["name"] for stream in answer.json()["streams"]] == ["default"]
        assert (await running.call("GET", "/api/v1/streams/other", "read key")).status_code == 403
        assert (await running.call("PATCH", "/api/v1/streams/other", "admin key", json={})).status_code == 403
        answer = await running.call("GET", "/api/v1/streams", "viewer")
        assert [stream["name"] for stream in answer.json()["streams"]] == ["default", "other"]
        other = await running.accounts.create_key("other", scopes=[Scope.READ], stream="other")
        listed = (await running.call("GET", "/api/v1/keys", "admin key")).json()["keys"]
        assert other.key.id not in {key["id"] for key in listed}
        assert {key["stream"] for key in listed} == {"default"}


async def test_revoked_and_expired_keys_are_refused_everywhere(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        soon = running.clock.now_ns() + NS_PER_SECOND
        expiring = await running.accounts.create_key("x", scopes=[Scope.ADMIN], stream=None, expires_at=soon)
        revoked = await running.accounts.create_key("x", scopes=[Scope.ADMIN], stream=None)
        running.credentials |= {"expired": expiring.text, "revoked": revoked.text}
        for name in ("expired", "revoked"):
            assert (await running.call("GET", "/api/v1/users", name)).status_code == 200
        running.clock.advance(1)
        assert (await running.call("DELETE", f"/api/v1/keys/{revoked.key.id}", "admin")).status_code == 200
        for method, path in ROUTES:
            if ROUTES[method, path][0] == ANYBODY:
                continue
            for name in ("expired", "revoked"):
                target = {"user_id": "x", "key_id": "x", "name": "default"}
                assert await attempt(running, method, path, name, target) == 401, (method, path)
