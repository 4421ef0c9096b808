"""Live tail against everything real: received + declared gaps = matched, whatever clients and connections do."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from logstream.auth.principal import Scope
from logstream.query import frames as frames_module
from logstream.query.cursor import Cursor, Position, decode, stream_tag
from logstream.query.filter import LogFilter, matches
from logstream.query.logs import LogReader
from logstream.query.tail import Tail, TailClients
from logstream.query.tail_client import TailClient
from logstream.record import Record
from logstream.settings import ApiSettings
from logstream.stream import make_stream

pytestmark = pytest.mark.engine

BASE = 1_700_000_000 * 10**9


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    settings = ApiSettings(tail_max_clients=12, tail_queue_records=300)
    # Consumed records are dropped at once, so that resuming needs the store.
    async with running_api(
        tmp_path, engine.url, settings=settings, bus_changes={"retain_bytes": 0, "retain_seconds": 0}
    ) as running:
        yield running


def line(number: int, message: str = "", service: str | None = None) -> Record:
    return Record(
        BASE + number, service or ("payment", "checkout", "auth")[number % 3], 1 + number % 6,
        message or f"line {number}", {"n": str(number)},
    )  # fmt: skip


class Frames:
    """A WebSocket of /api/v1/tail as frames; the first heartbeat is read already."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.cursor = ""

    async def next(self, *, skip: tuple[str, ...] = ("heartbeat",)) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                frame = json.loads(await self.socket.recv())
                self.cursor = frame.get("cursor", self.cursor)
                if frame["type"] not in skip:
                    return frame

    async def numbers(self, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            frame = await self.next()
            assert frame["type"] == "records", frame
            found += [int(record["metadata"]["n"]) for record in frame["records"]]
        return found


async def open_tail(api: Api, **params: str) -> Frames:
    socket = await connect(api.ws("/api/v1/tail", **params), additional_headers=api.headers, compression=None)
    frames = Frames(socket)
    await frames.next(skip=())
    return frames


async def _closed(socket: ClientConnection) -> tuple[int, str]:
    """Read until the server closes, and give its code and reason."""
    try:
        async with asyncio.timeout(30):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "no close frame")


async def test_lines_come_as_they_are_sent_filtered_and_in_the_form_of_logs(api: Api):
    everything = await open_tail(api)
    errors = await open_tail(api, level="error", search="LINE", service="checkout")
    await api.send([line(i) for i in range(12)])
    assert await everything.numbers(12) == list(range(12))
    assert await errors.numbers(2) == [4, 10]
    await api.stored()
    await api.send([line(12, service="ünï")])
    frame = await everything.next()
    assert frame["records"] == [
        {"timestamp": "2023-11-14T22:13:20.000000012Z", "service": "ünï", "level": "trace", "message": "line 12",
         "metadata": {"n": "12"}}
    ]  # fmt: skip
    await everything.socket.close()
    await errors.socket.close()


@pytest.mark.parametrize("stored", [True, False], ids=["from the store", "from the log"])
async def test_a_query_filters_live_lines_and_those_caught_up_with(api: Api, stored: bool):
    asked = {"query": "level>=warn -(n:10 OR /line 1[67]/) (li* OR zebra) n<23", "service": "checkout,auth"}
    frames = await open_tail(api, **asked)
    await api.send([line(i) for i in range(12)])
    assert await frames.numbers(3) == [4, 5, 11]
    await frames.socket.close()
    await api.send([line(i) for i in range(12, 24)])
    if stored:
        await api.stored()
        await _trimmed(api)
    again = await open_tail(api, **asked, cursor=frames.cursor)
    assert await again.numbers(1) == [22]
    await again.socket.close()


