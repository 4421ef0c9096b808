"""Reads whose server is slow, breaks off or goes away: what a person sees, and what is left behind."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.up import COMMAND, Cli, eventually

LINE = b'{"message": "one"}\n'


class Server(ThreadingHTTPServer):
    """Asks `answer` for everything but /api/v1/queries. left: set when a client has gone while it waited."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[Handler], None] = Handler.hang
        self.names: list[str] = []
        self.left = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.startswith("/api/v1/queries"):
            self.server.names.append(self.headers["X-Query-Id"])
            self.server.answer(self)
            return
        read = {"id": self.server.names[-1], "state": "running", "rows_read": 2_500, "rows_total": 10_000}
        body = json.dumps({"queries": [{**read, "elapsed_seconds": 1.5}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang(self) -> None:
        """Until the client leaves."""
        self.close_connection = True
        if not self.rfile.read(1):
            self.server.left.set()

    def break_off(self) -> None:
        """Chunks without the last one."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(LINE), LINE))
        self.close_connection = True

    def go_slowly(self) -> None:
        """A first chunk, then nothing."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(LINE), LINE))
        self.hang()

    def log_message(self, *_: object) -> None:
        pass


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
    made = Cli(tmp_path)
    made.environment |= {"LOGSTREAM_API_URL": f"http://127.0.0.1:{server.server_port}", "TERM": "xterm"}
    return made


@contextlib.contextmanager
def watched(cli: Cli, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """A command whose standard error is a terminal, and what it shows there."""
    ours, theirs = pty.openpty()
    shown: list[str] = []
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=cli.environment, cwd=cli.home, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)

    def collect() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65_536):
                shown.append(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece.decode(errors="replace")))

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        yield process, shown
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        collector.join()
        os.close(ours)


def test_a_long_read_shows_how_far_it_is_and_ctrl_c_ends_it(server: Server, cli: Cli) -> None:
    with watched(cli, "query", "* | stats count()") as (process, shown):
        eventually(lambda: "2,500 rows" in "".join(shown), "progress")
        assert "25%" in "".join(shown)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert server.left.wait(30), "the connection is closed, which ends the read in the store"
    assert "Traceback" not in "".join(shown)


def test_an_export_that_breaks_off_leaves_nothing(server: Server, cli: Cli) -> None:
    server.answer = Handler.break_off
    (cli.home / "old.ndjson").write_text("mine")
    for arguments in (["new.ndjson"], ["old.ndjson", "--force"]):
        done = cli.run("export", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "broke off after 57 bytes: the server ended it early; no file was kept" in done.stderr
    assert (cli.home / "old.ndjson").read_text() == "mine"
    assert [path.name for path in cli.home.iterdir() if path.is_file()] == ["old.ndjson"]


def test_an_export_to_standard_output_that_breaks_off_fails(server: Server, cli: Cli) -> None:
    server.answer = Handler.break_off
    done = cli.run("export", "-")
    assert done.returncode == 1
    assert done.stdout == LINE.decode() * 3
    assert "what was written is not all" in done.stderr


def test_ctrl_c_during_an_export_leaves_nothing(server: Server, cli: Cli) -> None:
    server.answer = Handler.go_slowly
    with watched(cli, "export", "new.ndjson") as (process, shown):
        eventually(lambda: "1 logs" in "".join(shown) or "25%" in "".join(shown), "progress")
        assert (cli.home / "new.ndjson.part").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert server.left.wait(30)
    assert not list(cli.home.glob("new*"))


def test_two_exports_to_one_file_are_kept_apart(server: Server, cli: Cli) -> None:
    server.answer = Handler.go_slowly
    with watched(cli, "export", "new.ndjson") as (process, _):
        eventually(lambda: bool(server.names), "the first asks")
        second = cli.run("export", "new.ndjson")
        assert (second.returncode, "another export is writing" in second.stderr) == (1, True)
        assert (cli.home / "new.ndjson.part").exists()
        assert process.poll() is None
