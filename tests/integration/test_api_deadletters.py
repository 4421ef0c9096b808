"""Dead letters over HTTP, made by the real processor."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.auth.principal import Scope
from logstream.bus.header import Header, Segment
from logstream.clock import SystemClock
from logstream.record import Record
from logstream.settings import ApiSettings, IngestLimits

pytestmark = pytest.mark.engine


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        created = await running.accounts.create_key("admin", scopes=(Scope.READ, Scope.ADMIN))
        running.key, running.key_id = created.text, created.key.id
        yield running


async def test_letters_are_listed_newest_first_page_by_page(api: Api):
    assert (await api.get("/api/v1/deadletters")).json() == {"deadletters": [], "next": None, "scanned": 0}
    await poison(api)
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
        before = {"cursor": page["next"]}
    assert seen == [f"poison {number}" for number in (4, 3, 2, 1, 0)]
    letter = page["deadletters"][-1]
    assert letter["key_id"] == api.key_id
    assert letter["record"]["timestamp"] == "1970-01-01T00:00:00Z"
    assert "raw" not in letter
    single = (await api.get(f"/api/v1/deadletters/{letter['id']}")).json()
    assert single["raw"]
    assert {**single, **letter} == single
    assert (single["disposition"], single["raw_text"]) == (None, None)
    raw = await api.get(f"/api/v1/deadletters/{letter['id']}/raw")
    assert base64.b64encode(raw.content).decode() == single["raw"]
    ledger = (await api.get("/api/v1/ledger")).json()
    assert ledger["balanced"]
    assert (ledger["total"]["dead_lettered"], ledger["total"]["present"]) == (5, 5)


async def test_wrong_ids_are_named_and_unknown_ones_not_found(api: Api):
    for path, params, field in (
        ("/x", {}, "id"),
        ("/0-99999999999999999999", {}, "id"),
        ("", {"cursor": "1-1"}, "cursor"),
        ("", {"state": "gone"}, "state"),
        ("", {"start_time": "then"}, "start_time"),
    ):
        answer = await api.get(f"/api/v1/deadletters{path}", **params)
        assert answer.status_code == 400, path
        assert answer.json()["error"]["field"] == field
    assert (await api.get("/api/v1/deadletters/0-7")).status_code == 404


async def test_a_replayed_line_is_held_to_the_limits_of_the_settings(tmp_path: Path, engine: EngineProcess):
    settings = ApiSettings(limits=IngestLimits(max_message_bytes=64))
    async with running_api(tmp_path, engine.url, settings=settings) as api:
        api.key = (await api.accounts.create_key("admin", scopes=(Scope.ADMIN,))).text
        for size, status in ((64, 200), (65, 400)):
            asked = {"ids": ["0-0"], "set": {"message": "x" * size}}
            answer = await api.client.post("/api/v1/deadletters/replay", json=asked, headers=api.headers)
            assert answer.status_code == status
        assert (answer.json()["error"]["field"], answer.json()["error"]["limit"]) == ("set.message", 64)


async def poison(api: Api) -> None:
    """From now on the table refuses messages with "poison"."""
    await api.store.command(
        f"ALTER TABLE {api.stream.database}.logs ADD CONSTRAINT p CHECK message NOT LIKE '%poison%'"
    )


async def cure(api: Api) -> None:
    await api.store.command(f"ALTER TABLE {api.stream.database}.logs DROP CONSTRAINT p")


async def post(api: Api, what: str, **body: Any) -> dict[str, Any]:
    answer = await api.client.post(f"/api/v1/deadletters/{what}", json=body, headers=api.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def letters(api: Api, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/api/v1/deadletters", **params)).json()["deadletters"]
    return found


async def rows(api: Api, columns: str) -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM {api.stream.database}.logs ORDER BY timestamp, offset, row"
    return [tuple(row) for row in (await api.store.query(query)).rows]


async def test_letters_are_replayed_once_with_their_time_and_key(api: Api):
    await poison(api)
    await api.store_all([Record(number, "s", 3, f"poison {number}", {"n": str(number)}) for number in range(10)])
    await cure(api)
    found = await letters(api, state="waiting")
    ids = [letter["id"] for letter in found]
    dry = await post(api, "replay", ids=ids, dry_run=True)
    assert (dry["counts"], len(dry["records"])) == ({"replayed": 10}, 10)
    assert await rows(api, "message") == []
    done = await post(api, "replay", ids=[*ids, ids[0]])
    assert done["counts"] == {"replayed": 10}
    await api.stored()
    expected = [(number, "s", f"poison {number}", {"n": str(number)}, api.key_id) for number in range(10)]
    columns = "toUnixTimestamp64Nano(timestamp), service, message, metadata, key_id"
    assert await rows(api, columns) == expected
    again = await post(api, "replay", ids=ids)
    assert again["counts"] == {"already_replayed": 10}
    assert (await post(api, "discard", ids=ids))["counts"] == {"already_replayed": 10}
    await api.stored()
    assert await rows(api, columns) == expected
    assert await letters(api, state="waiting") == []
    one = (await api.get(f"/api/v1/deadletters/{ids[0]}")).json()
    assert (one["state"], one["disposition"]["action"], one["disposition"]["by"]) == (
        "replayed",
        "replayed",
        "key admin",
    )
    assert one["disposition"]["offset"] is not None


async def test_what_is_refused_again_is_a_letter_of_its_own(api: Api):
    await poison(api)
    await api.store_all([Record(1, "s", 3, "poison"), Record(2, "s", 3, "good")])
    [first] = await letters(api)
    for attempt in (2, 3):
        [waiting] = await letters(api, state="waiting")
        assert (await post(api, "replay", ids=[waiting["id"]]))["counts"] == {"replayed": 1}
        await api.stored()
        [again] = await letters(api, state="waiting")
        assert (again["attempt"], again["previous"], again["first"]) == (attempt, waiting["id"], first["id"])
    assert (await post(api, "replay", ids=[again["id"]], set={"message": "cured"}))["counts"] == {"replayed": 1}
    await api.stored()
    assert await rows(api, "toUnixTimestamp64Nano(timestamp), message") == [(1, "cured"), (2, "good")]
    assert [letter["state"] for letter in await letters(api)] == ["replayed"] * 3


async def test_replays_change_what_they_are_told_to(api: Api):
    await poison(api)
    await api.store_all([Record(1, "s", 3, "poison", {"keep": "1", "drop": "2"})])
    [letter] = await letters(api)
    change = {
        "set": {
            "timestamp": "2026-01-01T00:00:00Z", "service": "t", "level": "WARN", "message": "m", "trace_id": "a",
            "span_id": "b", "metadata": {"new": "3"},
        },
        "drop_metadata": ["drop", "none"],
    }  # fmt: skip
    dry = await post(api, "replay", ids=[letter["id"]], dry_run=True, **change)
    assert dry["records"][letter["id"]]["message"] == "m"
    assert (await post(api, "replay", ids=[letter["id"]], **change))["counts"] == {"replayed": 1}
    await api.stored()
    assert await rows(api, "toString(timestamp), service, toString(level), message, metadata, trace_id, span_id") == [
        ("2026-01-01 00:00:00.000000000", "t", "warn", "m", {"keep": "1", "new": "3"}, "a", "b")
    ]
    for body, field in (
        ({"set": {"level": "loud"}}, "set.level"),
        ({"set": {"timestamp": "then"}}, "set.timestamp"),
        ({"set": {"service": ""}}, "set.service"),
        ({"set": {"trace_id": "x" * 300}}, "set.trace_id"),
        ({"set": {"metadata": {"": "x"}}}, "set.metadata"),
    ):
        answer = await api.client.post("/api/v1/deadletters/replay", json={"ids": ["0-0"], **body}, headers=api.headers)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_filters_find_letters_by_all_they_have(api: Api):
    await poison(api)
    for number in range(6):
        await api.store_all([Record(0, f"s{number % 2}", 3, f"poison NO {number}")])
    everything = await letters(api)

    async def found(**params: Any) -> list[str]:
        return [letter["record"]["message"][-1] for letter in await letters(api, **params)]

    assert await found(search="no 3") == ["3"]
    assert await found(search="constraint") == list("543210")
    assert await found(service="s1") == list("531")
    assert await found(service="s1,s0", limit=2) == list("54")
    assert await found(key=api.key_id) == list("543210")
    assert await found(key="other") == []
    assert await found(code=everything[0]["clickhouse_code"]) == list("543210")
    assert await found(code=1) == []
    assert await found(end_time="2020-01-01T00:00:00Z") == []
    assert await found(start_time="2020-01-01T00:00:00Z", end_time="2100-01-01T00:00:00Z") == list("543210")
    discarded = await post(api, "discard", filter={"service": ["s0"]}, limit=2)
    assert discarded["counts"] == {"discarded": 2}
    assert discarded["next"] is not None
    assert await found(state="discarded") == list("42")
    rest = await post(api, "discard", filter={"service": ["s0"]}, limit=2, cursor=discarded["next"])
    assert (rest["counts"], rest["next"]) == ({"discarded": 1}, None)
    assert await found(state="waiting") == list("531")
    assert (await post(api, "replay", filter={"state": ["discarded"]}))["counts"] == {"already_discarded": 3}


async def test_pages_neither_skip_nor_repeat_while_letters_come_and_go(api: Api):
    await poison(api)
    for number in range(6):
        await api.store_all([Record(0, "s", 3, f"poison {number}")])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get("/api/v1/deadletters", limit=2, **cursor)).json()
        seen += [letter["record"]["message"][-1] for letter in answer["deadletters"]]
        if answer["next"] is None:
            break
        cursor = {"cursor": answer["next"]}
        await api.store_all([Record(0, "s", 3, "poison new")])
        await post(api, "discard", ids=[answer["deadletters"][0]["id"]])
    assert seen == list("543210")


async def test_only_admins_change_letters(api: Api):
    created = await api.accounts.create_key("reader", scopes=(Scope.READ, Scope.INGEST))
    for what in ("replay", "discard"):
        answer = await api.client.post(
            f"/api/v1/deadletters/{what}", json={"ids": ["0-0"]}, headers={"Authorization": created.text}
        )
        assert answer.status_code == 403
        answer = await api.client.post(f"/api/v1/deadletters/{what}", json={}, headers=api.headers)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "ids")
        assert (await post(api, what, ids=["0-7"]))["counts"] == {"missing": 1}


async def test_two_replays_at_once_send_a_letter_once(api: Api):
    await poison(api)
    await api.store_all([Record(number, "s", 3, f"poison {number}") for number in range(50)])
    await cure(api)
    ids = [letter["id"] for letter in await letters(api, limit=100)]
    answers = await asyncio.gather(*(post(api, "replay", ids=ids) for _ in range(4)))
    outcomes = Counter(result["outcome"] for answer in answers for result in answer["results"])
    assert outcomes["replayed"] == 50
    assert set(outcomes) <= {"replayed", "busy", "already_replayed"}
    await api.stored()
    assert len(await rows(api, "message")) == 50


async def test_a_record_that_cannot_be_read_is_downloaded_and_discarded(api: Api):
    head = Header(3, SystemClock().now_ns(), 0, 0, (Segment(api.key_id, 3),))
    await api.bus.publish(api.stream.topic, head, b"no block")
    await api.stored()
    [letter] = await letters(api)
    assert (letter["row"], letter["rows"], letter["record"]) == (None, 3, None)
    answer = await post(api, "replay", ids=[letter["id"]])
    assert answer["counts"] == {"unreplayable": 1}
    assert "discard" in answer["results"][0]["detail"]
    raw = (await api.get(f"/api/v1/deadletters/{letter['id']}/raw")).content
    assert raw.endswith(b"no block")
    assert (await post(api, "discard", ids=[letter["id"]]))["counts"] == {"discarded": 1}
    terms = (await api.get("/api/v1/ledger")).json()["total"]
    assert (terms["dead_lettered"], terms["dead_letters"]["discarded"]) == (3, 3)


async def test_the_ledger_tells_what_became_of_letters(api: Api):
    await poison(api)
    await api.store_all(
        [Record(number, "s", 3, f"poison {number}") for number in range(6)] + [Record(9, "s", 3, "good")]
    )
    found = [letter["id"] for letter in await letters(api)]
    await cure(api)
    await post(api, "replay", ids=found[:2])
    await post(api, "discard", ids=found[2:3])
    await api.stored()
    ledger = (await api.get("/api/v1/ledger")).json()
    assert ledger["balanced"]
    total = ledger["total"]
    assert (total["accepted"], total["stored"], total["dead_lettered"], total["present"]) == (9, 3, 6, 3)
    assert total["dead_letters"] == {"waiting": 3, "replaying": 0, "replayed": 2, "discarded": 1, "expired": 0}
    [of_key] = ledger["keys"]
    assert of_key["dead_letters"] == total["dead_letters"]
    whole = (await api.get("/api/v1/ledger", start_time="2020-01-01T00:00:00Z", end_time="2200-01-01T00:00:00Z")).json()
    assert whole == ledger | {"start_time": "2020-01-01T00:00:00Z", "end_time": "2200-01-01T00:00:00Z"}
    none = (await api.get("/api/v1/ledger", end_time="2020-01-01T00:00:00Z")).json()
    assert none["balanced"]
    assert (none["total"]["accepted"], none["total"]["present"], none["total"]["dead_letters"]["replayed"]) == (0, 0, 0)
    wrong = await api.get("/api/v1/ledger", start_time="2021-01-01T00:00:00Z", end_time="2020-01-01T00:00:00Z")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "start_time")


async def test_a_key_that_only_reads_does_not_see_them(api: Api):
    created = await api.accounts.create_key("reader", scopes=(Scope.READ,))
    answer = await api.client.get("/api/v1/deadletters", headers={"Authorization": created.text})
    assert answer.status_code == 403
