"""The OpenAPI document, the page that shows it, and what HTTP expects of every address."""

import gzip
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.record import Record
from logstream.settings import ApiSettings

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

COLLECTOR = "http://127.0.0.1:9999"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory, engine: EngineProcess) -> AsyncIterator[Api]:
    folder = tmp_path_factory.mktemp("document")
    async with running_api(folder, engine.url, settings=ApiSettings(ingest_url=COLLECTOR)) as running:
        yield running


async def document(api: Api) -> dict[str, Any]:
    answer = await api.client.get("/openapi.json")
    found: dict[str, Any] = answer.json()
    return found


def _has_example(parameter: dict[str, Any]) -> bool:
    schema = parameter["schema"]
    return any("example" in place or "examples" in place for place in (parameter, schema, *schema.get("anyOf", ())))


async def test_every_operation_is_described(api: Api):
    found = await document(api)
    for path in ("/ingest", "/logs", "/stats", "/ws", "/api/v1/tail", "/api/v1/deadletters", "/api/v1/ledger"):
        assert path in found["paths"]
    for path, item in found["paths"].items():
        for method, operation in item.items():
            if method == "servers":
                continue
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert {tag["name"] for tag in found["tags"]} >= set(operation["tags"]), where
            if "422" in operation["responses"]:
                assert "ErrorBody" in str(operation["responses"]["422"]) or path == "/ingest", where
            for parameter in operation.get("parameters", ()):
                assert parameter["description"], (where, parameter["name"])
                assert _has_example(parameter), (where, parameter["name"])


async def test_every_reference_leads_somewhere(api: Api):
    found = await document(api)
    schemas = found["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', (await api.client.get("/openapi.json")).text))
    assert references <= set(schemas)
    assert {"HTTPValidationError", "ValidationError"}.isdisjoint(schemas)


async def test_credentials_are_declared(api: Api):
    found = await document(api)
    schemes = found["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["ticket"]["in"], schemes["ticket"]["name"]) == ("query", "ticket")
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in schemes)
    paths = found["paths"]
    assert paths["/logs"]["get"]["security"] == [{"bearer": []}, {"ticket": []}, {}]
    assert paths["/api/v1/keys"]["get"]["security"] == [{"bearer": []}]
    assert "security" not in paths["/api/v1/login"]["post"]


async def test_the_entry_of_the_collector_says_where_it_is(api: Api):
    item = (await document(api))["paths"]["/ingest"]
    assert item["servers"][0]["variables"]["collector"]["default"] == COLLECTOR


async def test_the_page_needs_no_other_host(api: Api):
    assert (await api.client.get("/")).headers["location"] == "/docs"
    page = (await api.client.get("/docs")).text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith("/")
        assert (await api.client.get(asset)).status_code == 200, asset
    assert "https://" not in page


@pytest.mark.parametrize("path", ["/logs", "/stats", "/health", "/livez", "/readyz", "/metrics", "/docs"])
async def test_head_answers_as_get_without_a_body(api: Api, path: str):
    head = await api.client.head(path, headers=api.headers)
    assert head.status_code == 200
    assert head.content == b""
    assert (await api.client.head("/logs")).status_code == 401


async def test_head_on_the_tail_does_not_wait_for_ever(api: Api):
    assert (await api.client.head("/api/v1/tail", headers=api.headers)).status_code == 405


async def test_large_answers_are_compressed_for_those_who_can_read_it(api: Api):
    now = api.gate._clock.now_ns()
    await api.store_all([Record(now - i, "s", 3, f"line {i} of many") for i in range(500)])

    async def raw(accept: str) -> tuple[str | None, bytes]:
        headers = {**api.headers, "Accept-Encoding": accept}
        async with api.client.stream("GET", "/logs", params={"limit": 500}, headers=headers) as answer:
            assert answer.headers["vary"] == "Accept-Encoding, Origin"
            return answer.headers.get("content-encoding"), b"".join([part async for part in answer.aiter_raw()])

    plain_coding, plain = await raw("identity")
    assert plain_coding is None
    assert (await raw("gzip;q=0, br"))[0] is None
    coding, packed = await raw("br, gzip;q=0.5")
    assert coding == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) * 4 < len(plain)
    assert "content-encoding" not in (await api.get("/stats")).headers
