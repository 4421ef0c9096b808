"""Text to syntax tree: what each construct becomes, and what is said about a text that is no query."""

import pytest

from logstream.query.language import QuerySyntaxError, parse
from logstream.query.language import nodes as n
from logstream.query.language.build import MAX_LIMIT, MAX_WILDCARDS
from logstream.query.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_PIPES, MAX_REGEXES, MAX_TERMS
from logstream.query.language.quantity import Kind, Quantity

COUNT = n.Aggregate(n.Function.COUNT, None, "count()")
MESSAGE, SERVICE = n.Field("message"), n.Field("service")
A, B, C = n.Word("a"), n.Word("b"), n.Word("c")


def _number(field: str, operator: n.Operator, value: float) -> n.Compare:
    return n.Compare(_key(field), operator, Quantity(Kind.NUMBER, value))


def _key(key: str) -> n.Field:
    return n.Field("metadata", key)


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("", n.Everything()),
        (" \n\t", n.Everything()),
        ("*", n.Everything()),
        ("a", A),
        ("a b", n.And((A, B))),
        ("a AND b", n.And((A, B))),
        ("a b OR c", n.Or((n.And((A, B)), C))),
        ("a OR b c", n.Or((A, n.And((B, C))))),
        ("NOT a b", n.And((n.Not(A), B))),
        ("-a OR !b", n.Or((n.Not(A), n.Not(B)))),
        ("NOT (a OR b)", n.Not(n.Or((A, B)))),
        ("(a (b c))", n.And((A, B, C))),
        ("NOT -a", n.Not(n.Not(A))),
        ("and or not", n.And((n.Word("and"), n.Word("or"), n.Word("not")))),
        ("ANDROID NOTE", n.And((n.Word("ANDROID"), n.Word("NOTE")))),
        ("it's", n.Word("it's")),
        ("a - b", n.And((A, n.Word("-"), B))),
        ("10.0.0.1 10:30:05", n.And((n.Word("10.0.0.1"), n.Word("10:30:05")))),
        ("http://x.y/z std::vector", n.And((n.Word("http://x.y/z"), n.Word("std::vector")))),
        ("[ERROR]", n.Word("[ERROR]")),
        ("/api/v1/users /api", n.And((n.Word("/api/v1/users"), n.Word("/api")))),
        (r"a\:b \*x", n.And((n.Word("a:b"), n.Word("*x")))),
        (
            "time* *out a*b**c",
            n.And((n.WordPattern(("time", "")), n.WordPattern(("", "out")), n.WordPattern(("a", "b", "c")))),
        ),
        ('"timed out"', n.Phrase("timed out")),
        ("'it''s'", n.And((n.Phrase("it"), n.Phrase("s")))),
        (r'"say \"hi\"\n\\"', n.Phrase('say "hi"\n\\')),
        ('"a*" ""', n.And((n.Phrase("a*"), n.Everything()))),
        (r"/a\/b c$/", n.Regex(MESSAGE, "a/b c$")),
        ("service:payment", n.Equals(SERVICE, "payment")),
        ("service = payment", n.Equals(SERVICE, "payment")),
        ("service==payment", n.Equals(SERVICE, "payment")),
        ("service!=payment", n.Not(n.Equals(SERVICE, "payment"))),
        ("user.id:7 k8s.io/name:x", n.And((n.Equals(_key("user.id"), "7"), n.Equals(_key("k8s.io/name"), "x")))),
        ('"user name":"a b"', n.Equals(_key("user name"), "a b")),
        ('k:""', n.Equals(_key("k"), "")),
        ("metadata.service:x", n.Equals(_key("service"), "x")),
        ("metadata.metadata.x:y", n.Equals(_key("metadata.x"), "y")),
        ("at:10:30:05", n.Equals(_key("at"), "10:30:05")),
        ("n:-5", n.Equals(_key("n"), "-5")),
        ("path:/api/v1", n.Equals(_key("path"), "/api/v1")),
        ("path:/^.api/", n.Regex(_key("path"), "^.api")),
        ("host:web-*", n.Pattern(_key("host"), ("web-", ""))),
        ('host:"web-*"', n.Equals(_key("host"), "web-*")),
        (r"host:web\*", n.Equals(_key("host"), "web*")),
        ("host:* _exists:host", n.And((n.Exists(_key("host")), n.Exists(_key("host"))))),
        ("_exists:level level:* timestamp:*", n.And((n.Everything(),) * 3)),
        ("message:a message:b*", n.And((A, n.WordPattern(("b", ""))))),
        ('message:"a b" message="a b"', n.And((n.Phrase("a b"), n.Equals(MESSAGE, "a b")))),
        ("level:WARNING", n.LevelIs("=", 4)),
        ("level>=warn", n.LevelIs(">=", 4)),
        ("level:>=warn", n.LevelIs(">=", 4)),
        ("level!=debug", n.Not(n.LevelIs("=", 2))),
        ("level:[info TO error}", n.And((n.LevelIs(">=", 3), n.LevelIs("<", 5)))),
        ("n>250", _number("n", ">", 250)),
        ("n <= -2.5e3", _number("n", "<=", -2500)),
        ('n>"1.5 s"', n.Compare(_key("n"), ">", Quantity(Kind.DURATION, 1.5e9))),
        ("n<300ms", n.Compare(_key("n"), "<", Quantity(Kind.DURATION, 3e8))),
        ("n<1h30m", n.Compare(_key("n"), "<", Quantity(Kind.DURATION, 5.4e12))),
        ("n:>10KiB", n.Compare(_key("n"), ">", Quantity(Kind.SIZE, 10240))),
        ("n>1.5mb", n.Compare(_key("n"), ">", Quantity(Kind.SIZE, 1.5e6))),
        ("n:{1 TO 5]", n.And((_number("n", ">", 1), _number("n", "<=", 5)))),
        ("n:[* TO 5]", _number("n", "<=", 5)),
        ("n:[* TO *]", n.Exists(_key("n"))),
        ("timestamp>=2026-01-01T00:00:00Z", n.Time(">=", 1_767_225_600 * 10**9)),
        (
            "timestamp:[2026-01-01 TO 2026-01-02}",
            n.And((n.Time(">=", 1_767_225_600 * 10**9), n.Time("<", 1_767_312_000 * 10**9))),
        ),
        ("service:(a OR b)", n.Or((n.Equals(SERVICE, "a"), n.Equals(SERVICE, "b")))),
        (
            "k:(a* -b (c OR /d/ OR >5))",
            n.And(
                (
                    n.Pattern(_key("k"), ("a", "")),
                    n.Not(n.Equals(_key("k"), "b")),
                    n.Or((n.Equals(_key("k"), "c"), n.Regex(_key("k"), "d"), _number("k", ">", 5))),
                )
            ),
        ),
        ("service:a(b)", n.And((n.Equals(SERVICE, "a"), B))),
    ],
)
def test_filter(query: str, tree: n.Filter) -> None:
    assert parse(query) == n.Query(tree)


