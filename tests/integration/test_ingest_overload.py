"""Overload and slow senders: every one gets a defined answer, and memory stays bounded."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.ingest import Ingest, ingest

from logstream import web
from logstream.bus.header import Header
from logstream.bus.protocol import Claim, Published
from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.errors import BusFull, BusUnavailable
from logstream.settings import MIB, BusSettings, CollectorSettings, IngestLimits


class StubbornBus:
    """The embedded log, whose publish can be made to wait or to fail."""

    def __init__(self, bus: SqliteBus) -> None:
        self._bus = bus
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None) -> Published:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await self._bus.publish(topic, header, payload, claim=claim)

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure
        await self._bus.check()


@pytest.fixture
async def bus(tmp_path: Path) -> Any:
    log = await SqliteBus.open(BusSettings(path=tmp_path / "log", min_free_disk_bytes=0), SystemClock())
    yield StubbornBus(log)
    await log.close()


async def statuses(world: Ingest, bodies: Sequence[str]) -> list[int]:
    return [r.status_code for r in await asyncio.gather(*(world.post(body) for body in bodies))]


@pytest.mark.parametrize("failure", [BusUnavailable("the log is away", retry_after=3), BusFull("the log is full")])
async def test_a_log_that_fails_is_503_for_all_who_share_the_block(
    tmp_path: Path, bus: StubbornBus, failure: BusUnavailable
) -> None:
    async with ingest(tmp_path, bus=bus, settings=CollectorSettings(flush_seconds=0.05)) as world:
        bus.failure = failure
        responses = await asyncio.gather(*(world.post('{"message":"a"}') for _ in range(5)))
        assert {r.status_code for r in responses} == {503}
        assert {r.json()["error"]["code"] for r in responses} == {failure.code}
        assert {r.headers["retry-after"] for r in responses} == {str(failure.retry_after)}
        large = await world.post('{"message":"a"}\n' * 5000)
        assert large.status_code == 503
        assert (await world.client.get("/readyz")).status_code == 503
        assert (await world.client.get("/livez")).status_code == 200
        bus.failure = None
        assert await statuses(world, ['{"message":"b"}']) == [202]
        assert [r.message for r in await world.records()] == ["b"]


async def test_an_unexpected_failure_of_the_log_is_an_answer_too(tmp_path: Path, bus: StubbornBus) -> None:
    async with ingest(tmp_path, bus=bus) as world:
        bus.failure = RuntimeError("surprise")
        assert await statuses(world, ['{"message":"a"}', '{"message":"a"}\n' * 20_000]) == [503, 503]


async def test_a_log_that_does_not_answer_is_503(tmp_path: Path, bus: StubbornBus) -> None:
    settings = CollectorSettings(publish_timeout_seconds=0.1, flush_seconds=0.001)
    async with ingest(tmp_path, bus=bus, settings=settings) as world:
        bus.gate.clear()
        response = await world.post('{"message":"a"}')
        assert response.status_code == 503
        assert response.json()["error"]["field"] == "publish_timeout_seconds"
        bus.gate.set()


async def test_past_the_pending_bytes_503_and_then_all_is_well(tmp_path: Path, bus: StubbornBus) -> None:
    settings = CollectorSettings(limits=IngestLimits(max_pending_bytes=MIB), flush_seconds=0.001)
    async with ingest(tmp_path, bus=bus, settings=settings) as world:
        bus.gate.clear()
        body = json.dumps({"message": "x" * 200_000})
        waiting = [asyncio.create_task(world.post(body)) for _ in range(5)]
        while (await world.client.get("/metrics")).text.count("logstream_ingest_pending_bytes 1.00") == 0:
            await asyncio.sleep(0.01)
        refused = await world.post(body)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["field"] == "max_pending_bytes"
        bus.gate.set()
        assert [(await task).status_code for task in waiting] == [202] * 5
        assert await statuses(world, [body]) == [202]
        assert "logstream_ingest_pending_bytes 0.0" in (await world.client.get("/metrics")).text


async def raw(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Sends pieces over one connection and reads to the end of the answer or the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def head(key: str, length: int) -> bytes:
    return f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: {length}\r\n\r\n".encode()


async def test_a_body_that_does_not_come_is_408_and_the_connection_ends(tmp_path: Path) -> None:
    async with ingest(tmp_path, limits=IngestLimits(body_timeout_seconds=0.2)) as world:
        answer = await raw(world.port, head(world.key, 100), b'{"mess')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_timeout_seconds" in answer
        assert b"connection: close" in answer


async def test_a_header_that_does_not_come_closes_the_connection(tmp_path: Path) -> None:
    async with ingest(tmp_path, limits=IngestLimits(header_timeout_seconds=0.2)) as world:
        assert await raw(world.port) == b""
        assert await raw(world.port, b"POST /ingest HTTP/1.1\r\nX-Slow: ", *[b"a"] * 3, pause=0.02) == b""
        # Between two requests of one connection the header timeout does not run, and it runs anew for the second.
        whole = head(world.key, 15) + b'{"message":"a"}'
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(whole)
        assert (await reader.readuntil(b"[]}")).startswith(b"HTTP/1.1 202 ")
        await asyncio.sleep(0.3)
        writer.write(whole)
        assert (await reader.readuntil(b"[]}")).strip().startswith(b"HTTP/1.1 202 ")
        writer.write(whole[:10])
        assert await reader.read() == b""
        writer.close()


async def test_a_header_without_end_is_431(tmp_path: Path) -> None:
    async with ingest(tmp_path) as world:
        answer = await raw(world.port, b"POST /ingest HTTP/1.1\r\nX-Long: " + b"a" * 200_000)
        assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""


async def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async with ingest(tmp_path) as world:
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head(world.key, 1000) + b'{"message":"half')
        await writer.drain()
        writer.close()
        assert await statuses(world, ['{"message":"a"}']) == [202]
        assert [r.message for r in await world.records()] == ["a"]
        while "logstream_ingest_pending_bytes 0.0" not in (await world.client.get("/metrics")).text:
            await asyncio.sleep(0.01)


async def test_what_was_sent_before_the_stop_is_answered(tmp_path: Path, bus: StubbornBus) -> None:
    async with ingest(tmp_path, bus=bus, settings=CollectorSettings(flush_seconds=0.2)) as world:
        sending = asyncio.create_task(world.post('{"message":"last"}'))
        await asyncio.sleep(0.1)
        world.stop.set()
        assert (await sending).status_code == 202
        assert [r.message for r in await world.records()] == ["last"]


async def test_others_are_served_while_a_long_body_is_decoded(tmp_path: Path) -> None:
    async with ingest(tmp_path) as world:
        line = json.dumps({"message": "x" * 600, "nested": {"a": 1}})
        long = asyncio.create_task(world.post("\n".join([line] * 20_000)))
        served = 0
        while not long.done():
            assert (await world.client.get("/livez")).status_code == 200
            served += 1
        assert (await long).json()["accepted"] == 20_000
        assert served >= 5


async def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(tmp_path: Path) -> None:
    """Nobody without a key may hold a connection by sending a body drop by drop."""
    async with ingest(tmp_path, limits=IngestLimits(header_timeout_seconds=0.2)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head("ls_nobody", 100_000) + b"{")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")

        async def drip() -> None:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(30):
                while await reader.read(1000):
                    pass
        except ConnectionResetError:
            pass
        finally:
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            writer.close()
        # Who sends the rest in time keeps the connection.
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head("ls_nobody", 10) + b"{")
        await reader.readuntil(b"}}")
        writer.write(b"123456789" + head(world.key, 15) + b'{"message":"a"}')
        assert (await reader.readuntil(b"[]}")).startswith(b"HTTP/1.1 202 ")
        await asyncio.sleep(0.3)
        writer.write(head(world.key, 15) + b'{"message":"b"}')
        assert (await reader.readuntil(b"[]}")).startswith(b"HTTP/1.1 202 ")
        writer.close()


async def test_bodies_that_come_drop_by_drop_hold_nobody_up(tmp_path: Path) -> None:
    async with ingest(tmp_path, limits=IngestLimits(body_timeout_seconds=1)) as world:
        slow = [asyncio.create_task(raw(world.port, head(world.key, 5000), *[b" " * 10] * 100, pause=0.02))
                for _ in range(100)]  # fmt: skip
        while "logstream_ingest_pending_bytes 0.0" in (await world.client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        assert await statuses(world, ['{"message":"a"}'] * 50) == [202] * 50
        for answer in await asyncio.gather(*slow):
            assert answer.startswith(b"HTTP/1.1 408 ") or answer == b""
        assert "logstream_ingest_pending_bytes 0.0" in (await world.client.get("/metrics")).text


async def test_past_the_cap_on_connections_503_in_our_form() -> None:
    async def app(_scope: web.Scope, _receive: web.Receive, send: web.Send) -> None:
        await web.respond(send, 200, b"{}")

    sock = web.listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(web.serve(app, sock, stop, ready=ready.set, max_connections=2))
    await ready.wait()
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["error"]["limit"]) == (503, 2)
        assert answer.headers["retry-after"] == "1"
        idle.pop()[1].close()
        async with asyncio.timeout(10):
            while (await client.get("/")).status_code != 200:
                await asyncio.sleep(0.01)
    idle.pop()[1].close()
    stop.set()
    await serving
