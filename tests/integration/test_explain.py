"""`/api/v1/explain` on the real engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.api import Api, running_api
from tests.support.engine import EngineProcess

from logstream.query.explain import Explainer
from logstream.query.language import Statement
from logstream.record import Level, Record
from logstream.storage.progress import COST, Cost

pytestmark = pytest.mark.engine

SECOND = 10**9
START = 1_767_225_600 * SECOND
PERIOD = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T01:00:00Z"}


@pytest.fixture
async def api(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Api]:
    async with running_api(tmp_path, engine.url) as running:
        await running.store_all(
            [Record(START + i * SECOND, f"service-{i % 3}", Level.INFO, f"line {i}") for i in range(900)]
        )
        yield running


async def test_it_says_sql_parameters_and_indexes(api: Api) -> None:
    answer = await api.get("/api/v1/explain", query="service:service-1 line | stats count() by level", **PERIOD)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert "service-1" not in told["sql"]
    assert "service-1" in told["parameters"].values()
    assert f"{api.stream.database}.logs" in told["sql"]
    indexes = {(index["type"], index["name"]): index for index in told["indexes"]}
    key = indexes["PrimaryKey", None]
    assert key["source"] == "logs"
    assert "service" in key["keys"]
    assert "service-1" in key["condition"]
    assert any(kind == "Skip" for kind, _ in indexes)
    assert told["parts"] == {"selected": 1, "initial": 1}
    assert told["granules"]["selected"] == 1
    assert told["rows"] == 900
    assert told["measured"] is None


@pytest.mark.parametrize(
    "query",
    [
        "",
        "| stats count() by service, level",
        "| timechart 1m count() by level",
        "| top 3 service",
        "| fields service, message | sort service | limit 3",
        '| extract "line <number>" | stats max(number)',
        "| patterns",
        "message:/line [0-9]+/ OR nobody:none*",
    ],
)
async def test_every_pipe_can_be_explained(api: Api, query: str) -> None:
    answer = await api.get("/api/v1/explain", query=query, analyze="true", **PERIOD)
    assert answer.status_code == 200, answer.text
    assert answer.json()["indexes"]
    # It would tell of the explanation, not of the query.
    assert "x-rows-read" not in answer.headers
    # Counts by service and level come from the roll-up.
    assert answer.json()["measured"]["rows_read"] >= (1 if "count()" in query or "top" in query else 900)


async def test_a_period_without_lines_reads_nothing(api: Api) -> None:
    told = (await api.get("/api/v1/explain", query="x", start_time="2020-01-01", end_time="2020-01-02")).json()
    assert told["granules"]["selected"] == 0
    assert told["rows"] == 0


async def test_analyze_runs_it(api: Api) -> None:
    told = (await api.get("/api/v1/explain", query="service:service-1", analyze="true", limit=20, **PERIOD)).json()
    assert told["measured"]["rows"] == 21, "one more tells whether there is more"
    assert told["measured"]["rows_read"] >= 20
    assert told["measured"]["bytes_read"] > 0
    assert told["measured"]["milliseconds"] > 0


async def test_memory_is_seen_while_it_runs(api: Api) -> None:
    cost = Cost()
    token = COST.set(cost)
    try:
        asked = Statement("SELECT uniqExact(number) + sum(sleepEachRow(0.01)) FROM numbers(50)", {}, ())
        measured = await Explainer(api.store)._measure(asked)
    finally:
        COST.reset(token)
    assert measured.memory is not None
    assert measured.memory > 0
    assert not cost.abandoned


@pytest.mark.parametrize(
    ("params", "status", "field"),
    [
        ({"query": "("}, 400, "query"),
        ({"query": "a | stats sum(level)"}, 400, "query"),
        ({"limit": "0"}, 400, "limit"),
        ({"start_time": "2026-01-02", "end_time": "2026-01-01"}, 400, "start_time"),
        ({"stream": "other"}, 403, "stream"),
    ],
)
async def test_refusals(api: Api, params: dict[str, str], status: int, field: str) -> None:
    answer = await api.get("/api/v1/explain", **params)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


async def test_it_needs_a_key(api: Api) -> None:
    assert (await api.client.get("/api/v1/explain", params={"query": "x"})).status_code == 401
