"""Reads over HTTP as people ask them, with bound parameters: their progress is seen, and they end in the engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess
from tests.support.reads import until_queries

from logstream.query.time import format_time

pytestmark = pytest.mark.engine

BASE = 1_700_000_040 * 10**9
# Whole minutes: one that the range cuts would be counted from lines, besides.
RANGE = {"start_time": format_time(BASE), "end_time": format_time(BASE + 3_600 * 10**9 - 1)}
ENDLESS = 100_000_000_000


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        yield running


async def make_endless(api: Api) -> None:
    """A view of so many lines in the place of the table: a read of it ends only when somebody ends it."""
    table = f"{api.stream.database}.logs"
    columns = await api.store.query(f"SELECT name, type FROM system.columns WHERE database || '.' || table = '{table}'")
    values = {
        "timestamp": f"fromUnixTimestamp64Nano({BASE} + toInt64(sipHash64(number) % 3600000000000), 'UTC')",
        "service": "'payment'",
        "level": "'info'",
        "message": "concat('charge ', toString(number), ' timed out')",
        "metadata": "map('latency_ms', toString(number % 1000))",
    }
    made = ", ".join(
        f"CAST({values.get(name, f'defaultValueOfTypeName({kind!r})')}, {kind!r}) AS {name}"
        for name, kind in ((name, kind.replace("'", '"')) for name, kind in columns.rows)
    ).replace('"', "\\'")
    await api.store.command(f"DROP TABLE {table}")
    await api.store.command(f"CREATE VIEW {table} AS SELECT {made} FROM numbers({ENDLESS})")


async def until_read(api: Api) -> dict[str, Any]:
    """The one read that runs, when its rows are known."""
    async with asyncio.timeout(15):
        while True:
            [found] = await until_queries(api, 1)
            if found["rows_read"]:
                return found


async def until_idle(api: Api) -> None:
    """Wait until the engine runs nothing that reads the stream, whether it bears a tag or not."""
    async with asyncio.timeout(15):
        while True:
            rows = await api.store.query(
                f"SELECT count() FROM system.processes WHERE position(query, '{api.stream.database}.' || 'logs') > 0"
            )
            if not rows.rows[0][0]:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("query", {"query": "service:payment latency_ms>250 -debug | stats count() by level"}),
        ("query", {"query": "service:payment | timechart 1m count() by level"}),
        ("query", {"query": "timed /[02468] timed/ | patterns"}),
        ("histogram", {"service": "payment", "by": "service"}),
        ("facets", {"query": "timed -debug"}),
        ("search", {"query": "debug latency_ms>250"}),
    ],
)
async def test_a_read_is_seen_and_cancelled(api: Api, path: str, asked: dict[str, str]) -> None:
    await make_endless(api)
    headers = api.headers | {"X-Query-Id": "panel-1"}
    task = asyncio.create_task(api.client.get(f"/api/v1/{path}", params=RANGE | asked, headers=headers))
    found = await until_read(api)
    assert (found["id"], found["kind"], found["rows_total"]) == ("panel-1", path, ENDLESS)
    assert 0 <= found["percent"] < 100
    assert found["bytes_read"] == found["rows_read"] * 8
    assert (await api.client.delete("/api/v1/queries/panel-1", headers=api.headers)).status_code == 204
    answer = await task
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cancelled")
    await until_idle(api)


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
async def test_an_export_is_seen_and_cancelled(api: Api, name: str) -> None:
    await make_endless(api)
    options = {
        "params": RANGE | {"query": "service:payment latency_ms>250", "format": name},
        "headers": api.headers | {"X-Query-Id": "file-1", "Accept-Encoding": "identity"},
    }
    async with api.client.stream("GET", "/api/v1/export", **options) as answer:
        assert answer.status_code == 200
        found = await until_read(api)
        assert (found["id"], found["kind"], found["rows_total"]) == ("file-1", "export", ENDLESS)
        assert (await api.client.delete("/api/v1/queries/file-1", headers=api.headers)).status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    await until_idle(api)
