"""Exports over HTTP against everything real: the formats, broken ones, limits, and importing them again."""

import asyncio
import csv
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.auth.principal import Scope
from logstream.cli.importing import Wishes, plan_for
from logstream.collector.decode.json_body import JsonDecoder
from logstream.query.time import MIN_NS, format_time, parse_time
from logstream.record import LEVEL_LABELS, Record
from logstream.settings import ApiSettings, IngestLimits

pytestmark = pytest.mark.engine

SECOND = 10**9
BASE = 1_700_000_040 * SECOND
FROM = format_time(MIN_NS)
ALL = {"start_time": FROM}

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARQUET = (
    "timestamp DateTime64(9, 'UTC'), service String, level String, message String, metadata Map(String, String), "
    "trace_id String, span_id String"
)

ODD = [
    Record(BASE + 1, "web", 1, 'quotes " and \\ and / and \t\n\r\0\x1f', {"a.b": 'x"y', "é": "ü", "": "empty"}),
    Record(BASE, "=HYPERLINK(1)", 6, "line one\r\nline two,;'", {}, TRACE, "00f067aa0ba902b7"),
    Record(MIN_NS, "old", 2, "", {"n": "1e3", "t": "true"}),
    Record(-1_500_000_001, "before 1970", 3, "\u2028 \U0001f600 </script>"),
    Record(2**63 - 1, "late", 4, "__exception__\r\nabc\r\nCode: 1. DB::Exception: no\n9 abc\r\n__exception__\r\n"),
]  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        yield running


async def export(api: Api, **parameters: Any) -> httpx.Response:
    answer = await api.get("/api/v1/export", **ALL | parameters)
    assert answer.status_code == 200, answer.text
    return answer


def many(count: int) -> list[Record]:
    return [Record(BASE + i * SECOND, f"s{i % 3}", 1 + i % 6, f"line {i}", {"n": str(i)}) for i in range(count)]


async def test_ndjson_holds_every_line_as_the_api_does(api: Api):
    await api.store_all(ODD)
    answer = await export(api)
    assert answer.headers["content-type"] == "application/x-ndjson"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="default_19000101T000000Z_')
    assert disposition.endswith('Z.ndjson"')
    found = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    assert sorted(found, key=str) == sorted(
        ({
            "timestamp": format_time(r.timestamp)[:19] + f".{r.timestamp % SECOND:09d}Z", "service": r.service,
            "level": LEVEL_LABELS[r.level - 1], "message": r.message, "metadata": r.metadata, "trace_id": r.trace_id,
            "span_id": r.span_id,
        } for r in ODD), key=str,
    )  # fmt: skip
    assert "\\/" not in answer.text


async def test_an_export_sent_again_is_the_same_lines(api: Api):
    await api.store_all(records := [*ODD[:-1], *many(50)])
    body = (await export(api, order="asc")).content
    decoded = JsonDecoder(IngestLimits()).decode(body, now=BASE)
    assert not decoded.rejections
    assert not decoded.truncated
    assert list(decoded.batch) == sorted(records, key=lambda r: r.timestamp)


async def test_an_export_imported_is_the_same_lines(api: Api):
    await api.store_all(records := [*many(20), *(r for r in ODD[:-1] if r.message)])
    body = (await export(api)).content
    plan, lines = plan_for(body, "a-file", BASE, Wishes())
    events = [event for line in lines if (event := plan.form.parse(line.decode())) is not None]
    assert len(events) == len(records)
    sent = b"\n".join(plan._record(event) for event in events)
    decoded = JsonDecoder(IngestLimits()).decode(sent, now=BASE)
    assert not decoded.rejections
    assert sorted(decoded.batch, key=str) == sorted(records, key=str)


async def test_csv_has_a_header_and_metadata_as_json(api: Api):
    await api.store_all(ODD)
    answer = await export(api, format="csv", query="metadata.n:1e3 OR -_exists:n")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["timestamp", "service", "level", "message", "metadata", "trace_id", "span_id"]
    assert sorted((parse_time(t, ""), s, lv, m, json.loads(x), tr, sp) for t, s, lv, m, x, tr, sp in rows) == sorted(
        (r.timestamp, r.service, LEVEL_LABELS[r.level - 1], r.message, r.metadata, r.trace_id, r.span_id) for r in ODD
    )
    empty = (await export(api, format="csv", service="nobody")).text
    assert empty.count("\n") == 1


