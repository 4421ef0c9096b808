"""Accounts, keys and streams over HTTP."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.accounts_app import PASSWORD, start

from logstream.api.deps import gate_of
from logstream.auth.gate import Gate
from logstream.auth.keys import KEY_LENGTH, make_key
from logstream.errors import Unauthenticated
from logstream.settings import ApiSettings


async def test_sign_up_log_in_and_out(tmp_path: Path) -> None:
    async with start(tmp_path, people=False) as running:
        body = {"email": "Ada@Example.com", "password": PASSWORD}
        answer = await running.call("POST", "/api/v1/signup", json=body)
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        running.credentials["ada"] = answer.json()["token"]
        me = (await running.call("GET", "/api/v1/me", "ada")).json()
        assert me == {
            "kind": "user",
            "id": answer.json()["user"]["id"],
            "name": "ada@example.com",
            "role": "member",
            "scopes": ["ingest", "read"],
            "stream": None,
        }
        assert (await running.call("POST", "/api/v1/signup", json=body)).status_code == 409
        assert (await running.call("POST", "/api/v1/logout", "ada")).status_code == 204
        assert (await running.call("GET", "/api/v1/me", "ada")).status_code == 401
        answer = await running.call("POST", "/api/v1/login", json=body)
        assert answer.status_code == 200
        assert answer.json()["expires_at"] == "2023-11-15T10:13:20Z"


SITE = "https://site.example"


@pytest.mark.parametrize(
    ("listening", "signup", "host", "origin", "allowed"),
    [
        ("127.0.0.1", None, "localhost:8081", None, True),
        ("::1", None, "[::1]:8081", None, True),
        ("localhost", None, "127.0.0.1:8081", "http://localhost:8501", True),
        ("127.8.8.8", None, "127.8.8.8", "http://[::1]:3000", True),
        ("0.0.0.0", None, "localhost:8081", None, False),
        ("::", None, "localhost:8081", None, False),
        ("192.0.2.1", None, "localhost:8081", None, False),
        ("logs.example.com", None, "localhost:8081", None, False),
        ("127.0.0.1", None, "localhost:8081", SITE, False),
        ("127.0.0.1", None, "localhost:8081", "null", False),
        ("127.0.0.1", None, "localhost:8081", "http://[", False),
        ("127.0.0.1", None, "localhost:8081", "http://localhost.site.example", False),
        ("127.0.0.1", None, "rebound.site.example:8081", None, False),
        ("127.0.0.1", None, "", None, False),
        ("127.0.0.1", False, "localhost:8081", None, False),
        ("0.0.0.0", True, "logs.example.com", SITE, True),
    ],
)
async def test_sign_up_is_for_this_machine(
    listening: str, signup: bool | None, host: str, origin: str | None, allowed: bool, tmp_path: Path
) -> None:
    async with start(tmp_path, settings=ApiSettings(host=listening, signup=signup), people=False) as running:
        body = {"email": "ada@example.com", "password": PASSWORD}
        headers = {"Host": host, **({} if origin is None else {"Origin": origin})}
        answer = await running.client.post("/api/v1/signup", json=body, headers=headers)
        assert answer.status_code == (201 if allowed else 403)


async def test_the_throttle_answers_429_with_retry_after(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        body = {"email": "admin@example.com", "password": "wrong password"}
        statuses = [(await running.call("POST", "/api/v1/login", json=body)).status_code for _ in range(6)]
        assert statuses == [401] * 5 + [429]
        answer = await running.call("POST", "/api/v1/login", json=body)
        assert answer.headers["retry-after"] == "1"
        running.clock.advance(1)
        body["password"] = PASSWORD
        assert (await running.call("POST", "/api/v1/login", json=body)).status_code == 200


async def test_password_change_and_reset(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        change = {"current_password": PASSWORD, "new_password": "another one entirely"}
        assert (await running.call("POST", "/api/v1/password", "member", json=change)).status_code == 204
        assert (await running.call("GET", "/api/v1/me", "member")).status_code == 200, "this session goes on"
        short = {"current_password": PASSWORD, "new_password": "short"}
        answer = await running.call("POST", "/api/v1/password", "viewer", json=short)
        assert answer.json()["error"] == {
            "code": "invalid_value",
            "message": "new_password must have at least 10 characters",
            "field": "new_password",
            "limit": 10,
        }
        path = f"/api/v1/users/{running.user_ids['member']}/password"
        made = (await running.call("POST", path, "admin", json={})).json()["password"]
        assert (await running.call("GET", "/api/v1/me", "member")).status_code == 401
        login = {"email": "member@example.com", "password": made}
        assert (await running.call("POST", "/api/v1/login", json=login)).status_code == 200
        given = {"password": "one that the admin chose"}
        assert (await running.call("POST", path, "admin", json=given)).json() == {"password": None}


async def test_users_are_managed(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        made = await running.call("POST", "/api/v1/users", "admin", json={"email": "ada@example.com", "role": "viewer"})
        assert made.status_code == 201
        login = {"email": "ada@example.com", "password": made.json()["password"]}
        assert (await running.call("POST", "/api/v1/login", json=login)).status_code == 200
        path = f"/api/v1/users/{made.json()['user']['id']}"
        assert (await running.call("PATCH", path, "admin", json={"role": "admin"})).json()["role"] == "admin"
        assert (await running.call("PATCH", path, "admin", json={"role": "king"})).status_code == 400
        assert (await running.call("DELETE", path, "admin")).status_code == 204
        assert (await running.call("GET", path, "admin")).status_code == 404
        own = f"/api/v1/users/{running.user_ids['admin']}"
        assert (await running.call("DELETE", own, "admin")).status_code == 409
        assert (await running.call("PATCH", own, "admin", json={"role": "viewer"})).status_code == 409
        listed = (await running.call("GET", "/api/v1/users", "admin")).json()["users"]
        assert [user["role"] for user in listed] == ["admin", "member", "viewer"]
        assert set(listed[0]) == {"id", "email", "role", "created_at"}


async def test_the_life_of_a_key(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        new = {
            "name": "payment",
            "scopes": ["read", "ingest", "read"],
            "expires_at": "2030-01-01T01:00:00+01:00",
            "quota": {"records_per_second": 10},
        }
        made = await running.call("POST", "/api/v1/keys", "member", json=new)
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        key, secret = made.json()["key"], made.json()["secret"]
        assert key == {
            "id": secret.split("_")[1],
            "name": "payment",
            "stream": "default",
            "scopes": ["ingest", "read"],
            "owner_id": running.user_ids["member"],
            "created_at": "2023-11-14T22:13:20Z",
            "expires_at": "2030-01-01T00:00:00Z",
            "revoked_at": None,
            "last_used_at": None,
            "quota": {"records_per_second": 10, "bytes_per_second": None},
        }
        running.gate.authenticate(secret)
        path = f"/api/v1/keys/{key['id']}"
        assert (await running.call("GET", path, "member")).json()["last_used_at"] == "2023-11-14T22:13:20Z"
        assert (await running.call("PATCH", path, "member", json={})).json()["name"] == "payment"
        changed = (await running.call("PATCH", path, "member", json={"expires_at": None, "quota": {}})).json()
        assert (changed["expires_at"], changed["quota"]["records_per_second"]) == (None, None)
        for wrong in ({"name": ""}, {"expires_at": "2020-01-01T00:00:00Z"}, {"quota": {"records_per_second": 0}},
                      {"expires_at": "9999-12-31T23:59:59-23:00"}, {"expires_at": "2030-01-01T00:00:00"},
                      {"scopes": ["admin"]}, {"quota": {"records_per_second": "NaN"}}):  # fmt: skip
            assert (await running.call("PATCH", path, "member", json=wrong)).status_code == 400, wrong
        assert secret not in (await running.call("GET", "/api/v1/keys", "member")).text
        assert (await running.call("DELETE", path, "member")).json()["revoked_at"] is not None
        with pytest.raises(Unauthenticated):
            running.gate.authenticate(secret)
        assert (await running.call("PATCH", path, "member", json={"name": "again"})).status_code == 409
        assert (await running.call("GET", "/api/v1/keys", "member")).json() == {"keys": []}
        listed = (await running.call("GET", "/api/v1/keys?revoked=true", "member")).json()["keys"]
        assert [entry["id"] for entry in listed] == [key["id"]]


async def test_streams_change_while_running(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        assert (await running.call("GET", "/read")).status_code == 401
        body = {"anonymous_reads": True, "retention_days": 7}
        changed = await running.call("PATCH", "/api/v1/streams/default", "admin", json=body)
        assert (changed.json()["anonymous_reads"], changed.json()["retention_days"]) == (True, 7)
        assert (await running.call("GET", "/read")).json() == "anonymous"
        assert (await running.call("GET", "/api/v1/streams/default", "viewer")).json() == changed.json()
        for wrong in (
            {"retention_days": 0},
            {"retention_days": 10**30},
            {"retention": 1},
            {"anonymous_reads": "maybe"},
        ):
            answer = await running.call("PATCH", "/api/v1/streams/default", "admin", json=wrong)
            assert answer.status_code == 400, wrong
        assert (await running.call("PATCH", "/api/v1/streams/nowhere", "admin", json=body)).status_code == 404


async def test_who_may_read(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        for caller, status in (("viewer", 200), ("read key", 200), ("ingest key", 403), ("admin key", 403)):
            assert (await running.call("GET", "/read", caller)).status_code == status, caller
        other = await running.accounts.create_key("other", scopes=["read"], stream="other")
        running.credentials["other"] = other.text
        assert (await running.call("GET", "/read", "other")).status_code == 403
        await running.accounts.update_stream("default", anonymous_reads=True)
        answer = await running.client.get("/read", headers={"Authorization": make_key().text})
        assert answer.status_code == 401, "a credential that is sent is judged"


async def test_a_ticket_opens_one_connection(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        ticket = (await running.call("POST", "/api/v1/tickets", "viewer")).json()
        assert ticket["expires_in_seconds"] == 30
        by_ticket = {"ticket": ticket["ticket"]}
        assert (await running.client.post("/api/v1/tickets", params=by_ticket)).status_code == 401
        assert (await running.client.get("/read", params=by_ticket)).json() == "user"
        assert (await running.client.get("/read", params=by_ticket)).status_code == 401
        again = (await running.call("POST", "/api/v1/tickets", "viewer")).json()
        running.clock.advance(30)
        assert (await running.client.get("/who", params={"ticket": again["ticket"]})).status_code == 401


async def test_two_authorization_headers_are_refused(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        good = running.credentials["admin"] or ""
        answer = await running.client.get("/who", headers=[("Authorization", good), ("Authorization", good)])
        assert answer.status_code == 401


_HOSTILE = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300),
    st.builds("{}{}".format, st.sampled_from(["Bearer ", "bearer\t", "Basic ", "ls_", "lss_", "lst_", ""]), st.text()),
    st.text("ls_0123456789abcdef", min_size=KEY_LENGTH, max_size=KEY_LENGTH),
    st.integers(1, 200_000).map(lambda size: "Bearer ls_" + "a" * size),
)


async def test_hostile_authorization_headers(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        gate: Gate = running.gate

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        @given(_HOSTILE)
        def refused(header: bytes | str) -> None:
            with pytest.raises(Unauthenticated) as caught:
                gate.authenticate(header)
            assert len(caught.value.message) < 200, "never repeats what came in"
            with pytest.raises(Unauthenticated):
                gate.authenticate(None, ticket=header if isinstance(header, str) else header.decode("latin-1"))

        refused()
        for raw in (b"", b"Bearer", b"\xff\xfe", b"Bearer \x00", b"Bearer " + b"ls_" * 5000):
            answer = await running.client.get("/who", headers=[(b"authorization", raw)])
            assert answer.status_code == 401, raw


async def test_openapi_describes_every_route(tmp_path: Path) -> None:
    async with start(tmp_path, people=False) as running:
        document = running.app.openapi()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert operation.get("description"), (method, path)
                assert "503" in operation["responses"], (method, path)
                if path not in {"/api/v1/login", "/api/v1/signup"}:
                    assert operation["security"], (method, path)
                    assert "401" in operation["responses"]
        assert re.search("bearer", str(document["components"]["securitySchemes"]))


def test_the_gate_is_the_applications() -> None:
    app = FastAPI()
    app.state.gate = object()
    from starlette.requests import HTTPConnection

    assert gate_of(HTTPConnection({"type": "websocket", "app": app})) is app.state.gate


async def test_streams_are_made_and_deleted_while_running(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        body = {"name": "payments", "retention_days": 90, "quota": {"records_per_second": 20000}}
        made = await running.call("POST", "/api/v1/streams", "admin", json=body)
        assert made.status_code == 201
        stream = made.json()
        assert (stream["status"], stream["retention_days"], stream["dead_letter_days"]) == ("ready", 90, 30)
        assert stream["quota"] == {"records_per_second": 20000, "bytes_per_second": None}
        assert (await running.call("GET", "/api/v1/streams/payments", "viewer")).json() == stream
        key = {"name": "app", "scopes": ["read"], "stream": "payments"}
        secret = (await running.call("POST", "/api/v1/keys", "admin", json=key)).json()["secret"]
        running.credentials["theirs"] = secret
        assert [s["name"] for s in (await running.call("GET", "/api/v1/streams", "theirs")).json()["streams"]] == [
            "payments"
        ]
        again = await running.call("POST", "/api/v1/streams", "admin", json=body)
        assert (again.status_code, again.json()["error"]["field"]) == (409, "name")
        for change, field in (
            ({"name": "Payments"}, "name"),
            ({"name": "a" * 51}, "name"),
            ({"name": "a", "retention_days": 0}, "retention_days"),
            ({"name": "a", "dead_letter_days": 10_951}, "dead_letter_days"),
            ({"name": "a", "quota": {"bytes_per_second": 0}}, "bytes_per_second"),
        ):
            refused = await running.call("POST", "/api/v1/streams", "admin", json=change)
            assert (refused.status_code, refused.json()["error"]["field"]) == (400, field)
        for query in ("", "?confirm=payment"):
            refused = await running.call("DELETE", f"/api/v1/streams/payments{query}", "admin")
            assert (refused.status_code, refused.json()["error"]["field"]) == (400, "confirm")
        gone = await running.call("DELETE", "/api/v1/streams/payments?confirm=payments", "admin")
        assert (gone.status_code, gone.json()["status"]) == (202, "deleting")
        assert (await running.call("GET", "/api/v1/streams", "theirs")).status_code == 401
        for method in ("GET", "PATCH", "DELETE"):
            arguments = {"json": {"retention_days": 1}} if method == "PATCH" else {}
            answer = await running.call(method, "/api/v1/streams/payments?confirm=payments", "admin", **arguments)
            assert answer.status_code == 404
        kept = await running.call("DELETE", "/api/v1/streams/default?confirm=default", "admin")
        assert kept.status_code == 409
