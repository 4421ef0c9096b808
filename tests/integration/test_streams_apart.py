"""Two streams of one platform: what is open in one stays closed in the other, and what names a place in one does not
work in the other."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess
from tests.support.processor import processor_settings, publish

from logstream import processor
from logstream.auth.principal import Scope
from logstream.auth.roles import Role
from logstream.auth.saved import ViewContent
from logstream.clock import SystemClock
from logstream.query.time import format_time
from logstream.record import Record
from logstream.stream import make_stream

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

BASE = 1_700_000_040 * 10**9
RANGE = {"start_time": format_time(BASE), "end_time": format_time(BASE + 60 * 10**9)}
LINES = 5


@dataclass
class Two:
    """Stream `default` and stream `other`, each with lines that name it. headers: of one caller each."""

    api: Api
    headers: dict[str, dict[str, str]]
    ids: dict[str, str]
    cursors: dict[str, str]
    views: dict[str, str]

    async def get(self, path: str, caller: str = "nobody", **params: Any) -> tuple[int, str]:
        """Status and body; of a tail, which has no end, its first event."""
        async with self.api.client.stream("GET", path, params=params, headers=self.headers[caller]) as answer:
            if "event-stream" in answer.headers.get("content-type", ""):
                return answer.status_code, await anext(answer.aiter_text())
            return answer.status_code, (await answer.aread()).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory, engine: EngineProcess) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("apart")
    async with running_api(folder, engine.url) as api:
        other = make_stream("other", namespace="test", generation=f"{os.getpid()}-{folder}")
        await api.bus.create_topic(other.topic)
        await api.store.migrate(other, retention_days=10_000)
        await api.accounts.ensure_stream(other)
        user = await api.accounts.users.create("reader@example.com", "correct horse battery", role=Role.VIEWER)
        tokens = {
            "person": (await api.accounts.logins.log_in(user.email, "correct horse battery")).token,
            "default": api.key,
            "other": (await api.accounts.create_key("other", scopes=(Scope.READ,), stream="other")).text,
            "admin": (await api.accounts.create_key("admin", scopes=tuple(Scope), stream="default")).text,
        }
        headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()} | {"nobody": {}}
        await api.gate.refresh()
        stop = asyncio.Event()
        processing = asyncio.create_task(
            processor.serve(
                processor_settings(), bus=api.bus, store=api.store, streams=[other], clock=SystemClock(), stop=stop
            )
        )
        try:
            await api.store_all([Record(BASE + i, "web", 3, f"default line {i}") for i in range(LINES)])
            await publish(api.bus, other, [Record(BASE + i, "web", 3, f"other line {i}") for i in range(LINES)])
            async with asyncio.timeout(30):
                while any(entry.in_flight for entry in await api.bus.ledger(other.topic)):
                    await asyncio.sleep(0.01)
            found = Two(api, headers, {}, {}, {})
            for stream in ("default", "other"):
                status, body = await found.get("/api/v1/search", "person", stream=stream, limit=2, **RANGE)
                assert status == 200
                page = json.loads(body)
                assert [line["message"] for line in page["logs"]] == [f"{stream} line {i}" for i in (4, 3)]
                found.ids[stream], found.cursors[stream] = page["logs"][0]["id"], page["next"]
                content = ViewContent(name=stream, stream=stream, query="secret", shared=True)
                found.views[stream] = (await api.accounts.saved.create(user.id, content)).id
            yield found
        finally:
            stop.set()
            await processing


@pytest_asyncio.fixture(loop_scope="module")
async def two(both: Two) -> Two:
    """Both closed, whatever the test before did."""
    for stream in ("default", "other"):
        await both.api.accounts.update_stream(stream, anonymous_reads=False)
    await both.api.gate.refresh()
    return both


# Open to nobody in particular, where the stream is.
READS: dict[str, dict[str, Any]] = {
    "/logs": RANGE, "/stats": RANGE, "/api/v1/search": RANGE, "/api/v1/histogram": RANGE, "/api/v1/facets": RANGE,
    "/api/v1/fields": RANGE, "/api/v1/patterns": RANGE, "/api/v1/query": RANGE, "/api/v1/export": RANGE,
    "/api/v1/explain": RANGE, "/api/v1/context": {}, "/api/v1/tail": {}, "/ws": {}, "/api/v1/saved": {},
}  # fmt: skip
ELSEWHERE = {
    "/api/v1/ledger",
    "/api/v1/deadletters",
    "/api/v1/deadletters/{id}",
    "/api/v1/deadletters/{id}/raw",
    "/api/v1/saved/{view_id}",
}
"""Tested apart: for callers alone, or of one view."""


async def test_every_route_of_a_stream_is_known_here(two: Two) -> None:
    paths = (await two.api.client.get("/openapi.json")).json()["paths"]
    taking = {
        path
        for path, operations in paths.items()
        if any(parameter["name"] == "stream" for parameter in operations.get("get", {}).get("parameters", ()))
    }
    assert taking == READS.keys() | ELSEWHERE


@pytest.mark.parametrize("path", sorted(READS))
async def test_nobody_reads_what_is_open_and_nothing_else(two: Two, path: str) -> None:
    asked = {
        stream: READS[path] | ({"id": two.ids[stream]} if path.endswith("context") else {})
        for stream in ("default", "other")
    }
    for stream in ("default", "other"):
        status, body = await two.get(path, stream=stream, **asked[stream])
        assert (status, json.loads(body)["error"]["code"]) == (401, "unauthenticated")
    assert (await two.get(path, **asked["default"]))[0] == 401
    for opened, closed in (("other", "default"), ("default", "other")):
        await two.api.accounts.update_stream(closed, anonymous_reads=False)
        await two.api.accounts.update_stream(opened, anonymous_reads=True)
        await two.api.gate.refresh()
        status, body = await two.get(path, stream=opened, **asked[opened])
        assert status == (426 if path == "/ws" else 200), body
        assert closed not in body
        status, body = await two.get(path, stream=closed, **asked[closed])
        assert (status, json.loads(body)["error"]["code"]) == (401, "unauthenticated")
        # Asked twice, one of them is meant, and nobody gets past the other.
        for names in ([opened, closed], [closed, opened]):
            status, body = await two.get(path, stream=names, **asked[closed])
            assert status != 200 or closed not in body


async def test_a_post_is_refused_as_the_get_is(two: Two) -> None:
    await two.api.accounts.update_stream("default", anonymous_reads=True)
    await two.api.gate.refresh()
    for stream, status in (("default", 200), ("other", 401)):
        answer = await two.api.client.post("/api/v1/query", params={"stream": stream}, json={"query": "*", **RANGE})
        assert answer.status_code == status
        assert "other line" not in answer.text


@pytest.mark.parametrize(
    "path", ["/api/v1/ledger", "/api/v1/deadletters", "/api/v1/deadletters/0-0", "/api/v1/deadletters/0-0/raw"]
)
async def test_what_is_for_callers_stays_so(two: Two, path: str) -> None:
    await two.api.accounts.update_stream("default", anonymous_reads=True)
    await two.api.gate.refresh()
    for stream in ("default", "other"):
        assert (await two.get(path, stream=stream))[0] == 401
    assert (await two.get(path, "default", stream="other"))[0] == 403
    assert (await two.get("/api/v1/queries"))[0] == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/deadletters/replay", {"ids": ["0-0"]}),
        ("/api/v1/deadletters/discard", {"ids": ["0-0"]}),
        ("/api/v1/ledger/verify", None),
    ],
)
async def test_an_admin_of_one_stream_changes_nothing_in_the_other(two: Two, path: str, body: object) -> None:
    async def answer(stream: str) -> int:
        response = await two.api.client.post(
            path, params={"stream": stream}, json=body, headers=two.headers["admin"]
        )  # fmt: skip
        return response.status_code

    assert await answer("other") == 403
    assert await answer("default") not in {401, 403}


@pytest.mark.parametrize("path", ["/api/v1/deadletters", "/api/v1/deadletters/0-0", "/api/v1/deadletters/0-0/raw"])
async def test_an_admin_of_one_stream_sees_no_letters_of_the_other(two: Two, path: str) -> None:
    assert (await two.get(path, "admin", stream="other"))[0] == 403
    assert (await two.get(path, "admin"))[0] in {200, 404}


async def test_keys_read_their_own_stream_alone(two: Two) -> None:
    for path in sorted(READS):
        asked = READS[path] | ({"id": two.ids["other"]} if path.endswith("context") else {})
        status, body = await two.get(path, "default", stream="other", **asked)
        assert (status, json.loads(body)["error"]["field"]) == (403, "stream"), path


@pytest.mark.parametrize(("here", "there"), [("default", "other"), ("other", "default")])
async def test_what_names_a_place_works_in_its_stream_alone(two: Two, here: str, there: str) -> None:
    refused = await two.get("/api/v1/search", "person", stream=there, cursor=two.cursors[here], limit=2, **RANGE)
    assert (refused[0], json.loads(refused[1])["error"]["field"]) == (400, "cursor")
    refused = await two.get("/api/v1/context", "person", stream=there, id=two.ids[here])
    assert (refused[0], json.loads(refused[1])["error"]["field"]) == (400, "id")
    # The stream of a key is meant where none is named.
    assert (await two.get("/api/v1/search", there, cursor=two.cursors[here], limit=2, **RANGE))[0] == 400
    assert (await two.get("/api/v1/context", there, id=two.ids[here]))[0] == 400
    status, body = await two.get("/api/v1/search", here, cursor=two.cursors[here], limit=2, **RANGE)
    assert (status, [line["message"] for line in json.loads(body)["logs"]]) == (
        200,
        [f"{here} line {i}" for i in (2, 1)],
    )
    status, body = await two.get("/api/v1/context", here, id=two.ids[here])
    assert (status, json.loads(body)["line"]["message"]) == (200, f"{here} line 4")


@pytest.mark.parametrize(("here", "there"), [("default", "other"), ("other", "default")])
async def test_a_view_is_for_readers_of_its_stream(two: Two, here: str, there: str) -> None:
    place = f"/api/v1/saved/{two.views[here]}"
    assert (await two.get(place, here))[0] == 200
    assert (await two.get(place, "person"))[0] == 200
    status, body = await two.get(place, there)
    assert status == 404
    assert "secret" not in body
    _, body = await two.get("/api/v1/saved", there)
    assert [view["id"] for view in json.loads(body)["views"]] == [two.views[there]]
    await two.api.accounts.update_stream(there, anonymous_reads=True)
    await two.api.gate.refresh()
    for params in ({}, {"stream": here}, {"stream": there}):
        status, body = await two.get(place, **params)
        assert status in {401, 404}
        assert "secret" not in body


async def test_a_tail_cursor_works_in_its_stream_alone(two: Two) -> None:
    text = ""
    async with two.api.client.stream("GET", "/api/v1/tail", headers=two.headers["default"]) as answer:
        await two.api.send([Record(BASE + 3600 * 10**9, "web", 3, "a line")])
        async for piece in answer.aiter_text():
            text += piece
            if "\n\n" in text.partition("id: ")[2]:
                break
    cursor = text.partition("id: ")[2].partition("\n")[0]
    for header, params in (({}, {"cursor": cursor}), ({"Last-Event-ID": cursor}, {})):
        headers = two.headers["other"] | header
        async with two.api.client.stream("GET", "/api/v1/tail", params=params, headers=headers) as answer:
            assert answer.status_code == 400
            assert json.loads(await answer.aread())["error"]["field"] == "cursor"


async def test_a_read_in_one_stream_is_not_seen_in_the_other(two: Two) -> None:
    async with two.api.client.stream("GET", "/api/v1/export", params=RANGE, headers=two.headers["default"]) as answer:
        assert json.loads((await two.get("/api/v1/queries", "other"))[1]) == {"queries": []}
        place = f"/api/v1/queries/{answer.headers['x-query-id']}"
        assert (await two.api.client.delete(place, headers=two.headers["other"])).status_code == 404


async def test_one_verification_at_a_time_and_the_other_is_told(two: Two) -> None:
    answers = await asyncio.gather(
        *(two.api.client.post("/api/v1/ledger/verify", headers=two.headers["admin"]) for _ in range(4))
    )
    last = [json.loads(answer.text.splitlines()[-1]) for answer in answers]
    assert sum("verification" in told for told in last) >= 1
    assert {told["error"]["code"] for told in last if "error" in told} <= {"too_many_requests"}
    assert {answer.status_code for answer in answers} <= {200, 429}
