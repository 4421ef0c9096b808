"""Any text is a query or a syntax error, quickly; any query can be printed in both ways."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstream.query.language import QuerySyntaxError, compile_query, parse, predicate, to_sql
from logstream.query.language.parser import MAX_CHARACTERS
from logstream.record import Record

RECORD = Record(0, "web", 3, "GET /api/v1 timed out after 250 ms", {"n": "250", "k": ""})
TOKENS = [
    "a", "AND", "OR", "NOT", "(", ")", "-", "!", ":", "*", '"', "'", '"x y"', "/r+/", "/", "k:", "k>", "=",
    ">=", "[1 TO 5]", "{", "]", "TO", "5", "1.5s", "10KiB", "level", "level:", "warn", "timestamp:",
    "2026-01-01", "|", "stats", "count()", "p99(n)", "by", "as", "timechart", "1m", "top", "rare", "fields",
    "sort", "desc", "limit", "extract", '"<a> <b>"', "from", ",", "\\", "\\*", "_exists:", "service", "é",
    "where", "filter", "patterns", "count", "n>5",
    "\n", "\0", "$", "{q0:String}", "--", ";",
]  # fmt: skip
SEQUENCES = st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(["", " "])), max_size=20).map(
    lambda pairs: "".join(token + space for token, space in pairs)
)


def _exercise(text: str) -> None:
    try:
        query = parse(text)
    except QuerySyntaxError as error:
        _within(error, text)
        return
    assert isinstance(predicate(query.filter)(RECORD), bool)
    hash(query)
    condition = to_sql(query.filter)
    _only_our_own(condition.sql, condition.parameters)
    try:
        statement = compile_query(query, table="db.logs", limit=100)
    except QuerySyntaxError as error:
        _within(error, text)
        return
    _only_our_own(statement.sql, statement.parameters)
    assert statement.columns


def _within(error: QuerySyntaxError, text: str) -> None:
    assert 1 <= error.column <= len(text) + 1


def _only_our_own(sql: str, parameters: dict[str, object]) -> None:
    """Every value is bound, and nothing else in the SQL is in braces or unknown."""
    # What a later pipe has made useless stays bound.
    assert set(re.findall(r"\{(\w+):", sql)) <= set(parameters)
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\{\w+:[^}]*\}", "", sql)))
    assert {w for w in words if not re.fullmatch(r"[cr]\d+", w)} <= KNOWN


_KNOWN = """
    AND OR NOT IN LIKE AS SELECT FROM WHERE GROUP ORDER BY LIMIT DESC NULLS LAST OVER INTERVAL MINUTE NULL
    timestamp service level message metadata trace_id span_id partition offset row db logs part
    translate has hasAny pairs
    lower lowerUTF8 replaceAll hasToken match position mapContains intDiv fromUnixTimestamp64Nano
    toUnixTimestamp64Nano toFloat64OrNull toFloat64OrZero isFinite assumeNotNull if ifNull arraySum round transform
    extractAllGroupsVertical extractGroups toString positiveModulo count countIf uniqIf sum avg min max
    quantileTDigest isNotNull indexOf HAVING minOrNull maxOrNull
    m replaceRegexpAll replaceRegexpOne multiIf lengthUTF8 substring substringUTF8 concat trim BOTH any grouping
    GROUPING SETS SETTINGS max_rows_to_group_by group_by_overflow_mode
"""
KNOWN = set(_KNOWN.split())


@settings(max_examples=500, deadline=None)
@given(text=SEQUENCES)
def test_sequences_of_the_languages_own_tokens(text: str) -> None:
    _exercise(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text(text: str) -> None:
    _exercise(text)


@pytest.mark.parametrize(
    "piece",
    [
        "(", ")", "-", '"', "\\", "/", "a:", "a:(", "a OR ", "NOT ", "a\\", '\\"', "|", "[", "a:[", "*", "/a",
        "a.", "=", "<", "a|", "| sort ", "'\\'", "a*", "\u0080", "1", "a: ", "  ", '"\\', "a-b ", "!", "a>",
    ],
)  # fmt: skip
def test_long_repetitions_are_answered(piece: str) -> None:
    # A lexer that backtracked would run into the test's time limit here.
    _exercise((piece * MAX_CHARACTERS)[:MAX_CHARACTERS])


def test_what_looks_like_sql_stays_a_value() -> None:
    hostile = "x') OR 1=1 -- {q0:String}"
    condition = to_sql(parse(f'service:"{hostile}" "{hostile}"').filter)
    assert hostile not in condition.sql
    assert hostile in condition.parameters.values()
    _only_our_own(condition.sql, condition.parameters)
