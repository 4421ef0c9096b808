"""Every read with parameters that are wrong in every way: an answer or a refusal that says why, and nothing is left."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query.language.parser import MAX_CHARACTERS
from logstream.query.time import format_time
from logstream.record import Record

pytestmark = pytest.mark.engine

BASE = 1_700_000_040 * 10**9
ASKED = {"start_time": format_time(BASE), "end_time": format_time(BASE + 3600 * 10**9)}
READS = [
    "/logs", "/stats", "/api/v1/search", "/api/v1/histogram", "/api/v1/facets", "/api/v1/fields", "/api/v1/patterns",
    "/api/v1/query", "/api/v1/explain", "/api/v1/export", "/api/v1/context",
]  # fmt: skip
OTHERS = ["/api/v1/queries", "/api/v1/ledger", "/api/v1/deadletters", "/api/v1/saved", "/api/v1/streams"]

TIMES = ["9999-12-31T23:59:59Z", "0000-00-00", "NaN", "Infinity", "-Infinity", "-1", "1e400", "9" * 64, "1" * 65,
         "-9223372036854775809", "2023-02-30", "٣"]  # fmt: skip
NUMBERS = ["-1", "1000000000", "1e9", "NaN", "Infinity", "9" * 400, "0x10", "5.5", "null", "٣", "[]"]
TEXTS = ["\0", "{x:String}", "' OR 1=1 --", "=", ",", "," * 2_000, ",".join(f"f{i}" for i in range(1_000)),
         "x" * 20_000, "🙂" * 600, "\ufeff", "|", "*", "-", "true"]  # fmt: skip
QUERIES = [
    "(" * MAX_CHARACTERS, ")" * MAX_CHARACTERS, "(" * 2_000 + "a" + ")" * 2_000, "-" * MAX_CHARACTERS,
    "!" * 4_000 + "a", "*" * 500, "/(a{1000}){1000}/", "/(.*a){20}/", "/((a*)*)*b/", "/(" + "a*" * 400 + ")*b/",
    "/(?i)" + "x?" * 400 + "/", '"' * 999, "a:" * 2_000, "[" * 4_000, "a |" * 1_000, "NOT " * 1_000 + "a",
    "\\" * 4_095, "timestamp>9999-12-31", "timestamp:[* TO *]", "k>1e999", "_exists:" + "x" * 4_000, " OR " * 1_000,
]  # fmt: skip
WRONG = {
    "start_time": TIMES, "end_time": TIMES, "limit": [*NUMBERS, "0"], "before": NUMBERS, "after": NUMBERS,
    "timeout": NUMBERS, "cursor": TEXTS, "id": TEXTS, "by": TEXTS, "fields": TEXTS, "step": [*TEXTS, *NUMBERS],
    "query": [*QUERIES, *TEXTS], "search": TEXTS, "service": TEXTS, "level": TEXTS, "stream": TEXTS, "format": TEXTS,
    "order": TEXTS, "all": TEXTS, "nonsense": TEXTS[:2],
}  # fmt: skip
SHARED = {"start_time", "end_time", "query", "search", "service", "level", "stream", "timeout", "limit"}
BYTES = ["%00", "%ED%A0%80", "%FF%FE", "%C0%80", "%", "%zz", "a%"]
"""Lone surrogates and what else is no UTF-8, percent-encoded or nearly."""


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        await running.store_all([Record(BASE + i, "web", 3, f"line {i}", {"a=b": "c", "": "x"}) for i in range(50)])
        yield running


async def left(api: Api) -> tuple[int, int]:
    """Reads that the API counts, statements on the stream that the engine runs."""
    rows = await api.store.query(
        "SELECT count() FROM system.processes WHERE position(query, {name:String}) > 0"
        " AND query NOT LIKE '%system.processes%'",
        {"name": f"{api.stream.database}.logs"},
    )
    return len((await api.get("/api/v1/queries")).json()["queries"]), int(rows.rows[0][0])


async def until_nothing_runs(api: Api) -> None:
    async with asyncio.timeout(15):
        while await left(api) != (0, 0):
            await asyncio.sleep(0.02)


def check(answer: httpx.Response, told: object) -> None:
    assert answer.status_code in {200, 400, 403, 404, 413, 422}, (told, answer.status_code, answer.text[:500])
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["code"] != "internal"
        assert 0 < len(error["message"]) < 1_000, told


@pytest.mark.parametrize("path", READS + OTHERS)
async def test_wrong_parameters_are_answered_or_refused(api: Api, path: str) -> None:
    usual = dict(ASKED) if path in READS else {}
    if path == "/api/v1/context":
        usual = {"id": (await api.get("/api/v1/search", **ASKED, limit=1)).json()["logs"][0]["id"]}
    taken = (await api.get("/openapi.json")).json()["paths"][path]["get"].get("parameters", [])
    names = {parameter["name"] for parameter in taken if parameter["in"] == "query"}
    assert names >= {"start_time", "query"} or path not in READS[:-1]
    for name in [*sorted(names & WRONG.keys()), "nonsense"]:
        values, encoded = WRONG[name], BYTES
        if name in SHARED and path in READS:
            # The same code reads them everywhere: each value meets every third read.
            turn = slice(READS.index(path) % 3, None, 3)
            values, encoded = values[turn], encoded[turn]
        rest = "&".join(f"{k}={quote(v, safe='')}" for k, v in usual.items() if k != name)
        texts = [f"{name}={quote(value, safe='')}" for value in values]
        texts += [*(f"{name}={text}" for text in encoded), f"{name}=1&{name}=2", name]
        for text in texts:
            check(await api.client.get(f"{path}?{rest}&{text}", headers=api.headers), (path, text[:100]))
    for text in BYTES:
        check(await api.client.get(f"{path}?{text}=1", headers=api.headers), (path, text))
    await until_nothing_runs(api)


async def test_other_methods_are_refused_or_answered_without_harm(api: Api) -> None:
    for path in READS + OTHERS:
        for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "BREW"):
            answer = await api.client.request(method, path, headers=api.headers)
            assert answer.status_code in {200, 204, 400, 403, 404, 405, 415, 422}, (method, path, answer.status_code)
            if answer.status_code == 405:
                assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("file", ["ndjson", "csv", "parquet"])
async def test_exports_that_are_broken_off_leave_nothing(api: Api, file: str) -> None:
    table = f"{api.stream.database}.logs"
    await api.store.command(
        f"INSERT INTO {table} (timestamp, service, message, received_at, row) SELECT"
        f" fromUnixTimestamp64Nano({BASE} + number, 'UTC'), 'bulk', repeat('x', 100), now64(9), number"
        " FROM numbers(200000)"
    )
    for number in range(20):
        async with api.client.stream(
            "GET", "/api/v1/export", params={**ASKED, "format": file}, headers={**api.headers, "Accept-Encoding": ""}
        ) as answer:
            # One leaked turn more than there are would make this 429.
            assert answer.status_code == 200, (number, await answer.aread())
            async for _ in answer.aiter_raw():
                break
        await until_nothing_runs(api)
    whole = await api.get("/api/v1/export", **ASKED, query="service:web")
    assert len(whole.text.splitlines()) == 50


async def test_of_a_hundred_reads_at_once_some_wait_and_the_others_are_told_to(api: Api) -> None:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=api.client.base_url, limits=limits, timeout=60, trust_env=False) as client:
        paths = [READS[i % (len(READS) - 1)] for i in range(100)]
        answers = await asyncio.gather(*(client.get(path, params=ASKED, headers=api.headers) for path in paths))
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) <= {200, 429}, counts
    assert counts[200] >= 3
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["field"] in {"reads", "reads_per_key", "exports"}
    await until_nothing_runs(api)
    for path in READS[:-1]:
        assert (await api.get(path, **ASKED)).status_code == 200
