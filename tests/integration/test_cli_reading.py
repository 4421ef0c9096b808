"""The commands that read, and every example of docs/cli.md, against a real platform."""

import csv
import gzip
import io
import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.up import Cli, eventually

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE[PAGE.index("## Asking") :], re.DOTALL)
    for line in block.splitlines()
    # The live tail has no end.
    if not line.startswith("logstream tail")
]
LINES = 1_300


def lines() -> Iterator[bytes]:
    """Ordinary ones, newest last, and three of interest."""
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(LINES - 3):
        at = now - timedelta(seconds=LINES - number)
        yield json.dumps({
            "timestamp": at.isoformat(), "service": f"web-{number % 3}", "level": "info",
            "message": f"GET /cart/{number} took {number % 90} ms",
            "metadata": {"route": "/cart", "latency_ms": str(number % 90), "region": "eu"},
        }).encode()  # fmt: skip
    for number, text in enumerate(("Connection timed out", "out of memory: timed too long", "\x1b[2Jcharge\n  at f()")):
        yield json.dumps({
            "timestamp": (now - timedelta(seconds=3 - number)).isoformat(), "service": "payment",
            "level": "error" if number != 1 else "warn", "message": text, "metadata": {"user_id": "42", "region": "us"},
        }).encode()  # fmt: skip


@pytest.fixture(scope="module")
def logs(cli: Cli) -> Cli:
    cli("send", stdin=b"\n".join(lines()))
    eventually(lambda: sum(row["present"] for row in cli.rows("ledger")) == LINES, "all lines are stored")
    return cli


def messages(logs: Cli, *arguments: str) -> list[str]:
    return [row["message"] for row in logs.rows("search", *arguments)]


def test_words_are_a_query_in_the_language(logs: Cli) -> None:
    assert messages(logs, "timed", "out") == ["out of memory: timed too long", "Connection timed out"]
    assert messages(logs, "timed out") == messages(logs, "timed", "out"), "the shell has taken the quotes"
    assert messages(logs, '"timed out"') == ["Connection timed out"]
    assert messages(logs, "level>=warn -memory", "--service", "payment", "--level", "error,warn") == [
        "\x1b[2Jcharge\n  at f()",
        "Connection timed out",
    ]
    assert len(json.loads(logs("search", "-o", "json", "--", "-GET"))) == 3
    unquoted = logs.run("search", "-GET")
    assert (unquoted.returncode, "logstream search -- -debug" in unquoted.stderr) == (2, True)


def test_a_search_reads_as_many_pages_as_it_takes(logs: Cli) -> None:
    found = [json.loads(line) for line in logs("search", "-n", "1250", "-o", "ndjson").splitlines()]
    assert len({row["id"] for row in found}) == len(found) == 1250
    assert [row["timestamp"] for row in found] == sorted((row["timestamp"] for row in found), reverse=True)
    done = logs.run("search", "GET", "-n", "2")
    assert [line.partition(" took")[0].rpartition("/")[2] for line in done.stdout.splitlines()] == ["1295", "1296"]
    assert "only the newest 2" in done.stderr
    assert logs.run("search", "level>=warn", "-n", "3").stderr == "", "there are no more than these"


def test_csv_has_what_json_has(logs: Cli) -> None:
    [head, *rows] = csv.reader(io.StringIO(logs("search", "level>=warn", "-o", "csv")))
    assert head == ["timestamp", "service", "level", "message", "metadata", "trace_id", "span_id", "id"]
    as_json = logs.rows("search", "level>=warn")
    assert [row[3] for row in rows] == [row["message"] for row in as_json]
    assert json.loads(rows[0][4]) == as_json[0]["metadata"]


