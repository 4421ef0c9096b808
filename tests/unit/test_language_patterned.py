"""The pipes behind `patterns`, without an engine."""

import random

import pytest

from logstream.errors import TooExpensive
from logstream.query.language import compile_query, parse, patterned
from logstream.query.language.patterned import Steps, finish

COUNTED = [
    ("", 1, 110, "any"),
    ("GET <*> took <*>", 0, 60, "GET /a took 5"),
    ("user <*> left", 0, 30, "user 7 left"),
    ("card declined", 0, 9, "card declined"),
]


def _steps(query: str) -> Steps:
    statement = compile_query(parse(query), table="db.logs", limit=1)
    assert statement.patterns is not None
    assert statement.columns == statement.patterns.columns
    return statement.patterns


def test_patterns_are_counted_against_all_lines_and_the_rest_is_told() -> None:
    found = finish(COUNTED, _steps("| patterns"))
    assert [row[:2] for row in found.rows] == [("GET <*> took <*>", 60), ("user <*> left", 30), ("card declined", 9)]
    assert found.rows[0][2] == pytest.approx(60 * 100 / 110)
    assert found.rest == 11


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("| patterns 2 | fields count", [(60,), (30,)]),
        ("| patterns | sort count | limit 1 | fields pattern, count", [("card declined", 9)]),
        (
            "| patterns | sort -pattern | fields pattern",
            [("user <*> left",), ("card declined",), ("GET <*> took <*>",)],
        ),
        ("| patterns | where count>9 -took | fields count", [(30,)]),
        ("| patterns | where percent<10 OR example:/user/ | fields count", [(30,), (9,)]),
        ("| patterns | limit 1 | where user", []),
    ],
)
def test_pipes_behind_patterns(query: str, rows: list[tuple[object, ...]]) -> None:
    assert finish(COUNTED, _steps(query)).rows == rows


def test_no_line_has_no_pattern() -> None:
    found = finish([("", 1, 0, "")], _steps("| patterns"))
    assert (found.rows, found.rest) == ([], 0)


def test_a_filter_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterned, "MAX_SECONDS", 0.02)
    text = "".join(random.Random(1).choices("ab", k=1_000))
    counted = [("", 1, 200, ""), *((f"x{'y' * i}", 0, 1, text) for i in range(200))]
    with pytest.raises(TooExpensive):
        finish(counted, _steps("| patterns | where example:/a[ab]{300}c/ OR example:/b[ab]{300}c/"))
