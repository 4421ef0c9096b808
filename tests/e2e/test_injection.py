"""SQL in every parameter of the read API, against the real engine: it is text to look for, never a statement."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from benchmarks import harness
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.slow, pytest.mark.engine]

ATTACKS = [
    "' OR '1'='1", "') OR 1=1 --", "\\' OR 1=1 --", "'; DROP TABLE logs; --", "'; TRUNCATE TABLE logs; --",
    "x' UNION ALL SELECT 1,name,1,name,map(),'','' FROM system.databases --", "{f_search:String}", "{f_start:Int64}",
    "{x:Identifier}", "') FORMAT JSON --", "' SETTINGS readonly=0 --", "' INTO OUTFILE '/tmp/x' --", "%", "_", "\\",
    "\\\\'", "'%' || sleep(3)", "'; SYSTEM SHUTDOWN; --", "\0", "\t", "\n';\n", "`", "/*", "*/ OR 1 --", "\\N",
    "file('/etc/passwd')", "url('http://127.0.0.1:1')", "'),(", "0x27", "\u2019 OR 1=1", "&query=SELECT+1",
    "1 OR 1", "1; SELECT 1", "-1", "1e400", "NaN", "2026-01-01' OR '1", "now()", "18446744073709551616",
]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(ATTACKS),
    st.tuples(st.sampled_from(ATTACKS), st.sampled_from(ATTACKS)).map("".join),
    st.text(st.sampled_from("'\"\\`;-()%_{}:,=/*\0\n\t aORd10"), max_size=12),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
)
MESSAGES = ["plain", "it's 100% done", "a\\b_c", "x' OR '1'='1", "{f_search:String}", "tab\there", "nul\0byte"]
QUIET = settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


class World:
    """A platform with a few known lines."""

    def __init__(self, running: harness.Platform) -> None:
        self.running = running
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{running.api_port}", timeout=30, trust_env=False,
            headers={"Authorization": f"Bearer {running.api_key}"},
        )  # fmt: skip
        body = "\n".join(json.dumps({"service": f"s'{i % 3}", "message": text}) for i, text in enumerate(MESSAGES))
        answer = httpx.post(
            f"http://127.0.0.1:{running.collector_port}/ingest", content=body, trust_env=False,
            headers={"Authorization": f"Bearer {running.api_key}"},
        )  # fmt: skip
        assert answer.json()["accepted"] == len(MESSAGES)
        while self.get("/api/v1/ledger").json()["total"]["in_flight"]:
            pass
        self.objects = self._objects()

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return self.client.get(path, params=parameters)

    def _objects(self) -> list[list[Any]]:
        return self.running.sql(
            "SELECT database, name, create_table_query FROM system.tables WHERE database LIKE 'logstream%'"
            " OR database = 'default' ORDER BY ALL"
        )

    def check_unharmed(self) -> None:
        assert self._objects() == self.objects
        [[rows]] = self.running.sql(f"SELECT count() FROM {self.running.database()}.logs")
        assert int(rows) == len(MESSAGES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("injection")
    running = harness.start(folder / "data", log=folder / "platform.log")
    world = World(running)
    yield world
    world.check_unharmed()
    world.client.close()
    assert running.stop() == 0
    assert '"level": "error"' not in (folder / "platform.log").read_text()


def _fold(text: str) -> str:
    return text.lower().replace("ς", "σ")


@QUIET
@given(text=TEXT)
def test_a_search_finds_what_holds_the_text(world: World, text: str) -> None:
    answer = world.get("/logs", search=text)
    assert answer.status_code == 200, answer.text
    assert {entry["message"] for entry in answer.json()} == {m for m in MESSAGES if _fold(text) in _fold(m)}
    counted = world.get("/stats", search=text)
    assert sum(minute["count"] for minute in counted.json()) == len(answer.json())


@QUIET
@given(text=TEXT)
def test_a_service_is_a_name(world: World, text: str) -> None:
    names = {name for part in text.split(",") if (name := part.strip())}
    answer = world.get("/logs", service=text)
    assert answer.status_code == 200, answer.text
    expected = {m for i, m in enumerate(MESSAGES) if not names or f"s'{i % 3}" in names}
    assert {entry["message"] for entry in answer.json()} == expected


@QUIET
@given(name=st.sampled_from(["level", "start_time", "end_time", "limit", "stream"]), text=TEXT)
def test_other_parameters_are_understood_or_refused(world: World, name: str, text: str) -> None:
    for path in ("/logs", "/stats"):
        answer = world.get(path, **{name: text})
        assert answer.status_code in {200, 400, 403, 404}, (path, answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]
        else:
            assert len(answer.json()) <= len(MESSAGES)


@QUIET
@given(text=TEXT)
def test_ledger_and_dead_letters_take_no_sql(world: World, text: str) -> None:
    for answer in (
        world.get("/api/v1/ledger", stream=text),
        world.get("/api/v1/deadletters", cursor=text),
        world.get("/api/v1/deadletters", stream=text),
        world.get("/api/v1/deadletters", limit=text),
        world.get(f"/api/v1/deadletters/{quote(text, safe='')}"),
        world.client.get("/api/v1/ledger", headers={"Authorization": text.encode().hex() + "'"}),
    ):
        assert answer.status_code in {200, 307, 400, 401, 403, 404}, answer.text
