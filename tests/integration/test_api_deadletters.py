"""Dead letters over HTTP, made by the real processor."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.auth.principal import Scope
from logstream.record import Record

pytestmark = pytest.mark.engine


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        created = await running.accounts.create_key("admin", scopes=(Scope.READ, Scope.ADMIN))
        running.key, running.key_id = created.text, created.key.id
        yield running


async def test_letters_are_listed_newest_first_page_by_page(api: Api):
    assert (await api.get("/api/v1/deadletters")).json() == {"deadletters": [], "next": None}
    await api.store._command(
        f"ALTER TABLE {api.stream.database}.logs ADD CONSTRAINT p CHECK message NOT LIKE '%poison%'"
    )
    for number in range(5):
        await api.store_all([Record(number, "s", 3, f"poison {number}", {"n": str(number)}), Record(0, "s", 3, "good")])
    seen: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = (await api.get("/api/v1/deadletters", limit=2, **before)).json()
        assert len(page["deadletters"]) <= 2
        seen += [letter["record"]["message"] for letter in page["deadletters"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == [f"poison {number}" for number in (4, 3, 2, 1, 0)]
    letter = page["deadletters"][-1]
    assert letter["key_id"] == api.key_id
    assert letter["record"]["timestamp"] == "1970-01-01T00:00:00Z"
    assert "raw" not in letter
    single = (await api.get(f"/api/v1/deadletters/{letter['id']}")).json()
    assert single["raw"]
    assert {**single, "raw": None} == {**letter, "raw": None}
    ledger = (await api.get("/api/v1/ledger")).json()
    assert ledger["balanced"]
    assert (ledger["total"]["dead_lettered"], ledger["total"]["present"]) == (5, 5)


async def test_wrong_ids_are_named_and_unknown_ones_not_found(api: Api):
    for path in (
        "/api/v1/deadletters/x",
        "/api/v1/deadletters?before=1-1",
        "/api/v1/deadletters/0-99999999999999999999",
    ):
        answer = await api.get(path) if "?" not in path else await api.get("/api/v1/deadletters", before="1-1")
        assert answer.status_code == 400
        assert answer.json()["error"]["field"] in ("id", "before")
    assert (await api.get("/api/v1/deadletters/0-7")).status_code == 404


async def test_a_key_that_only_reads_does_not_see_them(api: Api):
    created = await api.accounts.create_key("reader", scopes=(Scope.READ,))
    answer = await api.client.get("/api/v1/deadletters", headers={"Authorization": created.text})
    assert answer.status_code == 403