async def test_parquet_has_native_types(api: Api, engine: EngineProcess):
    await api.store_all(ODD)
    body = (await export(api, format="parquet")).content
    async with httpx.AsyncClient(base_url=engine.url, trust_env=False) as client:
        table = f"{api.stream.database}.parquet"
        sql = f"CREATE TABLE {table} ({PARQUET}) ENGINE = Memory"
        assert (await client.post("/", content=sql)).status_code == 200
        answer = await client.post("/", params={"query": f"INSERT INTO {table} FORMAT Parquet"}, content=body)
        assert answer.status_code == 200, answer.text
    found = await api.store.query(
        f"SELECT toUnixTimestamp64Nano(timestamp), service, level, message, metadata, trace_id, span_id FROM {table}"
    )
    assert sorted(found.rows, key=str) == sorted(
        (
            (r.timestamp, r.service, LEVEL_LABELS[r.level - 1], r.message, r.metadata, r.trace_id, r.span_id)
            for r in ODD
        ),
        key=str,
    )
    assert (await export(api, format="parquet", service="nobody")).content.endswith(b"PAR1")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_lines_come_in_the_order_asked_for(api: Api, order: str):
    records = many(3_000)
    await api.store_all(records[1::2])
    await api.store_all(records[::2])
    found = [json.loads(line)["message"] for line in (await export(api, order=order)).text.splitlines()]
    assert found == [r.message for r in (records if order == "asc" else records[::-1])]


async def test_an_export_is_of_the_filter_and_its_range(api: Api):
    await api.store_all(many(100))
    answer = await export(
        api, query="level>=error", start_time=format_time(BASE + 10 * SECOND), end_time=BASE // SECOND + 20
    )
    assert {json.loads(line)["message"] for line in answer.text.splitlines()} == {
        f"line {i}" for i in range(10, 21) if i % 6 >= 4
    }
    assert (await api.get("/api/v1/export")).text == ""  # the last hour
    for wrong, field in (({"format": "xml"}, "format"), ({"order": "up"}, "order"), ({"query": "("}, "query")):
        refused = await api.get("/api/v1/export", **wrong)
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, field)
    assert (await api.client.head("/api/v1/export", headers=api.headers)).status_code == 405
    assert (await api.client.get("/api/v1/export")).status_code == 401


