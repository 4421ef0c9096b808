"""`logstream up-full`: real Kafka, Postgres and ClickHouse, two of each service, some of them killed."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.full import UpFull
from tests.support.up import COMMAND, Cli, eventually

from logstream.errors import StartupError
from logstream.standalone.full import fetch, postgres_server

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE = 120.0


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpFull]:
    """One installation for the tests of this module, which leave it running."""
    try:
        fetch.java()
        fetch.kafka_libs()
        postgres_server.binaries()
    except StartupError as error:
        reason = f"NOT TESTED: {error.message}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    running = UpFull(tmp_path_factory.mktemp("full"))
    try:
        yield running.ready()
    finally:
        running.sweep()


@pytest.fixture(scope="module")
def cli(full: UpFull) -> Cli:
    home = Cli(full.data.parent / "home")
    home("login", "--file", str(full.data / "first-login.json"))
    return home


def _messages(cli: Cli, text: str, api: str) -> list[str]:
    return [row["message"] for row in cli.rows("search", text, "--api-url", api)]


def _send(cli: Cli, collector: str, count: int, text: str) -> None:
    lines = "".join(f"{text} {number}\n" for number in range(count))
    cli("send", "--service", "full", "--ingest-url", collector, stdin=lines.encode())


def test_it_says_where_everything_is_and_shows_the_first_login_once(full: UpFull) -> None:
    file = full.data / "first-login.json"
    login = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert login["ingest_url"] == full.url("collector")
    for secret in (login["admin"]["password"], login["api_key"]):
        assert full.out.count(secret) == 1
        assert secret not in full.err
    database_password = (full.data / "postgres" / "password").read_text().strip()
    assert database_password not in full.out + full.err
    assert len(full.urls("processors")) == 2


def test_what_one_collector_takes_the_other_api_finds(full: UpFull, cli: Cli) -> None:
    _send(cli, full.url("collector 2"), 50, "crossing")
    eventually(lambda: len(_messages(cli, "crossing", full.url("API 2"))) == 50, "all found by API 2", PATIENCE)
    assert len(_messages(cli, "crossing", full.url("API"))) == 50


def test_killed_services_come_back_and_nothing_is_lost_or_doubled(full: UpFull, cli: Cli) -> None:
    first, second = full.url("collector"), full.url("collector 2")
    _send(cli, first, 20, "before")
    full.part("processor-1").kill()
    full.part("collector-1").kill()
    # The other collector and the other processor go on meanwhile.
    _send(cli, second, 20, "meanwhile")
    for name in ("processor-1", "collector-1"):
        eventually(lambda name=name: full.err.count(f"logstream: {name} is ready\n") >= 2, f"{name} is back", PATIENCE)
    _send(cli, first, 20, "after")
    for text in ("before", "meanwhile", "after"):
        eventually(
            lambda text=text: len(_messages(cli, text, full.url("API 2"))) >= 20, f"all of {text!r} found", PATIENCE
        )
        found = _messages(cli, text, full.url("API 2"))
        assert sorted(found) == sorted(f"{text} {number}" for number in range(20))
    assert full.err.count("processor-1 was killed by SIGKILL; restart 1") == 1


@pytest.mark.parametrize("server", ["kafka", "postgres", "clickhouse"])
def test_a_killed_server_comes_back_with_what_it_had(full: UpFull, cli: Cli, server: str) -> None:
    _send(cli, full.url("collector"), 5, f"had-{server}")
    eventually(lambda: len(_messages(cli, f"had-{server}", full.url("API"))) == 5, "found before", PATIENCE)
    full.kill_part(server)
    _send(cli, full.url("collector"), 5, f"again-{server}")
    eventually(lambda: len(_messages(cli, f"again-{server}", full.url("API"))) == 5, "found after", PATIENCE)
    assert len(_messages(cli, f"had-{server}", full.url("API 2"))) == 5


def test_a_second_one_on_the_same_data_is_refused(full: UpFull) -> None:
    second = UpFull(full.data.parent)
    try:
        assert second.ended() == 1
        assert second.err.strip() == (
            f"logstream: LogStream is already running on {full.data} (process {full.process.pid}); "
            "stop it first or choose another --data"
        )
    finally:
        second.process.kill()
        second.process.wait()


def test_a_killed_supervisor_leaves_no_process_and_a_new_one_finds_everything(full: UpFull, cli: Cli) -> None:
    _send(cli, full.url("collector"), 5, "kept")
    eventually(lambda: len(_messages(cli, "kept", full.url("API"))) == 5, "found before", PATIENCE)
    assert len(full.family()) >= 9
    os.kill(full.process.pid, signal.SIGKILL)
    full.process.wait()
    assert full.left() == []

    again = UpFull(full.data.parent)
    try:
        again.ready()
        assert "First login" not in again.out
        assert len(_messages(cli, "kept", again.url("API 2"))) == 5
        order = ("collector-1", "processor-1", "api-1", "kafka")
        parts = [again.part(name) for name in order]
        assert again.stop() == 0
        assert again.left() == []
        assert all(not part.is_running() for part in parts)
        ends = [again.err.rindex(f"logstream: {name} has stopped") for name in order]
        assert ends == sorted(ends)
    finally:
        again.sweep()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "LOGSTREAM_CACHE": str(tmp_path / "cache")}
    environment.pop("JAVA_HOME", None)
    running = UpFull(tmp_path, environment=environment)
    try:
        assert running.ended() == 1
        *_, sentence = running.err.splitlines()
        assert sentence.startswith("logstream: Kafka needs Java 17 or newer and there is no java on the PATH; install")
    finally:
        running.sweep()


def test_the_command_line_tells_of_a_port_that_is_given_twice(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "up-full", "--data", str(tmp_path / "data"), "--api-port", "8090"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "logstream: --api-port and --collector-port (second process: 8090) must differ, not both be 8090\n"
    )
