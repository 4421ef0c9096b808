"""No secret in the database's files or in the logs; and what the database's absence changes."""

import io
import logging
import os
import stat
from pathlib import Path

import pytest
from tests.integration.accounts_app import PASSWORD, start

from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.keys import make_key
from logstream.auth.principal import Scope
from logstream.errors import StartupError, Unauthenticated, Unavailable
from logstream.settings import AuthSettings


async def test_no_secret_is_stored_or_logged(tmp_path: Path) -> None:
    captured = io.StringIO()
    handler = logging.StreamHandler(captured)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with start(tmp_path) as running:
            new = {"name": "payment", "scopes": ["ingest"]}
            key = (await running.call("POST", "/api/v1/keys", "admin", json=new)).json()["secret"]
            ticket = (await running.call("POST", "/api/v1/tickets", "admin")).json()["ticket"]
            running.gate.authenticate(key)
            await running.gate.flush_last_use()
            made = (await running.call("POST", "/api/v1/users", "admin", json={"email": "x@example.com"})).json()
            await running.call("POST", "/api/v1/login", json={"email": "admin@example.com", "password": "wrong secret"})
            await running.client.get("/who", headers={"Authorization": make_key().text})
            whole = [
                PASSWORD,
                "wrong secret",
                made["password"],
                ticket,
                *filter(None, running.credentials.values()),
                key,
            ]
            # The random part alone must not be there either.
            secrets = whole + [part for text in whole for part in text.split("_") if len(part) == 43]
            assert len(secrets) > 15
            stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            assert b"payment" in stored, "the files are the right ones"
            for secret in secrets:
                assert secret.encode() not in stored
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert not [secret for secret in secrets if secret in captured.getvalue()]


async def test_only_the_owner_reads_the_database(tmp_path: Path) -> None:
    async with start(tmp_path / "made" / "on the way") as running:
        for path in running.database.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_while_the_database_is_away_what_is_known_goes_on(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        gate, accounts = running.gate, running.accounts
        known = running.credentials["read key"] or ""
        revoked = await accounts.create_key("revoked", scopes=[Scope.READ])
        await accounts.keys.revoke(revoked.key.id)
        with pytest.raises(Unauthenticated):
            gate.authenticate(make_key().text)

        # Away: no connection is left, and none can be made.
        await accounts.database._engine.dispose()
        hidden = running.database.with_suffix(".hidden")
        os.rename(running.database, hidden)
        running.database.mkdir()
        await gate.refresh()

        assert gate.away
        assert gate.authenticate(known).name == "read key"
        assert gate.authenticate(running.credentials["viewer"]).role == "viewer"
        assert gate.stream("default").retention_days == 30
        for unknown in (make_key().text, "lss_" + "0" * 43):
            with pytest.raises(Unavailable if unknown.startswith("ls_") else Unauthenticated):
                gate.authenticate(unknown)
        with pytest.raises(Unauthenticated, match="revoked"):
            gate.authenticate(revoked.text)
        answer = await running.client.get("/who", headers={"Authorization": make_key().text})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        login = {"email": "admin@example.com", "password": PASSWORD}
        for _ in range(8):
            assert (await running.call("POST", "/api/v1/login", json=login)).status_code == 503, "and never throttled"
        used = gate.last_used(running.credentials["read key"].split("_")[1])  # type: ignore[union-attr]
        await gate.flush_last_use()
        assert used is not None

        running.database.rmdir()
        os.rename(hidden, running.database)
        await gate.refresh()
        assert not gate.away
        with pytest.raises(Unauthenticated):
            gate.authenticate(make_key().text)
        assert (await running.call("POST", "/api/v1/login", json=login)).status_code == 200
        await gate.flush_last_use()
        key_id = known.split("_")[1]
        assert (await accounts.keys.get(key_id)).last_used_at == used, "kept until it could be written"


async def test_before_the_first_snapshot_everything_waits(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        gate = Gate(running.accounts)
        with pytest.raises(Unavailable):
            gate.authenticate(running.credentials["admin"])
        with pytest.raises(Unavailable):
            gate.stream("default")
        await gate.refresh()
        gate.authenticate(running.credentials["admin"])


async def test_an_older_copy_of_the_database_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    async with start(tmp_path) as running:
        before = running.credentials["read key"]
        async with running.accounts.database.note() as connection:
            await connection.exec_driver_sql("UPDATE auth_state SET revision = revision - 1")
            await connection.exec_driver_sql("DELETE FROM api_keys WHERE name = 'read key'")
        running.gate.authenticate(before)
        await running.gate.refresh()
        with pytest.raises(Unauthenticated):
            running.gate.authenticate(before)


async def test_closed_is_unavailable(tmp_path: Path) -> None:
    accounts = await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{tmp_path}/auth.db"))
    await accounts.close()
    await accounts.close()
    with pytest.raises(Unavailable):
        await accounts.keys.list()


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite:////proc/nowhere/auth.db"])
async def test_a_bad_place_ends_in_one_sentence(url: str) -> None:
    with pytest.raises(StartupError, match="accounts database"):
        await Accounts.open(AuthSettings(url=url))


async def test_no_database_and_a_newer_one(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    path.write_bytes(b"this is not a database, but long enough to be looked at" * 100)
    with pytest.raises(StartupError, match="cannot be opened"):
        await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{path}"))
    path.unlink()
    accounts = await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{path}"))
    async with accounts.database.note() as connection:
        await connection.exec_driver_sql("UPDATE auth_state SET version = 99")
    await accounts.close()
    with pytest.raises(StartupError, match="newer"):
        await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{path}"))