async def test_text_is_compressed_for_those_who_can_read_it(api: Api):
    await api.store_all(many(2_000))
    packed, plain = (
        await export(api),
        await api.client.get("/api/v1/export", params=ALL, headers={**api.headers, "Accept-Encoding": "identity"}),
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert "content-encoding" not in (await export(api, format="parquet")).headers


# What goes wrong


async def fill(api: Api, rows: int) -> None:
    """Rows that only the engine makes so quickly; a multiple of 50,000."""
    for first in range(0, rows, 50_000):
        await api.store.command(
            f"INSERT INTO {api.stream.database}.logs (timestamp, service, level, message, received_at, offset)"
            " SELECT fromUnixTimestamp64Nano(1700000040000000000 + toInt64(number) * 1000000, 'UTC'), 'bulk', 'info',"
            " concat('line ', toString(number), ' ', hex(randomString(100))), now64(9), number"
            f" FROM numbers({first}, 50000)"
        )


async def running(api: Api) -> int:
    answer = await api.store.query(
        f"SELECT count() FROM system.processes WHERE position(query, '{api.stream.database}.' || 'logs') > 0"
    )
    return int(answer.rows[0][0])


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


async def broken(api: Api, name: str, after_first: Callable[[], Awaitable[object]]) -> bytes:
    """What an export sent before it broke off; `after_first` is done behind the first piece."""
    received: list[bytes] = []

    async def read() -> None:
        options = {"params": ALL | {"format": name}, "headers": {**api.headers, "Accept-Encoding": "identity"}}
        async with api.client.stream("GET", "/api/v1/export", **options) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                if not received:
                    await after_first()
                received.append(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    return b"".join(received)


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
async def test_an_engine_that_dies_half_way_breaks_the_answer_off(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
):
    engine = EngineProcess(tmp_path_factory.mktemp("own") / "data")
    engine.start()

    async def kill() -> None:
        engine.kill()

    try:
        async with running_api(tmp_path, engine.url) as api:
            await fill(api, 100_000)
            assert await broken(api, name, kill)
            engine.restart()
            assert (await export(api, query="7")).content
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
async def test_the_text_of_an_exception_is_never_passed_on(api: Api, name: str):
    # A row group of Parquet is read whole before a byte of it is written.
    await fill(api, 400_000)

    async def kill() -> None:
        # As an operator would, from elsewhere.
        await api.store.command(f"KILL QUERY WHERE position(query, '{api.stream.database}.logs') > 0 ASYNC")

    received = await broken(api, name, kill)
    assert len(received) > 100_000
    assert b"QUERY_WAS_CANCELLED" not in received
    assert b"__exception__" not in received


async def test_a_client_that_leaves_ends_the_query_in_the_engine(api: Api):
    await fill(api, 400_000)
    for name in ("ndjson", "parquet"):
        async with api.client.stream(
            "GET", "/api/v1/export", params=ALL | {"format": name}, headers={**api.headers, "Accept-Encoding": ""}
        ) as answer:
            async for _ in answer.aiter_raw():
                assert await running(api) == 1
                break
        await until(lambda: _none(api))


async def _none(api: Api) -> bool:
    return not await running(api) and not (await api.get("/api/v1/queries")).json()["queries"]


async def key(api: Api, name: str) -> dict[str, str]:
    """Headers of another caller."""
    created = await api.accounts.create_key(name, scopes=(Scope.READ,))
    await api.gate.refresh()
    return {"Authorization": f"Bearer {created.text}"}


PLAIN = {"Accept-Encoding": ""}
URL = "/api/v1/export"


async def test_exports_that_run_are_limited_and_can_be_cancelled(api: Api, caplog: pytest.LogCaptureFixture):
    await fill(api, 100_000)
    other, third = await key(api, "other"), await key(api, "third")
    stream = partial(api.client.stream, "GET", URL, params=ALL)
    async with stream(headers=api.headers | PLAIN) as one:
        refused = await api.get(URL, **ALL)
        assert (refused.status_code, refused.json()["error"]["field"]) == (429, "exports_per_key")
        assert refused.headers["retry-after"]
        async with stream(headers=other | PLAIN) as two:
            refused = await api.client.get(URL, params=ALL, headers=third)
            assert (refused.status_code, refused.json()["error"]["field"]) == (429, "exports")
            path = f"/api/v1/queries/{one.headers['x-query-id']}"
            assert (await api.client.delete(path, headers=other)).status_code == 404
            assert (await api.client.delete(path, headers=api.headers)).status_code == 204
            with pytest.raises(httpx.RemoteProtocolError):
                await one.aread()
            assert len((await two.aread()).splitlines()) == 100_000
    assert (await export(api, query="nothing")).content == b""
    # Cancelling is ordinary, no error.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_export_that_waits_takes_no_place(tmp_path: Path, engine: EngineProcess):
    async with running_api(tmp_path, engine.url, settings=ApiSettings(max_reads=1, max_exports=1)) as api:
        await fill(api, 100_000)
        other = await key(api, "other")
        async with api.client.stream("GET", URL, params=ALL, headers=other | PLAIN) as holding:
            waiting = [asyncio.create_task(export(api, query="nothing")) for _ in range(2)]
            await until(lambda: _waiting(api, 2))
            path = f"/api/v1/queries/{holding.headers['x-query-id']}"
            assert (await api.client.delete(path, headers=other)).status_code == 204
        assert [answer.content for answer in await asyncio.gather(*waiting)] == [b"", b""]


async def _waiting(api: Api, count: int) -> bool:
    queries = (await api.get("/api/v1/queries")).json()["queries"]
    return [query["state"] for query in queries] == ["waiting"] * count


async def test_a_client_that_takes_nothing_is_let_go(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("logstream.api.export.STALL_SECONDS", 0.3)
    async with running_api(tmp_path, engine.url, settings=ApiSettings(max_reads=1, max_exports=1)) as api:
        await fill(api, 100_000)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(("127.0.0.1", api.port))
            target = httpx.URL(URL, params=ALL).raw_path.decode()
            request = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n\r\n"
            client.sendall(request.encode())
            await until(lambda: _listed(api))
            await until(lambda: _none(api))
            # Turn and place are there again; of the one who still holds on nothing more is read.
            assert (await export(api, query="nothing")).content == b""
            client.setblocking(False)
            received = client.recv(1 << 16)
            assert received.startswith(b"HTTP/1.1 200")


async def _listed(api: Api) -> bool:
    return bool((await api.get("/api/v1/queries")).json()["queries"])


async def test_an_error_before_the_first_line_is_an_answer(api: Api):
    await api.store.command(f"DROP TABLE {api.stream.database}.logs")
    for name in ("ndjson", "csv", "parquet"):
        answer = await api.get("/api/v1/export", format=name)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal"
