"""Every example of docs/query.md, on both sides."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import running_api
from tests.support.engine import EngineProcess
from tests.support.table import Table

from logstream.query.language import QuerySyntaxError, parse, predicate, to_sql
from logstream.query.language.build import MAX_WILDCARDS
from logstream.query.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_PIPES, MAX_REGEXES, MAX_TERMS
from logstream.query.language.regex import MAX_PATTERN_CHARACTERS
from logstream.query.time import format_time, parse_time
from logstream.record import Record, parse_level

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()


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
def table(engine: EngineProcess) -> Iterator[Table]:
    table = Table(engine.url, "language-docs", LINES)
    yield table
    table.close()


def test_the_page_has_what_this_file_looks_for() -> None:
    assert (len(LINES), len(TABLES), len(ERRORS)) == (6, 13, 6)
    filters, _ = ANSWERED.split("## Pipes")
    assert len(FILTERS) == filters.count("\n| `") > 60


@pytest.mark.parametrize(("query", "numbers"), FILTERS)
def test_a_filter_finds_the_lines_the_page_says(table: Table, query: str, numbers: str) -> None:
    wanted = [int(number) for number in numbers.split() if number != "–"]
    asked = parse(query).filter
    matches = predicate(asked)
    assert [number for number, record in enumerate(LINES, 1) if matches(record)] == wanted
    assert [row + 1 for row in table.rows(to_sql(asked))] == wanted


@pytest.mark.parametrize(("query", "answer"), TABLES)
def test_a_pipeline_answers_the_table_of_the_page(table: Table, query: str, answer: str) -> None:
    head, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in answer.splitlines()]
    columns, found = table.ask(query.replace("\\|", "|"), limit=100)
    assert [column.name for column in columns] == head
    assert [[_shown(*cell) for cell in zip(head, row, strict=True)] for row in found] == rows


def _shown(name: str, value: Any) -> str:
    if name in ("timestamp", "last"):
        return format_time(value)
    return (
        f"{value:.5g}"
        if isinstance(value, float) and value > 100
        else (f"{value:.1f}" if isinstance(value, float) else str(value))
    )


async def test_requests_are_answered_as_the_page_says(tmp_path: Path, engine: EngineProcess) -> None:
    asked = re.findall(r"^GET (\S+?)\?(.*)\n(\{(?:.*\n)+?)?```", PAGE, re.MULTILINE)
    assert [bool(answer) for _, _, answer in asked] == [False, True]
    async with running_api(tmp_path, engine.url) as api:
        await api.store_all(LINES)
        for path, parameters, answer in asked:
            found = await api.get(path, **dict(pair.split("=", 1) for pair in parameters.split("&")))
            assert found.status_code == 200, found.text
            assert found.json()
            assert not answer or found.json() == json.loads(answer)


@pytest.mark.parametrize(("query", "column", "message"), ERRORS)
def test_an_error_is_as_the_page_says(query: str, column: str, message: str) -> None:
    with pytest.raises(QuerySyntaxError, match="^" + re.escape(message)) as caught:
        parse(query.replace("\\|", "|"))
    assert caught.value.column == int(column)


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    said = [int(number) for number in re.findall(r"\d+", PAGE[PAGE.rindex("A query has at most") :])]
    assert said == [
        MAX_CHARACTERS,
        MAX_TERMS,
        MAX_DEPTH,
        MAX_PIPES,
        MAX_REGEXES,
        MAX_WILDCARDS,
        MAX_PATTERN_CHARACTERS,
        256,
    ]