def test_a_query_with_pipes_is_run_by_search_too(logs: Cli) -> None:
    query = "level>=warn | stats count() by level | sort level"
    assert logs("query", query) == logs("search", query) == "level  count()\nwarn         1\nerror        2\n"
    assert logs.rows("query", query) == [{"level": "warn", "count()": 1}, {"level": "error", "count()": 2}]
    assert logs("query", query, "-o", "csv") == "level,count()\nwarn,1\nerror,2\n"
    done = logs.run("query", "* | top 5 service", "-n", "2")
    assert (len(done.stdout.splitlines()), "there is more than these 2 rows" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("command", "query", "said"),
    [
        ("search", "(a OR b", "\n  (a OR b\n         ^ expected ')'\n"),
        ("search", "a | statz", "\n  a | statz\n      ^ expected extract, "),
        (
            "query",
            "level:loud timed",
            "logstream: unknown level 'loud'\n  level:loud timed\n        ^ expected trace, ",
        ),
        ("tail", "a | stats count()", "only a filter"),
        ("histogram", "error: x", "^ expected a value"),
        ("export", "latency_ms>slow", "'slow' has no order"),
    ],
)
def test_a_query_that_cannot_be_read_is_shown_with_the_place(logs: Cli, command: str, query: str, said: str) -> None:
    arguments = ["nothing.ndjson", query] if command == "export" else [query]
    done = logs.run(command, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not [path for path in logs.home.iterdir() if "nothing" in path.name]


def test_nothing_found_says_what_was_asked_and_what_to_try(logs: Cli) -> None:
    done = logs.run("search", "nowhere", "-s", "low")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing found for 'nowhere', service low in the last hour; look further back with --since" in done.stderr


def test_around_shows_the_line_among_its_neighbours(logs: Cli) -> None:
    [found] = logs.rows("search", "GET /cart/600", "--service", "web-0")
    around = logs("around", found["id"], "-B", "2", "-A", "1").splitlines()
    assert [re.findall(r"^(▶ |  ).*/cart/(\d+)", line)[0] for line in around] == [
        ("  ", "594"), ("  ", "597"), ("▶ ", "600"), ("  ", "603"),
    ]  # fmt: skip
    shown = logs("search", "GET /cart/600", "--ids").splitlines()[-1]
    everything = logs.rows("around", shown.rpartition(" ")[2], "--by", "", "-B", "1", "-A", "1")
    assert [row["message"].split()[1] for row in everything] == ["/cart/599", "/cart/600", "/cart/601"]
    refused = logs.run("around", "what")
    assert (refused.returncode, "id is not one" in refused.stderr) == (2, True)


def test_counts_agree(logs: Cli) -> None:
    *_, legend, total = logs("histogram").splitlines()
    assert legend == "█ error 2  ▓ warn 1  ▒ info 1,297"
    assert total.startswith("1,300 logs, one bar per ")
    assert logs("stats").splitlines()[-1].startswith("1,300 logs")
    assert sum(row["count"] for row in logs.rows("histogram", "--by", "region", "--step", "5m")) == LINES
    facets = {row["field"]: row["values"] for row in logs.rows("facets", "-f", "region", "-f", "level")}
    assert facets["region"] == [{"value": "eu", "count": 1297}, {"value": "us", "count": 3}]
    assert re.search(r"^level  3 values\n  info +1,297 +99.8 %  █", logs("facets"), re.MULTILINE)
    fields = {row["name"]: row["kind"] for row in logs.rows("fields")}
    assert fields["latency_ms"] == "number"
    [first, *_] = logs.rows("patterns")
    assert (first["template"], first["count"]) == ("GET <*> took <*> ms", 1297)
    assert re.search(r"^1,297 +99.8 %  GET <\*> took <\*> ms$", logs("patterns"), re.MULTILINE)


def test_exports_are_whole_in_every_format(logs: Cli) -> None:
    logs("export", "mine.jsonl", "--order", "asc")
    rows = [json.loads(line) for line in (logs.home / "mine.jsonl").read_text().splitlines()]
    assert len(rows) == LINES
    assert rows[-1]["message"] == "\x1b[2Jcharge\n  at f()"
    done = logs.run("export", "mine.csv.gz", "level>=warn")
    with gzip.open(logs.home / "mine.csv.gz", "rt", newline="") as file:
        assert [row[2] for row in csv.reader(file)] == ["level", "error", "warn", "error"]
    assert "are in mine.csv.gz" in done.stderr
    logs("export", "mine.parquet")
    data = (logs.home / "mine.parquet").read_bytes()
    assert data.startswith(b"PAR1")
    assert data.endswith(b"PAR1")
    assert len(logs("export", "-", "GET").splitlines()) == LINES - 3
    assert not list(logs.home.glob("*.part"))


def test_an_export_replaces_a_file_only_when_told(logs: Cli) -> None:
    (logs.home / "kept.csv").write_text("mine")
    done = logs.run("export", "kept.csv")
    assert (done.returncode, "replace it with --force" in done.stderr) == (2, True)
    assert (logs.home / "kept.csv").read_text() == "mine"
    logs("export", "kept.csv", "nowhere", "--force")
    assert (logs.home / "kept.csv").read_text().startswith('"timestamp"')
    folder = logs.run("export", str(logs.home))
    assert (folder.returncode, "is not a file" in folder.stderr) == (2, True)


def test_a_timechart_is_drawn_when_told(logs: Cli) -> None:
    query = "level>=info | timechart 1d count() by level"
    head, *rows = logs("query", query, "--chart").splitlines()
    assert head.split() == ["error", "warn", "info"]
    assert all("▏" in row or "█" in row for row in rows)
    assert logs("query", query).splitlines()[0].split() == ["timestamp", "level", "count()"]


def test_wrong_usage_is_2_whoever_finds_it(logs: Cli) -> None:
    for command in (
        ["histogram", "--step", "1ms"], ["histogram", "--step", "soon"], ["around", "what"], ["search", "-n", "0"],
        ["export", "x.parquet.gz"], ["search", "--since", "1h", "--from", "2h"],
    ):  # fmt: skip
        done = logs.run(*command)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert "Traceback" not in done.stderr
    done = logs.run("export", "/no/such/folder/x.csv")
    assert (done.returncode, "there is no folder /no/such/folder" in done.stderr) == (1, True)


def test_explain_says_what_is_read(logs: Cli) -> None:
    shown = logs("explain", "GET | stats count() by service", "--analyze")
    assert re.search(r"^reads about [\d,]+ rows: \d+ of \d+ granules in \d+ of \d+ parts$", shown, re.MULTILINE)
    assert re.search(r"^measured: .* the answer has 3 rows$", shown, re.MULTILINE)
    assert re.search(r"^GROUP BY service$", shown, re.MULTILINE)
    assert json.loads(logs("explain", "GET", "-o", "json"))["measured"] is None


def test_reads_are_listed_and_cancelled(logs: Cli) -> None:
    assert logs.rows("queries", "list") == logs.rows("queries", "list", "--all") == []
    done = logs.run("queries", "cancel", "nothing")
    assert (done.returncode, "logstream queries list" in done.stderr) == (1, True)


def test_the_tail_takes_the_language(logs: Cli) -> None:
    with logs.background("tail", "(fresh OR new) -old", "-n", "1", "-o", "ndjson") as tail:
        deadline = time.monotonic() + 30
        while tail.poll() is None and time.monotonic() < deadline:
            logs("send", "an old fresh line", "--service", "tail")
            logs("send", "a fresh line", "--service", "tail")
        assert tail.poll() == 0
    assert json.loads((logs.home / "out").read_text())["message"] == "a fresh line"


def test_the_page_has_an_example_of_every_command() -> None:
    named = {command.split()[1] for command in COMMANDS}
    asking = {"search", "query", "around", "stats", "histogram", "patterns", "facets", "fields", "export", "explain"}
    assert asking <= named


@pytest.fixture(scope="module")
def place(logs: Cli) -> str:
    """The id of a line."""
    [line] = logs.rows("search", "Connection", "-n", "1")
    return str(line["id"])


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_page_run(logs: Cli, place: str, command: str) -> None:
    done = logs.run(*(place if word == "ID" else word for word in shlex.split(command)[1:]))
    assert done.returncode == 0, done.stderr
    assert "nothing found" not in done.stderr


def test_the_error_of_the_page_is_what_is_said(logs: Cli) -> None:
    [(command, said)] = re.findall(r"```console\n\$ (logstream .*)\n((?:.*\n)+?)```", PAGE)
    assert logs.run(*shlex.split(command)[1:]).stderr == said
