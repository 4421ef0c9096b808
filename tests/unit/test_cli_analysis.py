"""Facets, patterns and explanations as a person sees them."""

from typing import Any

from logstream.cli.analysis import change, facet_lines, pattern_lines, percent
from logstream.cli.explain import pretty

PATTERN = {
    "template": "user <*> logged in from <*>", "count": 30, "before": 20, "change": 1.5, "share": 0.75, "new": False,
    "query": 'user logged "it\'s"', "examples": ["user bob\nlogged in from 10.0.0.1\x1b[2J", "another"],
}  # fmt: skip


def patterns(*found: dict[str, Any], previous: int = 20) -> dict[str, Any]:
    return {"patterns": list(found), "previous_total": previous}


def test_changes() -> None:
    def of(count: int, before: int) -> str:
        return change({"count": count, "change": count / before if before else None})[0]

    assert [of(3, 0), of(0, 3), of(3, 3), of(15, 10), of(5, 10), of(20, 10), of(125, 10), of(32, 10)] == [
        "new", "gone", "+0 %", "+50 %", "-50 %", "+100 %", "×12", "×3.2",
    ]  # fmt: skip


def test_patterns_off_a_terminal_are_a_line_each() -> None:
    assert list(pattern_lines(patterns(PATTERN), width=None, verbose=False, colour=False)) == [
        "count    share    change  pattern",
        "   30   75.0 %     +50 %  user <*> logged in from <*>",
    ]


def test_without_a_period_before_there_is_no_change() -> None:
    lines = list(pattern_lines(patterns(PATTERN, previous=0), width=None, verbose=False, colour=False))
    assert lines == ["count    share  pattern", "   30   75.0 %  user <*> logged in from <*>"]


def test_verbose_patterns_show_an_example_and_how_to_find_more() -> None:
    lines = list(pattern_lines(patterns(PATTERN), width=None, verbose=True, colour=False))
    assert [line.strip() for line in lines[2:]] == [
        "e.g. user bob logged in from 10.0.0.1\\x1b[2J",
        "find: logstream search 'user logged \"it'\"'\"'s\"'",
    ]


def test_long_templates_are_folded_below_themselves() -> None:
    long = {**PATTERN, "template": "word " * 40}
    head, first, *more = pattern_lines(patterns(long), width=60, verbose=False, colour=False)
    assert more
    assert all(len(line) <= 60 for line in (head, first, *more))
    assert {len(line) - len(line.lstrip()) for line in more} == {first.index("word")}


def test_facets() -> None:
    found: list[dict[str, Any]] = [
        {
            "field": "level", "distinct": 2, "missing": 0, "approximate": False,
            "values": [{"value": "info", "count": 999}, {"value": "error", "count": 1}],
        },
        {
            "field": "host", "distinct": 1, "missing": 500, "approximate": True,
            "values": [{"value": "h" * 300, "count": 500}],
        },
    ]  # fmt: skip
    lines = list(facet_lines(found, 1000, width=80, colour=False))
    assert lines[0] == "level  2 values"
    assert lines[1].split() == ["info", "999", "99.9", "%", "█" * 20]
    assert lines[2].split()[1:4] == ["1", "0.1", "%"]
    assert lines[4] == "host  1 value, 500 logs without it, others may be more frequent"
    assert max(map(len, lines)) <= 80


def test_a_share_is_never_shown_as_nothing() -> None:
    assert [percent(0), percent(0.0004), percent(0.5), percent(1)] == ["0.0 %", "< 0.1 %", "50.0 %", "100.0 %"]


def test_sql_is_a_clause_a_line_with_its_values_below() -> None:
    sql = "SELECT service FROM db.logs WHERE 1 AND message = {f_0:String} GROUP BY service LIMIT 1001"
    assert list(pretty(sql, {"f_0": "a\x1b[2J"}, colour=False)) == [
        "SELECT service", "FROM db.logs", "WHERE 1", "  AND message = {f_0:String}", "GROUP BY service", "LIMIT 1001",
        '  f_0 = "a\\u001b[2J"',
    ]  # fmt: skip
