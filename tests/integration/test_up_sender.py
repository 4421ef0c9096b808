"""How `logstream send` and `tail` behave towards a server that refuses, breaks off or comes late."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.up import COMMAND, Cli


class Server(ThreadingHTTPServer):
    """Answers in turn with `answers` (status, headers, body), the last one for ever; None breaks the connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], bytes] | None] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append((self.path, dict(self.headers), body))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


OK = (202, {}, b'{"status":"accepted","accepted":1,"rejected":[]}')
FULL = (503, {"Retry-After": "0"}, b'{"error":{"code":"log_full","message":"the log is full"}}')
BUSY = (429, {"Retry-After": "1"}, b'{"error":{"code":"too_many_requests","message":"over the quota"}}')


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
def cli(server: Server, tmp_path: Path) -> Cli:
    home = Cli(tmp_path / "home")
    home.environment |= {"LOGSTREAM_INGEST_URL": server.url, "LOGSTREAM_API_URL": server.url, "LOGSTREAM_API_KEY": "k"}
    return home


def test_refusals_for_now_and_lost_answers_are_repeated_under_the_same_key(server: Server, cli: Cli) -> None:
    server.answers = [FULL, None, BUSY, (500, {}, b"oops"), OK]
    done = cli.run("send", "hello")
    assert (done.returncode, done.stdout) == (0, "1 accepted\n")
    assert len(server.asked) == 5
    assert len({(headers["Idempotency-Key"], body) for _, headers, body in server.asked}) == 1
    # Said once, not at each try.
    assert done.stderr == ("logstream: the log is full; trying again\nlogstream: the collector accepts again\n")


def test_patience_has_an_end(server: Server, cli: Cli) -> None:
    server.answers = [FULL]
    done = cli.run("send", "hello", "--retry-for", "0")
    assert (done.returncode, len(server.asked)) == (1, 1)
    assert done.stderr.splitlines()[-1] == "logstream: the log is full; try again in 0 s"


def test_a_refusal_for_good_is_not_repeated(server: Server, cli: Cli) -> None:
    server.answers = [(401, {}, b'{"error":{"code":"unauthenticated","message":"this key was revoked"}}')]
    done = cli.run("send", "hello")
    assert (done.returncode, len(server.asked)) == (1, 1)
    assert "this key was revoked; log in with `logstream login`" in done.stderr


def test_a_repeat_that_the_server_knew_is_counted_as_such(server: Server, cli: Cli) -> None:
    server.answers = [(202, {"Idempotent-Replay": "true"}, OK[2])]
    assert json.loads(cli("send", "hello", "-o", "json"))["duplicates"] == 1