@pytest.mark.parametrize(
    ("query", "pipes"),
    [
        ("a | stats count() by service, level", [n.Stats((COUNT,), (n.Name("service"), n.Name("level")))]),
        ("|stats count", [n.Stats((COUNT,))]),
        (
            "| stats p99(latency_ms) as slow, dc(user)",
            [
                n.Stats(
                    (
                        n.Aggregate(n.Function.PERCENTILE, n.Name("latency_ms"), "slow", 99.0),
                        n.Aggregate(n.Function.COUNT_DISTINCT, n.Name("user"), "dc(user)"),
                    )
                )
            ],
        ),
        ("| timechart 1m count() by level", [n.Timechart(60 * 10**9, (COUNT,), (n.Name("level"),))]),
        ("| timechart span=5s", [n.Timechart(5 * 10**9, (COUNT,))]),
        ("| top 3 user_id", [n.Top(3, (n.Name("user_id"),))]),
        ("| rare a, b", [n.Top(10, (n.Name("a"), n.Name("b")), rare=True)]),
        ('| fields service, "user name"', [n.Fields((n.Name("service"), n.Name("user name")))]),
        ("| sort by n desc, m", [n.Sort((n.SortKey(n.Name("n"), True), n.SortKey(n.Name("m"))))]),
        ("| sort -n, m asc", [n.Sort((n.SortKey(n.Name("n"), True), n.SortKey(n.Name("m"))))]),
        ("| limit 5 | head 3", [n.Limit(5), n.Limit(3)]),
        (
            '| extract "user <name> from <_>:<port>"',
            [n.Extract(("user ", " from ", ":", ""), ("name", "", "port"), n.Name("message"))],
        ),
        ('| extract "<a>/<b>" from path', [n.Extract(("", "/", ""), ("a", "b"), n.Name("path"))]),
        ("| patterns", [n.Patterns()]),
        ("stats | stats count by by_", [n.Stats((COUNT,), (n.Name("by_"),))]),
    ],
)
def test_pipes(query: str, pipes: list[n.Pipe]) -> None:
    assert list(parse(query).pipes) == pipes


