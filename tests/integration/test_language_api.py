"""The query language over HTTP: filters on every read, pipes on /api/v1/query, and never a 500."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess
from tests.support.queries import HOSTILE_FILTERS, HOSTILE_QUERIES, QUERIES

from logstream.query.language import QuerySyntaxError, compile_query, parse, parse_filter
from logstream.query.time import format_time
from logstream.record import Record
from logstream.settings import ApiSettings

pytestmark = pytest.mark.engine

SECOND = 10**9
BASE = 1_700_000_040 * SECOND
FROM, TO = format_time(BASE), format_time(BASE + 3600 * SECOND)
MAX_LIMIT = 500
LINES = [
    Record(
        BASE + i * SECOND,
        ("web", "payment", "auth")[i % 3],
        (3, 3, 3, 4, 5)[i % 5],
        f"user u{i % 7} timed out after {i} ms" if i % 2 else f"GET /cart/{i} took {i} ms",
        {"ms": str(i * 10), "user": f"u{i % 7}"},
    )
    for i in range(60)
]


FILTERED = [
    "/logs",
    "/stats",
    "/api/v1/search",
    "/api/v1/histogram",
    "/api/v1/facets",
    "/api/v1/fields",
    "/api/v1/patterns",
]


class Client:
    """The API on an event loop of its own, since hypothesis is not async."""

    def __init__(self, path: Path, url: str) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.api = self._runner.run(self._open(path, url))

    async def _open(self, path: Path, url: str) -> Api:
        api = await self._stack.enter_async_context(running_api(path, url, settings=ApiSettings(max_limit=MAX_LIMIT)))
        await api.store_all(LINES)
        return api

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self._runner.run(self.api.get(path, **params))

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._runner.run(self.api.client.post(path, json=body, headers=self.api.headers))

    def query(self, query: str, **params: Any) -> dict[str, Any]:
        answer = self.get("/api/v1/query", query=query, **{"start_time": FROM, "end_time": TO, **params})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, engine: EngineProcess) -> Iterator[Client]:
    client = Client(tmp_path_factory.mktemp("language-api"), engine.url)
    yield client
    client.close()


def test_a_filter_narrows_together_with_the_other_parameters(client: Client) -> None:
    answer = client.get("/logs", query='level>=warn "timed out" ms>300', service="web,auth", start_time=FROM)
    wanted = [
        r.metadata["ms"]
        for r in reversed(LINES)
        if r.level >= 4 and "timed out" in r.message and int(r.metadata["ms"]) > 300 and r.service != "payment"
    ]
    assert wanted
    assert [entry["metadata"]["ms"] for entry in answer.json()] == wanted
    counted = client.get("/stats", query="-GET", start_time=FROM).json()
    assert sum(minute["count"] for minute in counted) == 30


def test_bounds_of_time_in_the_query_are_bounds_of_the_read(client: Client) -> None:
    # Without them, the hour before now would be read.
    query = f"timestamp>={FROM} timestamp<{format_time(BASE + 10 * SECOND)}"
    assert len(client.get("/logs", query=query).json()) == 10
    assert len(client.get("/logs", query=query, start_time=format_time(BASE + 4 * SECOND)).json()) == 6
    assert client.get("/api/v1/query", query=f"{query} | stats count()").json()["rows"] == [[10]]
    assert client.get("/logs", query=f"timestamp>{TO} timestamp<{FROM}").json() == []


def test_lines_and_kinds_of_columns(client: Client) -> None:
    answer = client.query("timed | limit 1")
    assert answer == {
        "columns": [
            {"name": "timestamp", "kind": "time"},
            {"name": "service", "kind": "text"},
            {"name": "level", "kind": "level"},
            {"name": "message", "kind": "text"},
            {"name": "metadata", "kind": "map"},
            {"name": "trace_id", "kind": "text"},
            {"name": "span_id", "kind": "text"},
        ],
        "rows": [
            [format_time(BASE + 59 * SECOND), "auth", "error", "user u3 timed out after 59 ms",
             {"ms": "590", "user": "u3"}, "", ""]
        ],
        "truncated": False,
    }  # fmt: skip


def test_pipes(client: Client) -> None:
    answer = client.query("timed | timechart 1m count() as n, max(timestamp) as last by level | where n>3 | sort -n")
    assert answer["columns"] == [
        {"name": "timestamp", "kind": "time"},
        {"name": "level", "kind": "level"},
        {"name": "n", "kind": "number"},
        {"name": "last", "kind": "time"},
    ]
    assert answer["rows"] == [
        [FROM, "info", 18, format_time(BASE + 57 * SECOND)],
        [FROM, "warn", 6, format_time(BASE + 53 * SECOND)],
        [FROM, "error", 6, format_time(BASE + 59 * SECOND)],
    ]
    assert client.query("nothing | stats max(timestamp), avg(ms)")["rows"] == [[None, None]]


def test_patterns(client: Client) -> None:
    answer = client.query("| patterns | where timed OR count>5 | fields pattern, count")
    assert sorted(answer["rows"]) == [["GET <*> took <*> ms", 30], ["user <*> timed out after <*> ms", 30]]
    assert client.query("timed | patterns 1 | fields percent")["rows"] == [[100.0]]


def test_an_answer_says_when_it_is_cut(client: Client) -> None:
    assert client.query("| fields ms", limit=10)["truncated"] is True
    assert client.query("| fields ms | limit 10", limit=10)["truncated"] is False
    assert len(client.query("| fields ms", limit=60)["rows"]) == 60
    assert client.query("| fields ms", limit=60)["truncated"] is False
    # A chart leaves out its oldest rows, and stays ascending.
    whole = client.query("| timechart 1s")
    assert (len(whole["rows"]), whole["truncated"]) == (60, False)
    assert whole["rows"] == sorted(whole["rows"])
    cut = client.query("| timechart 1s", limit=10)
    assert (cut["rows"], cut["truncated"]) == (whole["rows"][-10:], True)


def test_the_body_of_a_post_asks_the_same(client: Client) -> None:
    body = {"query": "timed | stats count() by service", "service": ["web"], "start_time": FROM, "end_time": TO}
    answer = client.post("/api/v1/query", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [["web", 10]]
    assert client.post("/api/v1/query", {"query": "(", "other": 1}).status_code == 400
    assert client.post("/api/v1/query", {"limit": MAX_LIMIT + 1}).json()["error"]["limit"] == MAX_LIMIT
    assert client.post("/api/v1/query", {"query": "("}).json()["error"]["code"] == "query_syntax"


@pytest.mark.parametrize("path", ["/logs", "/stats", "/api/v1/tail", "/ws", "/api/v1/query"])
def test_a_syntax_error_says_where(client: Client, path: str) -> None:
    answer = client.get(path, query="level:loud")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["field"], error["column"]) == ("query_syntax", "query", 7)
    assert "warn" in error["expected"]


@pytest.mark.parametrize("path", ["/logs", "/stats", "/api/v1/tail", "/ws"])
def test_pipes_have_no_place_where_lines_are_asked_for(client: Client, path: str) -> None:
    error = client.get(path, query="timed | stats count()").json()["error"]
    assert (error["code"], error["column"]) == ("query_syntax", 7)
    assert "/api/v1/query" in error["message"]


def test_a_query_that_is_too_long_is_refused(client: Client) -> None:
    for path in ("/logs", "/api/v1/query"):
        answer = client.get(path, query="a" * 4097)
        assert (answer.status_code, answer.json()["error"]["limit"]) == (400, 4096)


def _check(answer: httpx.Response, query: str, compiled: Callable[[str], object]) -> None:
    """`answer` is what it must be for a query that `compiled` takes, or refuses."""
    try:
        compiled(query)
        wanted = None
    except QuerySyntaxError as error:
        wanted = error.body()
    assert answer.status_code == (400 if wanted else 200), (query, answer.text)
    assert wanted is None or answer.json() == wanted


@settings(max_examples=200, deadline=None)
@given(query=QUERIES | HOSTILE_QUERIES)
def test_any_query_is_answered_or_refused(client: Client, query: str) -> None:
    answer = client.get("/api/v1/query", query=query, start_time=FROM, end_time=TO)
    _check(answer, query, lambda text: compile_query(parse(text), table="db.logs", limit=1))
    if answer.status_code == 200:
        columns = answer.json()["columns"]
        assert all(len(row) == len(columns) for row in answer.json()["rows"])


@settings(max_examples=60, deadline=None)
@given(query=HOSTILE_FILTERS, path=st.sampled_from(FILTERED))
def test_any_filter_is_answered_or_refused(client: Client, query: str, path: str) -> None:
    _check(client.get(path, query=query, end_time=TO), query, parse_filter)