def test_the_next_run_repeats_the_batch_that_was_under_way(server: Server, cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    server.answers = [FULL, OK]
    assert cli.run("send", str(log), "--retry-for", "0").returncode == 1
    log.write_text("one\ntwo\n")
    cli("send", str(log))
    keys = [headers["Idempotency-Key"] for _, headers, _ in server.asked]
    bodies = [[json.loads(line)["message"] for line in body.splitlines()] for _, _, body in server.asked]
    assert bodies == [["one"], ["one"], ["two"]]
    assert keys[0] == keys[1] != keys[2]


def test_another_server_is_another_place(server: Server, cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    server.answers = [FULL, OK]
    assert cli.run("send", str(log), "--retry-for", "0").returncode == 1
    cli("send", str(log), "--ingest-url", f"http://localhost:{server.server_port}")
    assert server.asked[0][1]["Idempotency-Key"] != server.asked[1][1]["Idempotency-Key"]


def test_not_a_logstream_server(server: Server, cli: Cli) -> None:
    server.answers = [(200, {}, b"<html>hello</html>")]
    for command in (["send", "x"], ["search", "x"], ["stats"], ["keys", "list"]):
        done = cli.run(*command)
        assert done.returncode == 1
        assert done.stderr.count("\n") <= 2
        assert "LogStream" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there(cli: Cli) -> None:
    for command in (["send", "x", "--retry-for", "0", "--ingest-url"], ["search", "--api-url"], ["tail", "--api-url"]):
        done = cli.run(*command, "http://127.0.0.1:9")
        assert done.returncode == 1
        assert "start it with `logstream up`" in done.stderr
        assert "Traceback" not in done.stderr


def frame(value: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def entry(message: str) -> dict[str, object]:
    return {"timestamp": "2026-01-31T12:00:00Z", "service": "s", "level": "info", "message": message, "metadata": {}}


def test_a_tail_goes_on_behind_its_last_cursor_and_shows_gaps(server: Server, cli: Cli) -> None:
    first = frame({"type": "heartbeat", "cursor": "a"}) + frame(
        {"type": "records", "records": [entry("one\x1b[2J\u2028")], "cursor": "b"}
    )
    second = frame({"type": "gap", "dropped": 7, "cursor": "c"}) + frame(
        {"type": "records", "records": [entry("two")], "cursor": "d"}
    )
    stream = {"Content-Type": "text/event-stream"}
    server.answers = [(200, stream, first), None, (503, {"Retry-After": "0"}, b""), (200, stream, second)]
    done = cli.run("tail", "x", "--level", "info", "--limit", "2")
    assert done.returncode == 0
    assert [line.partition(" INFO  s: ")[2] for line in done.stdout.splitlines()] == ["one\\x1b[2J\\u2028", "two"]
    assert [path for path, _, _ in server.asked] == [
        "/api/v1/tail?query=x&level=info",
        *["/api/v1/tail?query=x&level=info&cursor=b"] * 3,
    ]
    assert "7 logs are missing here" in done.stderr
    assert done.stderr.count("connecting again") == 1


def test_a_reader_that_goes_away_and_ctrl_c_are_quiet(server: Server, cli: Cli) -> None:
    rows = json.dumps({"logs": [entry(f"line {i} " + "x" * 500) for i in range(2000)], "next": None}).encode()
    server.answers = [(200, {}, rows)]
    search = subprocess.Popen(
        [*COMMAND, "search"],
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert search.stdout is not None
    assert search.stderr is not None
    with search.stderr:
        with search.stdout:
            search.stdout.readline()
        said = search.stderr.read()
    assert (search.wait(30), said) == (0, b"")

    server.answers = [FULL]
    with cli.background("send", "hello") as sender:
        while not server.asked or b"trying again" not in (cli.home / "err").read_bytes():
            assert sender.poll() is None
        os.kill(sender.pid, signal.SIGINT)
        assert sender.wait(30) == 130
    assert b"Traceback" not in (cli.home / "err").read_bytes()


def test_wrong_usage_is_2_and_one_sentence(cli: Cli) -> None:
    for command in (
        ["send", "--follow"], ["send", "/no/such/file.log"], ["search", "--since", "soon"], ["nonsense"],
        ["send", "x", "--metadata", "novalue"], ["context", "use", "nowhere"], ["search", "--api-url", "h"],
    ):  # fmt: skip
        done = cli.run(*command)
        assert done.returncode == 2, command
        assert "Traceback" not in done.stderr


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    commands = [
        *(["up"], ["clickhouse"], ["send"], ["search"], ["tail"], ["stats"], ["login"], ["logout"], ["doctor"]),
        *(["signup"], ["password"], ["keys"], ["users"], ["deadletters"], ["context"]),
        *(["ledger"], ["version"], *(["keys", c] for c in ("list", "create", "revoke"))),
        *(["users", c] for c in ("list", "create", "reset", "role", "delete")),
        *(["deadletters", c] for c in ("list", "show", "replay", "discard")),
        *(["context", c] for c in ("list", "use", "show", "remove")),
    ]
    from typer.testing import CliRunner

    from logstream.cli.app import app

    for command in commands:
        shown = CliRunner().invoke(app, [*command, "--help"])
        assert shown.exit_code == 0, command
        assert "Example" in shown.output, command
