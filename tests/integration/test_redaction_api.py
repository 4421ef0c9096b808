"""The dry run over HTTP: who may, what is answered, and what is not kept."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.auth.principal import Scope
from logstream.settings import ApiSettings, RedactionRule, RedactionSettings

pytestmark = pytest.mark.engine

CONFIGURED = RedactionSettings(rules=(RedactionRule(detector="card", action="keep_last"),), detectors=("email",))


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url, settings=ApiSettings(redaction=CONFIGURED)) as running:
        created = await running.accounts.create_key("admin", scopes=(Scope.ADMIN,))
        running.key, running.key_id = created.text, created.key.id
        yield running


async def dry_run(api: Api, **asked: Any) -> httpx.Response:
    return await api.client.post("/api/v1/redaction/dry-run", json=asked, headers=api.headers)


async def test_the_rules_of_the_stream_are_tried(api: Api):
    line = "é ada@example.com paid with 4111 1111 1111 1111"
    answer = await dry_run(
        api, lines=[line, "nothing"], records=[{"message": "m", "metadata": {"to": "bo@example.com"}}]
    )
    assert answer.status_code == 200
    content = answer.json()
    first, second, third = content["results"]
    assert first["before"] == {"message": line, "service": "unknown", "metadata": {}}
    assert first["after"]["message"] == "é [email] paid with [card:1111]"
    assert [(f["rule"], f["action"], f["field"], line[f["start"] : f["end"]]) for f in first["findings"]] == [
        ("email", "mask", "message", "ada@example.com"),
        ("card", "keep_last", "message", "4111 1111 1111 1111"),
    ]
    assert (second["after"], second["findings"]) == (second["before"], [])
    assert third["after"]["metadata"] == {"to": "[email]"}
    assert third["findings"][0]["field"] == "metadata.to"
    assert content["found"] == {"email": 2, "card": 1}


async def test_other_rules_can_be_tried_in_their_place(api: Api):
    rules = [{"name": "order", "pattern": r"order (\d+)", "action": "reject"}]
    content = (await dry_run(api, lines=["order 17 of ada@example.com", "order"], rules=rules)).json()
    assert content["results"][0]["after"] is None
    assert content["results"][0]["findings"] == [
        {"field": "message", "rule": "order", "action": "reject", "start": 6, "end": 8}
    ]
    assert content["results"][1]["after"]["message"] == "order"
    content = (await dry_run(api, lines=["ada@example.com 10.0.0.1"], detectors=["ip"])).json()
    assert content["results"][0]["after"]["message"] == "ada@example.com [ipv4]"


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({}, "lines", "send `lines` or `records`"),
        ({"lines": ["a"], "rules": [{"name": "x", "pattern": r"a\y"}]}, "rules.0.pattern", "column 2"),
        ({"lines": ["a"], "rules": [{"detector": "x"}]}, "rules.0.detector", "there is no detector"),
        ({"lines": ["a"], "rules": [{"detector": "card", "action": "x"}]}, "rules.0.action", "mask"),
        ({"lines": ["a"], "rules": [{"detector": "card", "action": "hash"}]}, "hash_key", "HASH_KEY"),
        ({"lines": ["a"], "detectors": ["x"]}, "detectors.0", "there is no detector"),
        ({"lines": ["a"] * 1_001}, "lines", "1000"),
        ({"records": [{"message": "a", "metadata": {"k": 1}}]}, "records.0.metadata.k", "string"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, asked: dict[str, Any], field: str, says: str):
    answer = await dry_run(api, **asked)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["field"] == field
    assert says in error["message"]


async def test_only_admins_may(api: Api):
    reader = await api.accounts.create_key("reader", scopes=(Scope.READ, Scope.INGEST))
    asked = {"lines": ["a"]}
    for headers, status in (({}, 401), ({"Authorization": reader.text}, 403), (api.headers, 200)):
        answer = await api.client.post("/api/v1/redaction/dry-run", json=asked, headers=headers)
        assert answer.status_code == status
    assert (await dry_run(api, lines=["a"], stream="nowhere")).status_code in (403, 404)


async def test_samples_are_not_logged(api: Api, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
    for asked in ({"lines": ["hunter2"]}, {"lines": ["hunter2"], "rules": [{"name": "x", "pattern": "("}]}):
        await dry_run(api, **asked)
    out, err = capfd.readouterr()
    assert "hunter2" not in out + err + caplog.text
