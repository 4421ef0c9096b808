"""POST /ingest over HTTP, into the embedded log."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.ingest import Ingest, ingest

from logstream.auth.principal import Quota, Scope
from logstream.bus.header import NO_KEY
from logstream.settings import CollectorSettings, IngestLimits

LINE = {
    "timestamp": "2026-01-24T06:50:00.123456789Z",
    "service": "payment",
    "level": "warn",
    "message": "user 12345 paid",
    "metadata": {"region": "eu-west-1"},
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest(tmp_path) as running:
        yield running


async def test_a_record_is_in_the_log_when_it_is_answered(world: Ingest) -> None:
    response = await world.post(json.dumps(LINE))
    assert response.status_code == 202
    assert response.json() == {"status": "accepted", "accepted": 1, "rejected": []}
    [(header, [record])] = await world.messages()
    assert (record.service, record.message, record.metadata) == ("payment", "user 12345 paid", {"region": "eu-west-1"})
    assert record.timestamp == 1_769_237_400_123_456_789
    assert (record.timestamp, record.timestamp) == (header.min_timestamp, header.max_timestamp)
    assert [(s.key_id, s.rows) for s in header.segments] == [(world.key_id, 1)]
    assert header.idempotency_key == NO_KEY


@pytest.mark.parametrize("scheme", ["", "Bearer ", "bearer "])
async def test_the_key_is_sent_bare_or_as_bearer(world: Ingest, scheme: str) -> None:
    response = await world.post(json.dumps(LINE), authorization=scheme + world.key)
    assert response.status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([LINE, LINE, LINE]),
        "\n".join([json.dumps(LINE)] * 3),
        "\r\n\r\n".join([json.dumps(LINE)] * 3) + "\r\n",
        json.dumps(LINE, indent=2) + "\n" + json.dumps(LINE, indent=2) + "\n" + json.dumps(LINE, indent=2),
    ],
)
async def test_arrays_and_lines(world: Ingest, body: str) -> None:
    response = await world.post(body)
    assert response.json() == {"status": "accepted", "accepted": 3, "rejected": []}
    assert [r.message for r in await world.records()] == [LINE["message"]] * 3


async def test_a_bad_record_does_not_sink_the_others(world: Ingest) -> None:
    response = await world.post('{"message":"a"}\n{bad}\n{"message":"c"}\n{"no":"message"}')
    assert response.status_code == 202
    answer = response.json()
    assert answer["accepted"] == 2
    assert answer["rejected_count"] == 2
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(1, "malformed_json"), (3, "missing_message")]
    assert [r.message for r in await world.records()] == ["a", "c"]


async def test_nothing_accepted_is_400_with_the_same_list(world: Ingest) -> None:
    response = await world.post('{"a":1}\n' * 150)
    assert response.status_code == 400
    answer = response.json()
    assert answer["error"]["code"] == "missing_message"
    assert answer["accepted"] == 0
    assert answer["rejected_count"] == 150
    assert [r["index"] for r in answer["rejected"]] == list(range(100))
    assert await world.messages() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b" \n ", 400),
        (b"[", 400),
        (b'[{"message":"x"}', 400),
        (b"nonsense", 400),
        (b"[]", 202),
        (b"1", 400),
    ],
)
async def test_odd_bodies_get_a_defined_answer(world: Ingest, body: bytes, status: int) -> None:
    response = await world.post(body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert await world.messages() == []


async def test_many_records_in_pieces_are_one_record_on_the_bus(world: Ingest) -> None:
    lines = [json.dumps({"message": f"line {i}", "metadata": {f"k{i % 3}": "v" * 20}}) for i in range(20_000)]
    for body in ("\n".join(lines), "[" + ",".join(lines) + "]"):
        response = await world.post(body)
        assert response.json()["accepted"] == 20_000
    first, second = await world.messages()
    assert [r.message for r in first[1]] == [f"line {i}" for i in range(20_000)]
    assert first[1][17].metadata == {"k2": "v" * 20}
    assert [(r.message, r.metadata) for r in second[1]] == [(r.message, r.metadata) for r in first[1]]


async def test_small_requests_of_one_moment_share_a_block(tmp_path: Path) -> None:
    async with ingest(tmp_path, settings=CollectorSettings(flush_seconds=0.2)) as world:
        other, other_id = await world.create_key()
        keys = [world.key, other, other, world.key]
        answers = await asyncio.gather(
            *(world.post(json.dumps({"message": f"m{i}"}), authorization=key) for i, key in enumerate(keys))
        )
        assert [a.status_code for a in answers] == [202] * 4
        [(header, records)] = await world.messages()
        assert header.rows == len(records) == 4
        sent = {f"m{i}": world.key_id if key == world.key else other_id for i, key in enumerate(keys)}
        senders = [s.key_id for s in header.segments for _ in range(s.rows)]
        assert {r.message: key for r, key in zip(records, senders, strict=True)} == sent


# Idempotency-Key


async def test_a_repeat_is_answered_alike_and_stored_once(world: Ingest) -> None:
    body = '{"message":"a"}\n{bad}\n{"message":"c"}'
    first = await world.post(body, idempotency_key="k-1")
    again = await world.post(body, idempotency_key="k-1")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert len(await world.records()) == 2
    [entry] = await world.bus.ledger(world.stream.topic)
    assert (entry.accepted, entry.deduplicated) == (4, 2)


async def test_the_encoding_of_a_repeat_does_not_matter(world: Ingest) -> None:
    import gzip

    body = b'{"message":"a"}'
    assert (await world.post(body, idempotency_key="k")).status_code == 202
    again = await world.post(gzip.compress(body), idempotency_key="k", content_encoding="gzip")
    assert again.headers["idempotent-replay"] == "true"


async def test_a_key_used_for_another_body_is_422(world: Ingest) -> None:
    await world.post('{"message":"a"}', idempotency_key="k")
    response = await world.post('{"message":"b"}', idempotency_key="k")
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "idempotency_key_reused"
    assert len(await world.records()) == 1


async def test_keys_of_two_senders_do_not_meet(world: Ingest) -> None:
    other, _ = await world.create_key()
    await world.post('{"message":"a"}', idempotency_key="k")
    response = await world.post('{"message":"b"}', idempotency_key="k", authorization=other)
    assert response.status_code == 202
    assert len(await world.records()) == 2


@pytest.mark.parametrize("key", ["", "x" * 257, "tab\there"])
async def test_what_is_no_idempotency_key(world: Ingest, key: str) -> None:
    response = await world.post('{"message":"a"}', idempotency_key=key)
    assert response.status_code == 400
    assert response.json()["error"]["field"] == "Idempotency-Key"


# Who may, and how much


async def test_without_a_key_401(world: Ingest) -> None:
    response = await world.client.post("/ingest", content='{"message":"a"}')
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["error"]["code"] == "unauthenticated"


async def test_with_a_key_that_may_only_read_403(world: Ingest) -> None:
    reader, _ = await world.create_key(scopes=(Scope.READ,))
    response = await world.post('{"message":"a"}', authorization=reader)
    assert response.status_code == 403
    assert response.json()["error"]["field"] == "scope"


async def test_past_the_quota_429(world: Ingest) -> None:
    limited, _ = await world.create_key(quota=Quota(records_per_second=5))
    assert (await world.post('{"message":"a"}\n' * 10, authorization=limited)).status_code == 202
    response = await world.post('{"message":"a"}\n' * 10, authorization=limited)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["limit"] == 5
    assert len(await world.records()) == 10


# Limits of the request


async def test_limits_are_named(tmp_path: Path) -> None:
    limits = IngestLimits(max_body_bytes=2000, max_records=3)
    async with ingest(tmp_path, limits=limits) as world:
        response = await world.post(b'{"message":"' + b"x" * 2000 + b'"}')
        assert (response.status_code, response.json()["error"]["field"]) == (413, "max_body_bytes")
        response = await world.post('{"message":"a"}\n' * 4)
        assert (response.status_code, response.json()["error"]["limit"]) == (413, 3)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b'{"message":"' + b"x" * 600 + b'"}\n'

        response = await world.client.post("/ingest", content=chunks(), headers={"authorization": world.key})
        assert response.status_code == 413
        assert await world.messages() == []


async def test_a_long_message_is_cut_with_a_mark_and_a_long_line_is_taken(tmp_path: Path) -> None:
    async with ingest(tmp_path, limits=IngestLimits(max_message_bytes=1000)) as world:
        response = await world.post(json.dumps({"message": "é" * 5_000_000}, ensure_ascii=False))
        assert response.json()["accepted"] == 1
        [record] = await world.records()
        assert record.message == "é" * 500
        assert record.metadata == {"logstream.truncated": "message"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=UTF-8", 202),
        ("text/plain", 202),
        ("application/x-www-form-urlencoded", 202),
        ("application/vnd.api+json", 202),
        ("multipart/form-data; boundary=x", 415),
        ("application/x-protobuf", 415),
        ("application/json; charset=latin-1", 415),
    ],
)
async def test_content_types(world: Ingest, content_type: str, status: int) -> None:
    response = await world.post('{"message":"a"}', content_type=content_type)
    assert response.status_code == status


# Everything else


async def test_cors_for_browsers(world: Ingest) -> None:
    origin = {"origin": "https://app.example", "access-control-request-method": "POST"}
    preflight = await world.client.options("/ingest", headers=origin)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    for name in ("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key"):
        assert name in preflight.headers["access-control-allow-headers"]
    response = await world.post('{"message":"a"}', origin="https://app.example")
    assert response.headers["access-control-allow-origin"] == "*"
    refused = await world.post("", origin="https://app.example")
    assert refused.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("path", "status"), [("/health", "ok"), ("/livez", "ok"), ("/readyz", "ready")])
async def test_health(world: Ingest, path: str, status: str) -> None:
    response = await world.client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": status})
    assert (await world.client.head(path)).status_code == 200


async def test_metrics(world: Ingest) -> None:
    await world.post('{"message":"a"}')
    text = (await world.client.get("/metrics")).text
    assert 'logstream_ingest_requests_total{status="202"}' in text
    assert 'logstream_ingest_accepted_records_total{stream="default"}' in text


async def test_unknown_paths_and_methods(world: Ingest) -> None:
    response = await world.client.get("/nothing")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    response = await world.client.get("/ingest")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")
    assert (await world.client.post("/health")).status_code == 405