@pytest.mark.parametrize("path", ["/api/v1/tail", "/ws"])
async def test_a_query_that_is_no_filter_is_refused_at_once(api: Api, path: str):
    for query in ("level:loud", "timed | stats count()"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(api.ws(path, query=query), additional_headers=api.headers)
        assert refused.value.response.status_code == 400
        assert json.loads(refused.value.response.body)["error"]["code"] == "query_syntax"


async def test_a_filter_that_holds_up_others_is_ended(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames_module, "MATCH_SECONDS", 0.05)
    other = await open_tail(api)
    # Exponentially many states: RE2 falls back to one step for each state and byte.
    slow = await open_tail(api, query="/a[ab]{300}c/ OR /b[ab]{300}c/")
    text = "".join(random.Random(1).choices("ab", k=20_000))
    await api.send([line(i, text) for i in range(10)])
    code, reason = await _closed(slow.socket)
    assert code == 4422
    assert "0.05 s" in reason
    assert await other.numbers(10) == list(range(10))
    await other.socket.close()


@pytest.mark.parametrize("stored", [True, False], ids=["from the store", "from the log"])
async def test_a_cursor_resumes_exactly(api: Api, stored: bool):
    frames = await open_tail(api, service="payment")
    await api.send([line(i) for i in range(9)])
    assert await frames.numbers(3) == [0, 3, 6]
    await frames.socket.close()
    for start in range(9, 30, 3):
        await api.send([line(i) for i in range(start, start + 3)])
    if stored:
        await api.stored()
        await _trimmed(api)
    again = await open_tail(api, service="payment", cursor=frames.cursor)
    assert await again.numbers(7) == list(range(9, 30, 3))
    await api.send([line(30)])
    assert await again.numbers(1) == [30]
    await again.socket.close()


async def _trimmed(api: Api) -> None:
    """Wait until the log has dropped what was stored."""
    async with asyncio.timeout(30):
        while True:
            offsets = await api.bus.offsets(api.stream.topic, 0)
            if offsets.beginning >= offsets.end - 1:
                return
            await asyncio.sleep(0.02)


async def test_a_cursor_within_a_record_of_the_log_resumes_within_it(api: Api):
    topic = await api.bus.create_topic(api.stream.topic)
    await api.send([line(i) for i in range(5_000)])
    for stored in (False, True):
        if stored:
            await api.stored()
            await api.send([line(5_000)])
            await api.stored()
            await _trimmed(api)
        cursor = Cursor(stream_tag(api.stream), topic.incarnation, (Position(0, 2_345),)).encode()
        frames = await open_tail(api, cursor=cursor)
        count = 2_655 + stored
        assert await frames.numbers(count) == list(range(2_345, 2_345 + count))
        await frames.socket.close()


async def test_a_cursor_of_another_stream_is_refused_and_of_another_life_a_gap(api: Api):
    other = Cursor(stream_tag(make_stream("other")), 1, (Position(0),)).encode()
    for cursor in (other, "nonsense"):
        answer = await api.get("/api/v1/tail", cursor=cursor)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "cursor")
        with pytest.raises(InvalidStatus) as caught:
            await open_tail(api, cursor=cursor)
        assert caught.value.response.status_code == 400
    await api.send([line(0)])
    topic = await api.bus.create_topic(api.stream.topic)
    # Another life of the log: everything this one holds follows. An offset this log never had: nothing does.
    for incarnation, offset in ((topic.incarnation ^ 1, 77), (topic.incarnation, 77)):
        lost = Cursor(stream_tag(api.stream), incarnation, (Position(offset),)).encode()
        frames = await open_tail(api, cursor=lost)
        gap = await frames.next()
        assert (gap["type"], gap["dropped"]) == ("gap", None)
        if incarnation != topic.incarnation:
            assert await frames.numbers(1) == [0]
        await api.send([line(1)])
        assert await frames.numbers(1) == [1]
        await frames.socket.close()
        await api.stored()


async def test_server_sent_events_carry_the_cursor_as_their_id(api: Api):
    async def events(headers: dict[str, str], count: int) -> list[tuple[str, list[int]]]:
        found = []
        async with api.client.stream("GET", "/api/v1/tail", headers={**api.headers, **headers}) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            identity = ""
            async for text in answer.aiter_lines():
                if text.startswith("id: "):
                    identity = text[4:]
                elif text.startswith("data: "):
                    frame = json.loads(text[6:])
                    assert frame["cursor"] == identity
                    if frame["type"] == "heartbeat" and not found:
                        started.set()
                    if frame["type"] == "records":
                        found.append((identity, [int(r["metadata"]["n"]) for r in frame["records"]]))
                    if sum(len(numbers) for _, numbers in found) >= count:
                        break
        return found

    started = asyncio.Event()
    first = asyncio.create_task(events({}, 2))
    await started.wait()
    await api.send([line(0), line(1)])
    received = await first
    assert [n for _, numbers in received for n in numbers] == [0, 1]
    await api.send([line(2)])
    resumed = await events({"Last-Event-ID": received[-1][0]}, 1)
    assert [n for _, numbers in resumed for n in numbers] == [2]


