"""`logstream import`: files of other programs, runs that break off, and a real server."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.collector import Collector, collecting
from tests.support.up import Cli, Up

ERROR = "2015-10-18 18:01:{:02d},978 ERROR [main] org.example.App{}: broke {}"
TRACE = [
    "java.lang.IllegalStateException: no",
    "\tat org.example.App.run(App.java:5)",
    "Caused by: java.io.IOException",
]
SYSLOG = [
    "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: check pass",
    "Jun 14 15:16:02 combo last message repeated",
]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, collector: Collector) -> Cli:
    made = Cli(tmp_path / "home")
    made.environment["LOGSTREAM_INGEST_URL"] = f"http://127.0.0.1:{collector.server_port}"
    made.environment["LOGSTREAM_API_KEY"] = "ls_test"
    return made


def traces(path: Path, count: int) -> list[str]:
    """A file of `count` events with a stack trace each; their messages."""
    padding = "x" * 200
    firsts = [ERROR.format(i % 60, i % 7, f"{i} {padding}") for i in range(count)]
    path.write_text("".join("\n".join([first, *TRACE]) + "\n" for first in firsts))
    return ["\n".join([f"broke {i} {padding}", *TRACE]) for i in range(count)]


def test_events_of_several_lines_are_whole_across_batches(cli: Cli, collector: Collector, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    messages = traces(log, 12_000)
    assert "12,000 accepted" in cli("import", str(log))
    assert len(collector.bodies) > 2
    events = collector.events
    assert [e["message"] for e in events] == messages
    assert events[7] == {
        "timestamp": 1_445_191_267_978_000_000, "service": "app", "level": "error", "message": messages[7],
        "metadata": {"component": "org.example.App0", "thread": "main"},
    }  # fmt: skip


@pytest.mark.parametrize("lose_answer", [False, True], ids=["refused", "answer lost"])
def test_a_run_that_broke_off_goes_on_and_doubles_nothing(
    cli: Cli, collector: Collector, tmp_path: Path, lose_answer: bool
) -> None:
    log = tmp_path / "app.log.gz"
    messages = traces(tmp_path / "plain", 12_000)
    log.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    collector.healthy, collector.lose_answer = 2, lose_answer
    broken = cli.run("import", str(log), "--retry-for", "0")
    assert broken.returncode == 1
    assert 0 < len(collector.events) < 12_000
    collector.healthy, collector.lose_answer = 1_000_000, False
    cli("import", str(log))
    assert [e["message"] for e in collector.events] == messages
    assert collector.repeats == int(lose_answer)


def test_a_folder_in_several_formats(cli: Cli, collector: Collector, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").write_text("secret\n")
    (folder / "messages").write_bytes("\r\n".join(SYSLOG).encode() + b"\r\nJun 14 15:16:03 combo k: caf\xe9")
    (folder / "deep" / "web.json").write_text(
        '{"ts":"2023-01-01T00:00:00Z","msg":"hi","trace_id":"' + "a" * 32 + '"}\n'
    )
    os.utime(folder / "messages", (1_136_073_600, 1_136_073_600))  # 2006-01-01
    cli("import", str(folder), "--metadata", "batch=1", "--timezone", "Europe/Berlin")
    web, first, second, third = collector.events
    assert web == {
        "timestamp": 1_672_531_200_000_000_000, "service": "web", "message": "hi", "trace_id": "a" * 32,
        "metadata": {"batch": "1"},
    }  # fmt: skip
    assert (first["service"], first["timestamp"]) == ("sshd", 1_118_754_961_000_000_000)
    assert first["metadata"] == {"component": "sshd(pam_unix)", "host": "combo", "pid": "19939", "batch": "1"}
    assert (second["service"], second["message"]) == ("messages", "last message repeated")
    assert third["message"] == "caf\\xe9"


def test_what_was_asked_for_goes_before_what_was_found(cli: Cli, collector: Collector) -> None:
    text = ("\n".join(SYSLOG) + "\n").encode()
    cli("import", "-", "--service", "old", "--year", "2005", "--format", "time and message", stdin=text)
    first, _ = collector.events
    assert first == {
        "timestamp": 1_118_762_161_000_000_000, "service": "old", "message": "combo sshd(pam_unix)[19939]: check pass",
    }  # fmt: skip


def test_a_dry_run_shows_what_is_understood_and_sends_nothing(cli: Cli, collector: Collector, tmp_path: Path) -> None:
    log = tmp_path / "messages"
    log.write_text("\n".join(SYSLOG))
    shown = cli("import", "--dry-run", str(log), "--year", "2005")
    assert "format 'syslog', times as syslog, 100% of the sample's lines" in shown
    assert "2005-06-14T15:16:01.000000000Z  sshd" in shown
    (first, _) = [json.loads(line) for line in cli("import", "--dry-run", str(log), "-o", "ndjson").splitlines()]
    assert (first["component"], first["format"], first["file"]) == ("sshd(pam_unix)", "syslog", str(log))
    assert collector.bodies == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.log"], "there is no file missing.log"),
        ([], "name the files to import"),
        (["binary"], "is not text"),
        (["messages", "--timezone", "Mars/Base"], "there is no time zone Mars/Base"),
        (["messages", "--format", "access"], "no line of the sample is of the format access"),
        (["messages", "--format", "nonsense"], "known formats: json, logfmt"),
        (["messages", "--metadata", "x"], "--metadata must be key=value"),
        (["empty-folder"], "there are no files in empty-folder"),
    ],
)
def test_wrong_usage_sends_nothing(cli: Cli, collector: Collector, arguments: list[str], sentence: str) -> None:
    (cli.home / "messages").write_text("\n".join(SYSLOG))
    (cli.home / "binary").write_bytes(bytes(range(256)))
    (cli.home / "empty-folder").mkdir()
    done = cli.run("import", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert collector.bodies == {}


def test_an_empty_file_is_done_at_once(cli: Cli, collector: Collector) -> None:
    (cli.home / "empty.log").touch()
    assert "0 accepted" in cli("import", "empty.log")
    assert collector.bodies == {}


@pytest.mark.engine
def test_old_lines_are_stored_with_their_own_dates(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        up.ready()
        person = Cli(tmp_path / "home")
        person("login", "--file", str(up.data / "first-login.json"))
        log = tmp_path / "httpd.log"
        log.write_text("[Sun Dec 04 04:47:44 2005] [error] mod_jk child in error state 6\n" * 3)
        assert "3 accepted" in person("import", str(log))
        found = person.rows("search", "mod_jk", "--from", "2005-12-04T00:00", "--to", "2005-12-05T00:00")
        assert [(r["timestamp"][:19], r["level"], r["service"], r["message"]) for r in found] == [
            ("2005-12-04T04:47:44", "error", "httpd", "mod_jk child in error state 6")
        ] * 3
    finally:
        up.stop()
