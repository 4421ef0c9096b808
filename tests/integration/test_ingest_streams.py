"""Keys of one stream and of all streams at the collector, and the quota of a whole stream."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.ingest import Ingest, ingest

from logstream.auth.principal import Quota, Scope
from logstream.auth.streams import StreamInfo
from logstream.clock import ManualClock

LINES = '{"message": "a"}\n' * 10


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Ingest]:
    """A collector whose clock stands still, so that quotas do."""
    async with ingest(tmp_path, clock=ManualClock()) as running:

        async def make(info: StreamInfo) -> None:
            await running.bus.create_topic(info.stream.topic)

        running.accounts.on_stream_created(make)
        yield running


async def made(running: Ingest, stream: str | None) -> str:
    return (await running.accounts.create_key("a key", scopes=[Scope.INGEST], stream=stream)).text


async def post(running: Ingest, key: str, **query: str) -> httpx.Response:
    return await running.client.post("/ingest", content=LINES, params=query, headers={"authorization": key})


async def waiting(running: Ingest, name: str) -> int:
    ledger = await running.bus.ledger(running.gate.info(name).stream.topic)
    return sum(entry.in_flight for entry in ledger)


def error(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["error"].get("field")


async def test_a_key_of_all_streams_names_one(running: Ingest) -> None:
    await running.accounts.streams.create("payments")
    every = await made(running, None)
    assert error(await post(running, every)) == (400, "stream")
    assert error(await post(running, every, stream="nowhere")) == (404, "stream")
    for name in ("payments", "default", "payments"):
        assert (await post(running, every, stream=name)).status_code == 202
    assert (await waiting(running, "payments"), await waiting(running, "default")) == (20, 10)


async def test_any_other_key_may_only_name_its_own(running: Ingest) -> None:
    await running.accounts.streams.create("payments")
    theirs = await made(running, "payments")
    assert (await post(running, theirs)).status_code == 202
    assert (await post(running, theirs, stream="payments", other="x")).status_code == 202
    assert error(await post(running, theirs, stream="default")) == (403, "stream")
    assert (await post(running, theirs, **{f"x{n}": "1" for n in range(101)})).status_code == 400
    assert (await waiting(running, "payments"), await waiting(running, "default")) == (20, 0)


async def test_the_quota_of_a_stream_bounds_all_its_keys_together(running: Ingest) -> None:
    await running.accounts.streams.create("payments", quota=Quota(10, None))
    keys = [await made(running, name) for name in ("payments", "payments", None)]
    for key in keys[:2]:
        assert (await post(running, key, stream="payments")).status_code == 202
    refused = await post(running, keys[2], stream="payments")
    assert error(refused) == (429, "records_per_second")
    assert "this stream is 10 records per second" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "1"
    assert (await post(running, keys[2], stream="default")).status_code == 202
    await running.accounts.update_stream("payments", quota=Quota())
    assert (await post(running, keys[2], stream="payments")).status_code == 202


async def test_a_stream_that_is_deleted_takes_no_more(running: Ingest) -> None:
    await running.accounts.streams.create("payments")
    theirs, every = await made(running, "payments"), await made(running, None)
    assert (await post(running, theirs)).status_code == 202
    await running.accounts.streams.delete("payments")
    assert (await post(running, theirs)).status_code == 401
    assert error(await post(running, every, stream="payments")) == (404, "stream")