async def test_ws_sends_arrays_and_nothing_else(api: Api):
    async with connect(api.ws("/ws", level="error,fatal"), additional_headers=api.headers) as socket:
        await _listening(api)
        await api.send([line(i) for i in range(12)])
        found: list[dict[str, Any]] = []
        while len(found) < 4:
            message = json.loads(await asyncio.wait_for(socket.recv(), 20))
            assert isinstance(message, list)
            found += message
        assert [entry["level"] for entry in found] == ["error", "fatal"] * 2
        assert set(found[0]) == {"timestamp", "service", "level", "message", "metadata"}


async def _listening(api: Api, clients: int = 1) -> None:
    """Wait until the server counts `clients`: a WebSocket without frames says nothing by itself."""
    async with asyncio.timeout(20):
        while True:
            text = (await api.client.get("/metrics")).text
            if f'logstream_tail_clients{{stream="default"}} {clients}.0' in text:
                return
            await asyncio.sleep(0.01)


async def test_a_slow_ws_client_is_closed_saying_why(api: Api):
    async with connect(
        api.ws("/ws"), additional_headers=api.headers, compression=None, max_queue=1, ping_interval=None
    ) as socket:
        await _listening(api)
        for number in range(400):
            await api.send([line(number, "x" * 100_000)])
        code, reason = await _closed(socket)
    assert code == 4408
    assert "slow" in reason


async def test_a_slow_tail_client_gets_a_gap_that_counts(api: Api):
    slow = await open_tail(api)
    fast = await open_tail(api)
    total = 500
    for number in range(total):
        await api.send([line(number, "x" * 100_000)])
        assert await fast.numbers(1) == [number]
    await fast.socket.close()
    # websockets has read what its own buffers hold; from here on it reads everything.
    received: list[int] = []
    dropped = 0
    while len(received) + dropped < total:
        frame = await slow.next()
        if frame["type"] == "gap":
            dropped += frame["dropped"]
        else:
            received += [int(record["metadata"]["n"]) for record in frame["records"]]
    assert dropped > 0
    assert len(received) + dropped == total
    assert received == sorted(set(received))
    await api.send([line(total)])
    assert (await slow.numbers(1)) == [total]
    await slow.socket.close()


async def test_the_cap_on_clients_is_answered_visibly(api: Api):
    open_ones = [await open_tail(api) for _ in range(12)]
    answer = await api.get("/api/v1/tail")
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["limit"] == 12
    assert answer.json()["error"]["field"] == "tail_max_clients"
    with pytest.raises(InvalidStatus) as caught:
        await open_tail(api)
    assert caught.value.response.status_code == 429
    # A browser's script sees nothing of a refused upgrade: it gets a close frame.
    async with connect(api.ws("/ws"), additional_headers=api.headers, origin="https://example.com") as browser:
        code, reason = await _closed(browser)
    assert code == 4429
    assert "12" in reason
    await open_ones[0].socket.close()
    await _listening(api, 11)
    open_ones[0] = await open_tail(api)
    for frames in open_ones:
        await frames.socket.close()


async def test_a_revoked_key_ends_its_tails(api: Api):
    created = await api.accounts.create_key("short", scopes=(Scope.READ,))
    async with connect(api.ws("/api/v1/tail"), additional_headers={"Authorization": created.text}) as socket:
        await socket.recv()
        await api.accounts.keys.revoke(created.key.id)
        code, _ = await _closed(socket)
    assert code == 4401


@pytest.mark.parametrize("by_ticket", [False, True])
async def test_a_login_that_ends_ends_its_tails(api: Api, by_ticket: bool):
    login = {"email": "ada@example.com", "password": "correct horse battery"}
    first = {"Authorization": (await api.client.post("/api/v1/signup", json=login)).json()["token"]}
    second = {"Authorization": (await api.client.post("/api/v1/login", json=login)).json()["token"]}
    sockets = []
    for headers in (first, second):
        if by_ticket:
            ticket = (await api.client.post("/api/v1/tickets", headers=headers)).json()["ticket"]
            sockets.append(await connect(api.ws("/api/v1/tail", ticket=ticket)))
        else:
            sockets.append(await connect(api.ws("/api/v1/tail"), additional_headers=headers))
        await sockets[-1].recv()
    assert (await api.client.post("/api/v1/logout", headers=first)).status_code == 204
    assert (await _closed(sockets[0]))[0] == 4401
    await api.send([line(0)])
    assert json.loads(await sockets[1].recv())["type"] == "records"
    await sockets[1].close()


