"""`logstream up`: starts, stops, and what happens when something is killed or in the way."""

import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine


def refused(folder: Path, *arguments: str, data: Path | None = None) -> str:
    """The one sentence of a start that fails."""
    running = Up(folder, *arguments, data=data)
    try:
        assert running.ended() == 1
    finally:
        # Not `sweep`: on the same data there are another one's children.
        running.process.kill()
    *before, sentence = running.err.splitlines()
    assert all("starting on" in line for line in before), running.err
    assert running.out == ""
    return sentence


def test_the_first_start_shows_a_login_once_and_the_second_finds_everything(tmp_path: Path) -> None:
    first = Up(tmp_path)
    try:
        first.ready()
        file = first.data / "first-login.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        login = json.loads(file.read_text())
        assert set(login) == {"admin", "api_key", "ingest_url", "api_url"}
        assert login["ingest_url"] == first.url("collector")
        for secret in (login["admin"]["password"], login["api_key"]):
            assert first.out.count(secret) == 1
            assert secret not in first.err
        cli = Cli(tmp_path / "home")
        cli("login", "--file", str(file))
        scopes = {row["name"]: row["scopes"] for row in cli.rows("keys", "list")}
        assert scopes == {"first key": ["ingest", "read"]}
        cli("send", "kept over the restart", "--service", "demo")
        assert first.stop() == 0
        file.unlink()

        second = Up(tmp_path)
        second.ready()
        assert login["api_key"] not in second.out + second.err
        assert "First login" not in second.out
        assert not file.exists()
        address = ("--api-url", second.url("API"))
        found = cli.rows("search", "kept", *address)
        assert [row["message"] for row in found] == ["kept over the restart"]
        assert cli.rows("users", "list", *address)[0]["email"] == login["admin"]["email"]
        assert second.stop() == 0
    finally:
        first.sweep()


def test_a_first_start_broken_off_before_it_showed_the_login_is_made_up_for(tmp_path: Path) -> None:
    first = Up(tmp_path)
    try:
        first.ready()
        login = json.loads((first.data / "first-login.json").read_text())
        assert first.stop() == 0
        # As a kill between making the account and writing the file leaves it.
        (first.data / "first-login.json").unlink()
        (first.data / ".first-login.draft").write_text(json.dumps(login["admin"]))
        second = Up(tmp_path).ready()
        again = json.loads((first.data / "first-login.json").read_text())
        assert again["admin"] == login["admin"]
        assert again["api_key"] != login["api_key"]
        cli = Cli(tmp_path / "home")
        cli("login", "--file", str(second.data / "first-login.json"))
        assert len(cli.rows("keys", "list")) == 1
        assert second.stop() == 0
    finally:
        first.sweep()


def test_a_second_instance_on_the_same_data_is_refused(up: Up) -> None:
    sentence = refused(up.folder, data=up.data)
    assert sentence == (
        f"logstream: LogStream is already running on {up.data} (process {up.process.pid}); "
        "stop it first or choose another --data"
    )
    assert up.process.poll() is None


@pytest.mark.parametrize("option", ["--collector-port", "--api-port", "--clickhouse-port"])
def test_a_port_in_use_is_named(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(tmp_path, option, str(port)) == (
            f"logstream: port {port} on 127.0.0.1 is already in use; stop what uses it or choose another with {option}"
        )


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" / "data"
    assert refused(tmp_path, data=data).startswith(f"logstream: cannot write to {data}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    data = tmp_path / "locked" / "data"
    assert refused(tmp_path, data=data).startswith(f"logstream: cannot write to {data}: Permission denied")


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    assert "must differ" in refused(tmp_path, "--collector-port", "9", "--api-port", "9")


def test_a_part_that_cannot_start_ends_it_with_its_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "bus").mkdir(parents=True)
    (data / "bus" / "log.db").write_text("this is no database")
    (data / "auth.db").write_text("this is no database")
    running = Up(tmp_path)
    try:
        assert running.ended() == 1
        assert "logstream: the app cannot be started (ended with status 1); giving up" in running.err
        assert "Traceback" not in running.err
        assert not running.children()
    finally:
        running.sweep()


def test_a_killed_app_comes_back_and_nothing_acknowledged_is_lost(up: Up, cli: Cli) -> None:
    cli("send", "before the app died", "--service", "demo")
    up.kill_child("app")
    # Connections wait in the backlog of the supervisor's sockets: no error, only a moment.
    cli("send", "right after the app died", "--service", "demo", "--retry-for", "0")
    up.wait_until_it_answers()
    eventually(lambda: len(cli.rows("search", "the app died")) == 2, "both records")
    assert up.err.count("the app was killed by SIGKILL; restart 1 in 0.1 s") == 1


def test_a_killed_engine_comes_back_while_ingestion_goes_on(up: Up, cli: Cli) -> None:
    cli("send", "before the engine died", "--service", "demo")
    up.kill_child("engine")
    cli("send", "right after the engine died", "--service", "demo", "--retry-for", "0")
    up.wait_until_it_answers()
    eventually(lambda: len(cli.rows("search", "the engine died")) == 2, "both records")
    assert up.err.count("the engine was killed by SIGKILL; restart 1 in 0.1 s") == 1
    counted = [line for line in urlopen(up.url("collector") + "/metrics").splitlines() if "restarts_total{" in line]
    assert 'logstream_engine_restarts_total{child="engine"} 1.0' in counted, up.err


def test_the_children_of_a_killed_supervisor_end_and_the_next_start_waits_for_them(tmp_path: Path) -> None:
    first = Up(tmp_path)
    try:
        first.ready()
        cli = Cli(tmp_path / "home")
        cli("login", "--file", str(first.data / "first-login.json"))
        cli("send", "before the kill", "--service", "demo")
        first.process.kill()
        first.process.wait()
        second = Up(tmp_path).ready()
        address = ("--api-url", second.url("API"))
        eventually(lambda: len(cli.rows("search", "before the kill", *address)) == 1, "the record")
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
        assert not second.children()
        assert "in time" not in second.err
    finally:
        first.sweep()


def test_retention_is_taken_from_the_option_and_kept(tmp_path: Path) -> None:
    first = Up(tmp_path, "--retention-days", "7")
    try:
        first.ready()
        cli = Cli(tmp_path / "home")
        login = json.loads((first.data / "first-login.json").read_text())
        cli("login", "--file", str(first.data / "first-login.json"))
        assert first.stop() == 0
        for arguments, days in (((), 7), (("--retention-days", "9"), 9), ((), 9)):
            again = Up(tmp_path, *arguments).ready()
            stream = json.loads(urlopen(again.url("API") + "/api/v1/streams/default", key=login["api_key"]))
            assert stream["retention_days"] == days
            assert again.stop() == 0
    finally:
        first.sweep()


def urlopen(url: str, *, key: str = "") -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def test_an_engine_with_a_password_is_used_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_ENGINE_PASSWORD", "correct horse")
    running = Up(tmp_path)
    try:
        running.ready()
        assert "no password" not in running.out
        home = Cli(tmp_path / "home")
        home("login", "--file", str(running.data / "first-login.json"))
        home("send", "behind a password", "--service", "demo")
        eventually(lambda: [row["service"] for row in home.rows("search", "behind")] == ["demo"], "the line is found")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(running.url("ClickHouse") + "/?query=SELECT+1")
        assert running.stop() == 0
    finally:
        running.sweep()
