"""Every example of docs/query.md, on both sides."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import EngineProcess

from logstream.query.language import QuerySyntaxError, compile_query, parse, predicate, to_sql
from logstream.query.language.build import MAX_WILDCARDS
from logstream.query.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_PIPES, MAX_TERMS
from logstream.query.language.regex import MAX_PATTERN_CHARACTERS
from logstream.query.time import format_time, parse_time
from logstream.record import Batch, Record, parse_level
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.schema import CREATE_LOGS
from logstream.storage.store import Store
from logstream.stream import make_stream

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()
STREAM = make_stream("language-docs")


def _record(line: str) -> Record:
    sent = json.loads(line)
    level = parse_level(sent["level"])
    assert level is not None
    return Record(parse_time(sent["timestamp"], "timestamp"), sent["service"], int(level), sent["message"],
                  sent["metadata"], sent.get("trace_id", ""))  # fmt: skip


LINES = [_record(line) for line in re.findall(r"^\{.*\}$", PAGE, re.MULTILINE)]
ANSWERED, REFUSED = PAGE.split("## Errors and limits")
_QUERY = r"`([^`]+)`"
FILTERS = re.findall(rf"^\| {_QUERY} \| (–|\d(?: \d)*) \|", ANSWERED, re.MULTILINE)
TABLES = re.findall(rf"^{_QUERY}\n\n((?:\|.*\n)+)", ANSWERED, re.MULTILINE)
ERRORS = re.findall(rf"^\| {_QUERY} \| (\d+) \| ([^|]+) \|$", REFUSED, re.MULTILINE)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def store(engine: EngineProcess, runner: asyncio.Runner) -> Iterator[Store]:
    async def fill() -> Store:
        store = await Store.connect(StoreSettings(url=engine.url))
        await store._command(f"CREATE DATABASE {STREAM.database}")
        await store._command(CREATE_LOGS.format(database=STREAM.database))
        source = block.Provenance(1_790_000_000 * 10**9, [("k", len(LINES))], 1, 0, 0)
        body = block.encode(Batch.of(LINES))
        await store.insert(STREAM, block.seal(body, len(LINES), source), rows=len(LINES), token="lines")
        return store

    store = runner.run(fill())
    yield store
    runner.run(store.close())


def test_the_page_has_what_this_file_looks_for() -> None:
    assert (len(LINES), len(TABLES), len(ERRORS)) == (6, 8, 6)
    filters, _ = ANSWERED.split("## Pipes")
    assert len(FILTERS) == filters.count("\n| `") > 60


@pytest.mark.parametrize(("query", "numbers"), FILTERS)
def test_a_filter_finds_the_lines_the_page_says(store: Store, runner: asyncio.Runner, query: str, numbers: str) -> None:
    wanted = [int(number) for number in numbers.split() if number != "–"]
    asked = parse(query).filter
    matches = predicate(asked)
    assert [number for number, record in enumerate(LINES, 1) if matches(record)] == wanted
    where = to_sql(asked)
    sql = f"SELECT row + 1 FROM {STREAM.database}.logs WHERE {where.sql} ORDER BY row"
    assert [row for (row,) in runner.run(store.query(sql, where.parameters)).rows] == wanted


@pytest.mark.parametrize(("query", "table"), TABLES)
def test_a_pipeline_answers_the_table_of_the_page(store: Store, runner: asyncio.Runner, query: str, table: str) -> None:
    head, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    statement = compile_query(parse(query), table=f"{STREAM.database}.logs", limit=100)
    answer = runner.run(store.query(statement.sql, statement.parameters))
    assert [column.name for column in statement.columns] == head
    assert [[_shown(*cell) for cell in zip(head, row, strict=True)] for row in answer.rows] == rows


def _shown(name: str, value: Any) -> str:
    if name == "timestamp":
        return format_time(value)
    return (
        f"{value:.5g}"
        if isinstance(value, float) and value > 100
        else (f"{value:.1f}" if isinstance(value, float) else str(value))
    )


@pytest.mark.parametrize(("query", "column", "message"), ERRORS)
def test_an_error_is_as_the_page_says(query: str, column: str, message: str) -> None:
    with pytest.raises(QuerySyntaxError, match="^" + re.escape(message)) as caught:
        parse(query.replace("\\|", "|"))
    assert caught.value.column == int(column)


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    said = [int(number) for number in re.findall(r"\d+", PAGE[PAGE.rindex("A query has at most") :])]
    assert said == [MAX_CHARACTERS, MAX_TERMS, MAX_DEPTH, MAX_PIPES, MAX_WILDCARDS, MAX_PATTERN_CHARACTERS, 256]