async def test_a_ticket_opens_one_tail(api: Api):
    ticket = (await api.client.post("/api/v1/tickets", headers=api.headers)).json()["ticket"]
    async with connect(api.ws("/api/v1/tail", ticket=ticket)) as socket:
        assert json.loads(await socket.recv())["type"] == "heartbeat"
    with pytest.raises(InvalidStatus) as caught:
        await connect(api.ws("/api/v1/tail", ticket=ticket))
    assert caught.value.response.status_code == 401


async def test_stopping_ends_tails_with_a_cursor_to_come_back_with(tmp_path: Path, engine: EngineProcess):
    async with running_api(tmp_path, engine.url) as api:
        frames = await open_tail(api)
        await api.send([line(0)])
        assert await frames.numbers(1) == [0]
        api.stop.set()
        code, _ = await _closed(frames.socket)
        assert code == 1012
    async with running_api(tmp_path, engine.url) as api:
        await api.send([line(1)])
        again = await open_tail(api, cursor=frames.cursor)
        assert await again.numbers(1) == [1]
        await again.socket.close()


@dataclass
class Account:
    """What one client was told, over all its connections."""

    received: list[int] = field(default_factory=list)
    dropped: int = 0
    cursor: str | None = None
    connections: int = 0

    @property
    def told(self) -> int:
        return len(self.received) + self.dropped


FILTERS = [
    LogFilter(),
    LogFilter.of(services=("payment",)),
    LogFilter.of(levels=(5, 6)),
    LogFilter.of(search="LINE 1"),
    LogFilter.of(services=("auth", "checkout"), levels=(3, 4)),
]


async def test_received_and_declared_gaps_are_what_matched(api: Api):
    """Clients that dawdle, leave at any moment and come back with the cursor of the last frame they had."""
    rng = random.Random(11)
    total = 12_000
    tail = Tail(api.bus, LogReader(api.store), api.stream, TailClients(100), queue_records=300)
    sent: list[Record] = []
    over = asyncio.Event()

    async def produce() -> None:
        numbers = itertools.count()
        while len(sent) < total:
            batch = [line(next(numbers)) for _ in range(rng.choice((1, 1, 3, 40, 200, 1_500)))]
            await api.send(batch)
            sent.extend(batch)
            await asyncio.sleep(rng.choice((0, 0.005, 0.05)))
        over.set()

    async def consume(client: TailClient, account: Account, *, dawdle: float, leave: float) -> None:
        logs = client.logs
        own = random.Random(f"{logs.where}{leave}")
        while True:
            account.connections += 1
            try:
                async with aclosing(client.frames(0.2)) as frames:
                    async for frame in frames:
                        data = json.loads(frame.text)
                        account.cursor = data["cursor"]
                        account.received += [int(r["metadata"]["n"]) for r in data.get("records", ())]
                        account.dropped += data.get("dropped", 0)
                        done = over.is_set() and account.told >= sum(matches(logs, r) for r in sent)
                        if done and account.connections > (5 if leave else 0):
                            return
                        if own.random() < leave:
                            break
                        await asyncio.sleep(own.random() * dawdle)
            finally:
                client.close()
            await asyncio.sleep(own.random() * 0.3)
            client = await tail.open(logs, decode(account.cursor or "", api.stream))

    accounts = [(logs, Account()) for logs in FILTERS for _ in range(3)]
    behaviours = [{"dawdle": 0.0, "leave": 0.0}, {"dawdle": 0.3, "leave": 0.0}, {"dawdle": 0.1, "leave": 0.4}]
    # All stand at the newest line before the first is sent: whoever dawdles falls behind the shared reader.
    consumers = [
        consume(await tail.open(logs), account, **behaviours[i % 3]) for i, (logs, account) in enumerate(accounts)
    ]
    async with asyncio.timeout(120):
        await asyncio.gather(produce(), *consumers)
    await tail.close()
    for logs, account in accounts:
        matched = {int(r.metadata["n"]) for r in sent if matches(logs, r)}
        assert account.told == len(matched)
        assert len(set(account.received)) == len(account.received), "a line came twice"
        assert set(account.received) <= matched
        assert account.received == sorted(account.received)
    assert sum(account.dropped for _, account in accounts) > 0, "no client was slow enough to prove anything"
    assert sum(account.connections for _, account in accounts) >= 10 + 5 * 6
    assert (await api.bus.offsets(api.stream.topic, 0)).beginning > 0, "nothing had to come from the store"
