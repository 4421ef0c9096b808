"""Redaction over HTTP: what reaches the log, and with it ClickHouse and the dead letters, is redacted."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.support.ingest import Ingest, ingest

from logstream.collector.app import create_app
from logstream.errors import StartupError
from logstream.settings import CollectorSettings, RedactionRule, RedactionSettings

CARD = "4111 1111 1111 1111"


def collector(*rules: dict[str, Any], detectors: tuple[str, ...] = ()) -> CollectorSettings:
    redaction = RedactionSettings(rules=tuple(RedactionRule(**rule) for rule in rules), detectors=detectors)
    return CollectorSettings(redaction=redaction)


def counted(rule: str) -> float:
    labels = {"stream": "default", "rule": rule}
    return REGISTRY.get_sample_value("logstream_ingest_redacted_values_total", labels) or 0.0


async def log_bytes(world: Ingest) -> bytes:
    """All that the log holds, headers and payloads."""
    found, offset = b"", 0
    while batch := await world.bus.read(world.stream.topic, 0, offset, max_bytes=1 << 30):
        found += b"".join(bytes(message.value) for message in batch)
        offset = batch[-1].offset + 1
    return found


@pytest.mark.parametrize("many", [1, 30_000])
async def test_no_secret_reaches_the_log(tmp_path: Path, many: int) -> None:
    """Small requests are joined with others; large ones are taken in pieces."""
    line = {"message": f"{CARD} of ada@example.com", "user": {"password": "hunter2!", "tags": ["10.1.2.3"]}}
    before = counted("card")
    async with ingest(tmp_path, settings=collector(detectors=("all",))) as world:
        body = "\n".join([json.dumps(line)] * many + ['{"message":"nothing"}'])
        answer = await world.post(gzip.compress(body.encode()), content_encoding="gzip")
        assert answer.json() == {"status": "accepted", "accepted": many + 1, "rejected": []}
        records = await world.records()
        assert len(records) == many + 1
        assert records[0].message == "[card] of [email]"
        assert records[0].metadata == {"user.password": "[secret]", "user.tags": '["[ipv4]"]'}
        assert records[-1].message == "nothing"
        assert len(set(map(str, records))) <= 3, "all but the time is alike"
        kept = await log_bytes(world)
    for secret in (b"4111", b"ada@", b"hunter2", b"10.1.2.3"):
        assert secret not in kept
    assert counted("card") - before == many


async def test_rejected_records_stay_the_senders(tmp_path: Path) -> None:
    async with ingest(tmp_path, settings=collector({"detector": "card", "action": "reject"})) as world:
        answer = await world.post(f'{{"message":"a"}}\n{{bad}}\n{{"message":"{CARD}"}}\n{{"message":"d"}}')
        assert answer.status_code == 202
        content = answer.json()
        assert (content["accepted"], content["rejected_count"]) == (2, 2)
        assert [(r["index"], r["code"]) for r in content["rejected"]] == [(1, "malformed_json"), (2, "redaction")]
        assert "4111" not in answer.text
        assert [record.message for record in await world.records()] == ["a", "d"]
        [entry] = await world.bus.ledger(world.stream.topic)
        assert entry.accepted == 2
        answer = await world.post(json.dumps({"message": CARD}))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "redaction")


async def test_rejections_of_a_long_body_have_their_places_in_all_of_it(tmp_path: Path) -> None:
    lines = [json.dumps({"message": f"line {number} " + "x" * 200}) for number in range(5_000)]
    for place in (0, 1_999, 4_999):
        lines[place] = json.dumps({"message": CARD})
    lines[1_000] = "{bad}"
    async with ingest(tmp_path, settings=collector({"detector": "card", "action": "reject"})) as world:
        content = (await world.post("\n".join(lines))).json()
        assert [r["index"] for r in content["rejected"]] == [0, 1_000, 1_999, 4_999]
        assert content["accepted"] == len(await world.records()) == 4_996


async def test_a_repeat_under_a_key_is_counted_once(tmp_path: Path) -> None:
    before = counted("email")
    async with ingest(tmp_path, settings=collector({"detector": "email"})) as world:
        for _ in range(2):
            answer = await world.post('{"message":"ada@example.com"}', idempotency_key="k")
            assert answer.status_code == 202
        assert answer.headers["idempotent-replay"] == "true"
    assert counted("email") - before == 1


async def test_nothing_is_redacted_without_rules(tmp_path: Path) -> None:
    async with ingest(tmp_path) as world:
        await world.post(json.dumps({"message": CARD}))
        assert [record.message for record in await world.records()] == [CARD]


def test_a_wrong_rule_is_a_reason_not_to_start() -> None:
    nothing: Any = None
    settings = collector({"name": "x", "pattern": "("})
    with pytest.raises(StartupError, match=r"rules\.0\.pattern.*'x'"):
        create_app(settings, bus=nothing, gate=nothing, quota=nothing, clock=nothing)
