"""Pipes on the real engine, each against the same thing done in Python."""

import contextlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.engine import EngineProcess
from tests.support.queries import QUERIES
from tests.support.table import Table

from logstream.query.filter import LogFilter, to_sql
from logstream.query.language import QuerySyntaxError, compile_query, parse
from logstream.query.language.result import Column
from logstream.record import LEVEL_LABELS, Record

pytestmark = pytest.mark.engine

START, SECOND = 1_700_000_000 * 10**9, 10**9
POOL = [
    Record(
        START + i * SECOND,
        ("web", "payment", "auth")[i % 3],
        (3, 3, 3, 4, 5)[i % 5],
        f"user u{i % 7} logged in from 10.0.0.{i % 4}" if i % 2 else f"GET /cart/{i} took {i} ms",
        {"ms": str(i * 10), "user": f"u{i % 7}"} if i % 4 else {"ms": "slow"},
    )
    for i in range(200)
]
Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]


@pytest.fixture(scope="module")
def table(engine: EngineProcess) -> Iterator[Table]:
    table = Table(engine.url, "language-pipes", POOL)
    yield table
    table.close()


@pytest.fixture
def ask(table: Table) -> Ask:
    return lambda query: table.ask(query)[1]


def _names(columns: tuple[Column, ...]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def _numbers() -> list[float]:
    return [float(r.metadata["ms"]) for r in POOL if r.metadata["ms"] != "slow"]


def test_lines_come_whole_and_newest_first(table: Table) -> None:
    columns, rows = table.ask("service:web | limit 3")
    assert _names(columns) == ("timestamp", "service", "level", "message", "metadata", "trace_id", "span_id")
    wanted = [r for r in reversed(POOL) if r.service == "web"][:3]
    assert rows == [(r.timestamp, r.service, LEVEL_LABELS[r.level - 1], r.message, r.metadata, "", "") for r in wanted]


def test_the_callers_limit_and_condition_hold_over_every_query(table: Table) -> None:
    assert len(table.ask("| limit 50", limit=5)[1]) == 5
    assert table.ask("| stats count()", where=to_sql(LogFilter.of(services=("web",))))[1] == [(67,)]
    assert table.ask("/x/ OR * | stats count()", where=to_sql(LogFilter.of(services=("web",))))[1] == [(67,)]


def test_stats_without_groups(ask: Ask) -> None:
    ((lines, with_user, users, total, mean, low, high, median, p90),) = ask(
        "| stats count(), count(user), dc(user), sum(ms), avg(ms), min(ms), max(ms), median(ms), p90(ms)"
    )
    numbers = _numbers()
    assert (lines, with_user, users) == (200, 150, 7)
    assert (total, low, high) == (sum(numbers), min(numbers), max(numbers))
    assert mean == pytest.approx(statistics.mean(numbers))
    assert median == pytest.approx(statistics.median(numbers), rel=0.02)
    assert p90 == pytest.approx(statistics.quantiles(numbers, n=10)[8], rel=0.02)


def test_stats_by_fields(table: Table) -> None:
    columns, rows = table.ask("level>=warn | stats count() as n by service, level | sort -n, service")
    assert _names(columns) == ("service", "level", "n")
    counted = Counter((r.service, LEVEL_LABELS[r.level - 1]) for r in POOL if r.level >= 4)
    assert {(s, lv): c for s, lv, c in rows} == counted
    assert [c for *_, c in rows] == sorted(counted.values(), reverse=True)


def test_stats_of_no_line(ask: Ask) -> None:
    assert ask("service:nobody | stats count(), sum(ms), max(ms)") == [(0, None, None)]
    assert ask("service:nobody | stats count() by level | stats count()") == [(0,)]


def test_stats_of_stats(ask: Ask) -> None:
    ((most, users),) = ask("| stats count() as n by user | stats max(n), count()")
    assert (most, users) == (50, 8)


def test_timechart(ask: Ask) -> None:
    width = 60 * SECOND
    counted = sorted(Counter((r.timestamp // width * width, r.level) for r in POOL).items())
    wanted = [(minute, LEVEL_LABELS[level - 1], n) for (minute, level), n in counted]
    assert ask("| timechart 1m count() by level") == wanted
    assert sum(n for _, n in ask("| timechart 30s")) == 200


def test_a_timechart_that_is_cut_keeps_the_newest_rows(table: Table) -> None:
    for query in ("timechart 1s count() by level", "timechart 7s count(), avg(ms) by user | where count()>0",
                  "timechart 10s | fields count()"):  # fmt: skip
        whole = table.ask(f"| {query}")[1]
        assert len(whole) > 10, query
        assert table.ask(f"| {query}", limit=10)[1] == whole[-10:], query
        assert table.ask(f"| {query} | limit 20", limit=10)[1] == whole[:10], query
    by_count = table.ask("| timechart 10s | sort -count()")[1]
    assert table.ask("| timechart 10s | sort -count()", limit=10)[1] == by_count[:10]


def test_top_and_rare(table: Table) -> None:
    columns, rows = table.ask("| top 3 user")
    counted = Counter(r.metadata["user"] for r in POOL if "user" in r.metadata)
    wanted = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    assert _names(columns) == ("user", "count", "percent")
    assert rows == [(user, n, pytest.approx(n * 100 / 150)) for user, n in wanted[:3]]
    rarest = sorted(counted.items(), key=lambda item: (item[1], item[0]))
    assert [row[:2] for row in table.ask("| rare 2 user")[1]] == rarest[:2]
    assert [row[:2] for row in table.ask("| top 2 service, level | limit 1")[1]] == [("auth", "info")]
    assert table.ask("| top 3 user | stats sum(count)")[1] == [(sum(n for _, n in wanted[:3]),)]


def test_fields(table: Table) -> None:
    columns, rows = table.ask('user:u1 | fields message, "ms", user | fields user, ms | limit 2')
    assert _names(columns) == ("user", "ms")
    assert rows == [("u1", r.metadata["ms"]) for r in reversed(POOL) if r.metadata.get("user") == "u1"][:2]


def test_sort_takes_numbers_as_numbers(ask: Ask) -> None:
    wanted = [str(i * 10) for i in range(200) if i % 4]
    assert [ms for (ms,) in ask("| sort by ms | fields ms")] == wanted + ["slow"] * 50
    assert [ms for (ms,) in ask("| sort -ms | fields ms | limit 2")] == ["1990", "1980"]
    assert [lv for (lv,) in ask("| sort -level | fields level | limit 41")] == ["error"] * 40 + ["warn"]
    assert [lv for (lv,) in ask("| fields level | limit 10 | sort level")] == ["info"] * 6 + ["warn"] * 2 + [
        "error"
    ] * 2


def test_limit_comes_where_it_is_written(ask: Ask) -> None:
    assert ask("| limit 10 | stats count()") == [(10,)]
    assert ask("| limit 10 | limit 20 | stats count()") == [(10,)]
    newest = sorted((str(i * 10) for i in range(191, 200) if i % 4), key=int)
    assert [ms for (ms,) in ask("| limit 9 | sort ms | fields ms | limit 2")] == newest[:2]


def test_extract(table: Table) -> None:
    columns, rows = table.ask('"logged in" | extract "user <name> logged <_> from <ip>" | fields name, ip | limit 2')
    assert _names(columns) == ("name", "ip")
    assert rows == [("u3", "10.0.0.3"), ("u1", "10.0.0.1")]
    counted = Counter(f"10.0.0.{i % 4}" for i in range(200) if i % 2)
    assert {ip: n for ip, n, _ in table.ask('| extract "from <ip>" | top ip')[1]} == counted
    assert table.ask('| extract "took <t> ms" | stats max(t)')[1] == [(198.0,)]
    assert table.ask('| extract "took <t> ms" | limit 100 | stats count(t)')[1] == [(50,)]
    assert table.ask('| stats count() by message | extract "GET <path> took" | stats dc(path)')[1] == [(100,)]
    whole, rows = table.ask('| extract "/cart/<id> " | limit 2')
    assert whole[-1].name == "id"
    assert [row[-1] for row in rows] == ["", "198"]


def test_where_asks_the_columns_made_so_far(ask: Ask) -> None:
    by_user = Counter(r.metadata["user"] for r in POOL if "user" in r.metadata)
    wanted = sorted((user, n) for user, n in by_user.items() if n > 21)
    assert wanted
    assert ask("| stats count() as n by user | where n>21 user:u*") == wanted
    assert ask('| stats count() by user | where count()>21 -user:""') == wanted
    assert ask("| top 100 user | where count>21 | stats count()") == [(len(wanted),)]
    assert ask("| stats count() as n by user | where n:50 OR n:twenty OR n>1s OR n:5*") == [("", 50)]
    assert ask("| stats avg(ms) as mean by service | where _exists:mean | stats count()") == [(3,)]
    assert ask("service:nobody | stats avg(ms) as mean | where mean:* OR mean>=0") == []
    assert ask("| stats count() by level | where level>info | fields level") == [("warn",), ("error",)]
    assert ask("| timechart 1m | where timestamp<2023-11-14T22:14:00Z | fields timestamp") == [
        (START // (60 * SECOND) * 60 * SECOND,)
    ]


def test_where_on_lines_is_as_the_filter(ask: Ask) -> None:
    for asked in ("timed OR user:u1 ms>500", "-logged", "web* /GET.*9/", 'level:warn "logged in" took:*'):
        wanted = ask(f"{asked} | stats count()")
        assert ask(f"| where {asked} | stats count()") == wanted
        assert ask(f"| limit 1000 | where {asked} | stats count()") == wanted
        assert ask(f'| extract "in from <ip>" | filter ({asked}) | stats count()') == wanted
    assert ask('| extract "user <name> logged" | where name:u1 | stats count()') == [(15,)]
    # What is taken out of the message hides a key of the same name; metadata. reaches no further than the name.
    assert ask('| extract "took <user> ms" | where user:100 | fields user') == [("100",)]


def test_where_keeps_the_order_of_rows(ask: Ask) -> None:
    rows = ask("| sort ms | limit 20 | where ms>50 | fields ms")
    assert rows == [(str(i * 10),) for i in range(6, 27) if i % 4]
    newest = [(r.metadata["ms"],) for r in reversed(POOL[-10:]) if r.level >= 4]
    assert ask("| limit 10 | where level>=warn | fields ms") == newest
    assert ask("| top 7 user | where user!=u0 | fields count") == [
        (n,) for *_, n, _ in ask("| top 7 user | where user!=u0")
    ]
    counts = [n for (n,) in ask("| top 7 user | where user!=u0 | fields count")]
    assert counts == sorted(counts, reverse=True)


def test_sorting_again_keeps_the_order_of_equals(ask: Ask) -> None:
    rows = ask("| stats count() as n by service, level | sort -service | sort n")
    assert rows == sorted(sorted(rows, key=lambda row: row[0], reverse=True), key=lambda row: row[2])


def test_the_times_of_groups(table: Table) -> None:
    columns, rows = table.ask("| stats min(timestamp) as first, max(timestamp) as last")
    assert [column.kind for column in columns] == ["time", "time"]
    assert rows == [(START, START + 199 * SECOND)]
    assert table.ask("service:nobody | stats max(timestamp)")[1] == [(None,)]


def test_patterns(table: Table) -> None:
    columns, rows = table.ask("| patterns")
    assert _names(columns) == ("pattern", "count", "percent", "example")
    assert sorted(row[:3] for row in rows) == [
        ("GET <*> took <*> ms", 100, 50.0), ("user <*> logged in from <*>", 100, 50.0),
    ]  # fmt: skip
    assert all(example in {r.message for r in POOL} for *_, example in rows)
    assert table.ask("level:warn | patterns 1 | fields count")[1] == [(20,)]
    assert table.ask("service:nobody | patterns")[1] == []
    assert table.ask("| limit 11 | patterns | sort -count | limit 1 | fields pattern, count")[1] == [
        ("user <*> logged in from <*>", 6)
    ]
    assert table.ask("| patterns | where GET count>=100 -example:x | fields pattern")[1] == [("GET <*> took <*> ms",)]
    assert table.ask("| stats count() by message | patterns | fields count")[1] == [(100,), (14,)]


@settings(max_examples=300, deadline=None)
@given(query=QUERIES)
def test_the_engine_takes_whatever_compiles(table: Table, query: str) -> None:
    with contextlib.suppress(QuerySyntaxError):
        table.ask(query)


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("| stats count() by service | fields level", 37),
        ("| fields service | sort level", 25),
        ("| stats sum(level)", 13),
        ("| stats count() by metadata", 20),
        ("| sort metadata", 8),
        ("| stats count(), count()", 18),
        ("| stats count() as service by service", 9),
        ("| top count", 7),
        ('| extract "<a> b" from timestamp', 24),
        ("| stats count() by service | where level>=warn", 30),
        ("| stats count() by service | where timed", 30),
        ("| stats count() as level | where level:warn", 28),
        ("| fields service | where foo:1", 20),
        ("| stats max(timestamp) as last | where last>5", 34),
        ("| fields service | patterns", 20),
        ("| patterns | stats count()", 3),
        ("| patterns | where level:warn", 14),
        ("| patterns | fields pattern | sort count", 36),
    ],
)
def test_what_cannot_be_computed_is_said_before_it_is_asked(query: str, column: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        compile_query(parse(query), table="db.logs", limit=1)
    assert caught.value.column == column