@pytest.mark.parametrize(
    ("query", "column", "expected"),
    [
        ("a AND", 6, "a word"),
        ("(a", 3, "')'"),
        ("a)", 2, "the end"),
        ("()", 2, "a word"),
        ("a OR OR b", 6, "a word"),
        ("OR a", 1, "a word"),
        ('x "abc', 3, 'a second "'),
        ("'it", 1, "a second '"),
        ("error: no route", 6, "a value"),
        ("k:", 2, "a value"),
        ("k:[1 TO", 8, "a bound"),
        ("k:[1 5]", 6, "TO"),
        ("a > > b", 5, "a value"),
        ("a => b", 3, "a word"),
        ("k:/[/", 3, None),
        (r"/(a)\1/", 1, None),
        ("level:loud", 7, "warn"),
        ("level>=1.5.2", 8, "warn"),
        ("level:err*", 7, "warn"),
        ("level:/x/", 7, None),
        ("k>abc", 3, "a duration as 1.5s"),
        ("k>1*", 3, "a number"),
        ("timestamp>yesterday", 11, "a time as 2026-01-31T12:00:00Z"),
        (r'"C:\d"', 4, r"\\"),
        ("_exists:a*", 9, "a field name"),
        ('"":x', 1, "a field name"),
        ("a |", 4, "stats"),
        ("| foo", 3, "timechart"),
        ("| stats", 8, "a function as count()"),
        ("| stats sum()", 9, "a field name"),
        ("| stats p100(x)", 9, "count"),
        ("| stats p0(x)", 9, "count"),
        ("| stats count() by", 19, "a name"),
        ("| timechart 9999d", 13, None),
        ("| limit 0", 9, None),
        ("| limit x", 9, "a whole number"),
        (f"| limit {MAX_LIMIT + 1}", 9, None),
        ('| extract "nothing"', 11, "<name>"),
        ('| extract "<a><b>"', 11, None),
        ('| extract "<a> <a>"', 11, "<name>"),
    ],
)
def test_an_error_points_at_its_place(query: str, column: int, expected: str | None) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(query)
    assert caught.value.column == column
    assert f"(column {column})" in caught.value.message
    if expected is not None:
        assert expected in caught.value.expected


def test_the_answer_names_place_and_expectation() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse("(a")
    assert caught.value.body() == {
        "error": {
            "code": "query_syntax", "message": "query ends within parentheses: expected ')' (column 3)",
            "field": "query", "column": 3, "expected": ["')'"],
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("within", "beyond", "limit"),
    [
        ("a" * MAX_CHARACTERS, "a" * (MAX_CHARACTERS + 1), MAX_CHARACTERS),
        ("a " * MAX_TERMS, "a " * (MAX_TERMS + 1), MAX_TERMS),
        ("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), MAX_DEPTH),
        ("-" * MAX_DEPTH + "a", "-" * (MAX_DEPTH + 1) + "a", MAX_DEPTH),
        ("-(" * 20 + "a" + ")" * 20, "-(" * 21 + "a" + ")" * 21, MAX_DEPTH),
        ("k:" + "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, "k:" + "(" * 41 + "a" + ")" * 41, MAX_DEPTH),
        ("a*" * MAX_WILDCARDS, "a*" * (MAX_WILDCARDS + 1), MAX_WILDCARDS),
        ("k:" + "*a" * MAX_WILDCARDS, "k:" + "*a" * (MAX_WILDCARDS + 1), MAX_WILDCARDS),
        ("a" + "| limit 5" * MAX_PIPES, "a" + "| limit 5" * (MAX_PIPES + 1), MAX_PIPES),
        ("/a/ " * MAX_REGEXES, "/a/ " * (MAX_REGEXES + 1), MAX_REGEXES),
    ],
)
def test_limits(within: str, beyond: str, limit: int) -> None:
    parse(within)
    with pytest.raises(QuerySyntaxError) as caught:
        parse(beyond)
    assert caught.value.limit == limit


def test_one_level_after_another_is_not_deep() -> None:
    parse("(a) -(b) " * 60)


@pytest.mark.parametrize("query", ["/" + "(" * 900 + "/", "/(x{1000}){1000}/", "/" + r"\pL{500}" * 3 + "/", "/a\0b/"])
def test_a_regular_expression_too_large_to_run_is_refused(query: str) -> None:
    with pytest.raises(QuerySyntaxError, match="regular expression"):
        parse(query)
