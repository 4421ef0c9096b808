"""An API with one more route, `/slow`, whose statement runs until it is stopped; and what runs in the engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from logstream.api import server
from logstream.api.parameters import Reader
from logstream.api.services import Services, services_of
from logstream.auth.accounts import Accounts
from logstream.settings import ApiSettings
from tests.support.api import Api, running_api

_SLOW = "SELECT sum(sleepEachRow(0.02)) FROM numbers(3000) SETTINGS max_block_size = 1"


@asynccontextmanager
async def api_with_slow_route(
    path: Path, engine_url: str, monkeypatch: pytest.MonkeyPatch, settings: ApiSettings | None = None
) -> AsyncIterator[Api]:
    """`sql=` of the route replaces its statement."""
    create = server.create_app

    def with_slow_route(services: Services, accounts: Accounts) -> FastAPI:
        app = create(services, accounts)

        @app.get("/slow")
        async def slow(request: Request, reading: Reader, sql: str = _SLOW) -> int:
            services = services_of(request)

            async def read() -> int:
                rows = await services.store.query(sql, settings=services.limits.settings)
                return int(rows.rows[0][0])

            return await services.reads.run(request, reading.principal, "slow", read)

        return app

    monkeypatch.setattr(server, "create_app", with_slow_route)
    async with running_api(path, engine_url, settings=settings) as api:
        yield api


async def in_engine(api: Api, words: str = "sleepEachRow") -> int:
    """How many statements with `words` the engine runs."""
    rows = await api.store.query(
        "SELECT count() FROM system.processes WHERE query LIKE {words:String} AND query NOT LIKE '%system.processes%'",
        {"words": f"%{words}%"},
    )
    return int(rows.rows[0][0])


async def until_in_engine(api: Api, count: int, words: str = "sleepEachRow") -> None:
    """Wait until the engine runs this many of them."""
    async with asyncio.timeout(15):
        while await in_engine(api, words) != count:
            await asyncio.sleep(0.02)


async def until_queries(api: Api, count: int, **params: Any) -> list[dict[str, Any]]:
    """Wait until `/api/v1/queries` lists this many reads that run."""
    async with asyncio.timeout(15):
        while True:
            answer = await api.get("/api/v1/queries", **params)
            found = [query for query in answer.json()["queries"] if query["state"] == "running"]
            if len(found) == count:
                return found
            await asyncio.sleep(0.02)
