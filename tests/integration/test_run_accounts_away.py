"""A collector whose Postgres goes away and comes back: ready as long as known keys count, and it says what is away."""

import asyncio
from pathlib import Path

from tests.integration.test_run_processes import post
from tests.support.postgres import Postgres
from tests.support.run import Service, services
from tests.support.up import eventually

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.auth.roles import Role
from logstream.settings import AuthSettings
from logstream.stream import make_stream


async def key_of(url: str) -> str:
    accounts = await Accounts.open(AuthSettings(url=url))
    try:
        await accounts.ensure_stream(make_stream("default"))
        admin = await accounts.users.create("ann@example.com", "a long enough one", role=Role.ADMIN)
        return (await accounts.create_key("k", scopes=(Scope.INGEST,), owner_id=admin.id)).text
    finally:
        await accounts.close()


async def test_known_keys_count_and_what_is_away_is_told(own_postgres: Postgres, tmp_path: Path) -> None:
    url = own_postgres.url()
    key = await key_of(url)
    environ = {
        "LOGSTREAM_RUN_BUS": "sqlite",
        "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
        "LOGSTREAM_BUS_PATH": str(tmp_path / "bus"),
        "LOGSTREAM_AUTH_URL": url,
        "LOGSTREAM_AUTH_STALE_SECONDS": "20",
    }
    with services() as started:
        collector = Service("collector", tmp_path, environ)
        started.append(collector)
        collector.ready()
        assert post(collector.port(), key)[0] == 202
        await asyncio.to_thread(own_postgres.kill)
        eventually(lambda: "accounts database is away" in str(collector.get("/readyz")[1]), "it says what is away")
        status, body = collector.get("/readyz")
        assert (status, body["status"], body["checks"]["log"]) == (200, "degraded", "ok")
        assert post(collector.port(), key)[0] == 202
        # Until what is known is too old.
        eventually(lambda: collector.get("/readyz")[0] == 503, "it is not ready any more")
        assert "more than 20 s" in collector.get("/readyz")[1]["checks"]["accounts"]
        await asyncio.to_thread(own_postgres.start)
        collector.ready()
        eventually(lambda: collector.get("/readyz")[1]["checks"] == {"log": "ok", "accounts": "ok"}, "all is well")
        assert post(collector.port(), key)[0] == 202
        assert collector.stop() == 0


async def test_a_collector_that_starts_before_its_database_waits_for_it(own_postgres: Postgres, tmp_path: Path) -> None:
    url = own_postgres.url()
    key = await key_of(url)
    await asyncio.to_thread(own_postgres.stop)
    environ = {
        "LOGSTREAM_RUN_BUS": "sqlite",
        "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
        "LOGSTREAM_BUS_PATH": str(tmp_path / "bus"),
        "LOGSTREAM_AUTH_URL": url,
    }
    with services() as started:
        collector = Service("collector", tmp_path, environ)
        started.append(collector)
        eventually(lambda: "cannot be opened" in str(collector.get("/readyz")[1]), "it says what it waits for")
        assert collector.get("/livez")[0] == 200
        await asyncio.to_thread(own_postgres.start)
        collector.ready()
        assert post(collector.port(), key)[0] == 202
        assert collector.stop() == 0
