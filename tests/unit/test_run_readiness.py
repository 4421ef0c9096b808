"""What /readyz, /livez and a port before its application answer."""

import asyncio
import json
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from logstream import web
from logstream.errors import StartupError, StoreUnavailable, Unavailable
from logstream.run.dependencies import Stopped, accounts_check, reached
from logstream.run.front import Front, Probes
from logstream.run.readiness import Readiness, Tolerated
from logstream.web import App


class Answer:
    def __init__(self, messages: list[MutableMapping[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.headers: dict[bytes, bytes] = dict(messages[0]["headers"])
        self.body: Any = json.loads(messages[1]["body"])


async def ask(app: App, path: str = "/readyz", method: str = "GET") -> Answer:
    messages: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    await app({"type": "http", "path": path, "method": method, "headers": []}, receive, send)
    return Answer(messages)


async def fine() -> None: ...


async def away() -> None:
    raise StoreUnavailable("ClickHouse does not answer")


async def without() -> None:
    raise Tolerated("going on without it")


async def test_each_dependency_is_named_with_its_reason() -> None:
    readiness = Readiness("log", "store", "accounts")
    front = Probes(readiness)
    answer = await ask(front)
    assert answer.status == 503
    assert answer.body["checks"] == dict.fromkeys(("log", "store", "accounts"), "not reached yet")
    readiness.reached("log", fine)
    readiness.reached("accounts", fine)
    readiness.waiting("store", "connection refused")
    readiness.reached("log", fine)
    answer = await ask(front)
    assert answer.status == 503
    assert answer.headers[b"retry-after"] == b"2"
    assert answer.body["checks"] == {"log": "ok", "store": "connection refused", "accounts": "ok"}
    assert answer.body["status"] == "degraded"
    readiness.reached("store", away)
    assert (await ask(front)).body["checks"]["store"] == "ClickHouse does not answer"
    readiness.reached("store", fine)
    answer = await ask(front)
    assert (answer.status, answer.body["status"]) == (200, "ok")


async def test_what_a_process_can_do_without_is_told_and_tolerated() -> None:
    readiness = Readiness("log", "accounts")
    readiness.reached("log", fine)
    readiness.reached("accounts", without)
    answer = await ask(Probes(readiness))
    assert answer.status == 200
    assert answer.body["status"] == "degraded"
    assert answer.body["checks"] == {"log": "ok", "accounts": "going on without it"}


async def test_a_stopping_process_is_not_ready_but_alive() -> None:
    readiness = Readiness("log")
    readiness.reached("log", fine)
    readiness.is_stopping = True
    answer = await ask(Probes(readiness))
    assert (answer.status, answer.body["status"]) == (503, "stopping")
    assert answer.body["checks"] == {"process": "stopping", "log": "ok"}
    assert (await ask(Probes(readiness), "/livez")).status == 200


async def test_many_who_ask_at_once_are_one_question() -> None:
    asked = 0

    async def slow() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    readiness = Readiness("log")
    readiness.reached("log", slow)
    answers = await asyncio.gather(*(ask(Probes(readiness)) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert asked == 1


async def test_metrics_may_be_kept_from_those_who_are_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await web.respond(send, 200, b"{}")

    for has_metrics, status in ((True, 200), (False, 404)):
        front = Front(Readiness(), details=has_metrics)
        statuses = []
        for attached in (False, True):
            if attached:
                front._app = app
            messages: list[MutableMapping[str, Any]] = []
            for method in ("GET", "HEAD", "POST"):
                messages.clear()

                async def send(message: MutableMapping[str, Any], messages: Any = messages) -> None:
                    messages.append(message)

                await front({"type": "http", "path": "/metrics", "method": method, "headers": []}, None, send)  # type: ignore[arg-type]
                statuses.append(messages[0]["status"])
        assert [statuses[n] for n in (0, 1, 3, 4)] == [status] * 4
        if not has_metrics:
            assert set(statuses) == {404}
        assert (await ask(front, "/livez")).status == 200


async def test_reasons_may_be_kept_from_those_who_are_served() -> None:
    readiness = Readiness("log", "store")
    readiness.waiting("store", "10.0.0.7: connection refused")
    readiness.reached("log", fine)
    front = Front(readiness, details=False)
    answer = await ask(front)
    assert (answer.status, answer.body["checks"]["store"]) == (503, "not ok")
    assert answer.body["checks"]["log"] == "ok"
    assert "10.0.0.7" not in str((await ask(front, "/api/v1/ledger")).body)
    assert "10.0.0.7" in str((await ask(Front(readiness))).body)


async def test_a_port_answers_before_its_application_is_there() -> None:
    readiness = Readiness("log")
    readiness.waiting("log", "no broker")
    front = Front(readiness)
    answer = await ask(front, "/ingest", "POST")
    assert answer.status == 503
    assert answer.body["error"]["message"] == "starting; log: no broker"
    assert answer.headers[b"retry-after"] == b"2"
    assert (await ask(front, "/livez")).status == 200


async def test_a_process_is_ready_when_its_application_is_there() -> None:
    readiness = Readiness("log")
    front = Front(readiness)
    readiness.reached("log", fine)
    answer = await ask(front)
    assert (answer.status, answer.body["status"]) == (503, "starting")
    assert answer.body["checks"] == {"process": "starting", "log": "ok"}
    attached = asyncio.create_task(front.attach(Probes(readiness), asyncio.Event()))
    await asyncio.sleep(0)
    assert (await ask(front)).status == 200
    attached.cancel()


async def test_answers_of_a_stopping_process_end_their_connections() -> None:
    readiness = Readiness()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"Connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": b"{}"})

    front = Front(readiness)
    stop = asyncio.Event()
    attached = asyncio.create_task(front.attach(app, stop))
    await asyncio.sleep(0)
    assert (await ask(front, "/ingest")).headers == {b"Connection": b"keep-alive"}
    readiness.is_stopping = True
    assert (await ask(front, "/ingest")).headers == {b"connection": b"close"}
    attached.cancel()


async def test_a_port_for_probes_has_nothing_else() -> None:
    assert (await ask(Probes(Readiness()), "/ingest")).status == 404
    assert (await ask(Probes(Readiness()), "/livez", "POST")).status == 404


async def test_a_dependency_is_tried_until_it_is_there_and_its_reason_told() -> None:
    readiness = Readiness("log")
    tries = 0

    async def attempt() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise (Unavailable, StartupError)[tries - 1](f"try {tries}")
        assert readiness.missing() == {"log": "try 2"}
        return "bus"

    both = (StartupError, Unavailable)
    assert await reached("log", attempt, readiness, asyncio.Event(), passing=both) == "bus"


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_stop_ends_the_waiting(hangs: bool) -> None:
    stop = asyncio.Event()

    async def attempt() -> None:
        asyncio.get_running_loop().call_later(0.01, stop.set)
        if hangs:
            await asyncio.Event().wait()
        raise Unavailable("away")

    with pytest.raises(Stopped):
        await reached("log", attempt, Readiness("log"), stop)


async def test_what_does_not_pass_is_not_waited_for() -> None:
    async def attempt() -> None:
        raise StartupError("settings that are of no use")

    with pytest.raises(StartupError):
        await reached("log", attempt, Readiness("log"), asyncio.Event())


async def test_accounts_may_be_away_as_long_as_known_keys_count() -> None:
    gate = SimpleNamespace(away=False, age=0.0)
    accounts = SimpleNamespace(settings=SimpleNamespace(stale_seconds=60.0))
    check = accounts_check(accounts, gate)  # type: ignore[arg-type]
    await check()
    gate.away, gate.age = True, 59.0
    with pytest.raises(Tolerated, match="count for 60 s"):
        await check()
    gate.age = 61.0
    with pytest.raises(Unavailable, match="more than 60 s"):
        await check()
    gate.away, gate.age = False, 0.0
    await check()
    # The gate tells how long, not whoever asked /readyz last.
    gate.away, gate.age = True, 1.0
    with pytest.raises(Tolerated):
        await check()
