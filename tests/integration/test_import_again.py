"""`logstream import` of several files, started again: what was imported is not sent once more."""

import gzip
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from tests.support.collector import Collector, collecting
from tests.support.up import Cli

COUNT = 5_000


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


def text(name: str, count: int = COUNT) -> bytes:
    # Random words, so that a compressed file breaks off behind its first lines.
    return b"".join(b"2023-01-01 00:00:%02d INFO %s %d %s\n" % (i % 60, name.encode(), i, os.urandom(40).hex().encode())
                    for i in range(count))  # fmt: skip


def told(collector: Collector) -> list[tuple[str, int]]:
    """Name and number of each line, in the order of arrival."""
    return [(name, int(number)) for event in collector.events for name, number, _ in [event["message"].split()]]


def whole(*names: str) -> list[tuple[str, int]]:
    return [(name, i) for name in names for i in range(COUNT)]


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_a_second_file_that_breaks_does_not_send_the_first_again(
    cli: Cli, collector: Collector, compress: object
) -> None:
    assert callable(compress)
    packed = compress(text("second"))
    (cli.home / "first.log").write_bytes(text("first"))
    broken = cli.home / "second.log.gz"
    broken.write_bytes(packed[:-1000])
    command = ("import", "first.log", broken.name)
    assert cli.run(*command).returncode == 1
    before = told(collector)
    assert before[:COUNT] == whole("first")
    again = cli.run(*command)
    assert again.returncode == 1
    assert "0 accepted" in again.stdout
    assert "first.log was imported before and left out; --restart sends what is there again" in again.stderr
    assert told(collector) == before
    broken.write_bytes(packed)
    cli(*command)
    assert told(collector) == whole("first", "second")


def test_a_folder_that_breaks_off_between_its_files(cli: Cli, collector: Collector) -> None:
    names = ["a", "b", "c", "d"]
    (cli.home / "logs").mkdir()
    for name in names:
        (cli.home / "logs" / f"{name}.log").write_bytes(text(name, 0) if name == "b" else text(name))
    requests_of_a = 0
    processes: list[subprocess.Popen[bytes]] = []

    def end(_: int) -> None:
        nonlocal requests_of_a
        if collector.events and told(collector)[-1] == ("a", COUNT - 1) and not requests_of_a:
            requests_of_a = len(collector.bodies)
            processes[0].send_signal(signal.SIGINT)

    collector.before = end
    with cli.background("import", "logs") as process:
        processes.append(process)
        assert process.wait(30) == 130
    assert requests_of_a
    assert told(collector)[:COUNT] == whole("a")
    again = cli.run("import", "logs")
    assert again.returncode == 0
    assert "2 files (logs/a.log …) were imported before" in again.stderr
    assert told(collector) == whole("a", "c", "d")


def test_a_key_that_is_revoked_behind_the_first_file(cli: Cli, collector: Collector) -> None:
    for name in ("a", "b"):
        (cli.home / f"{name}.log").write_bytes(text(name))
    collector.refusal = (401, "unauthenticated", "the API key has been revoked")
    cli("import", "a.log")
    collector.healthy = 0
    assert cli.run("import", "a.log", "b.log").returncode == 1
    collector.healthy = 1_000_000
    cli.environment["LOGSTREAM_API_KEY"] = "ls_new"
    cli("import", "a.log", "b.log", "--old-key", "ls_test")
    assert told(collector) == whole("a", "b")


def test_a_whole_import_again_sends_only_with_restart(cli: Cli, collector: Collector) -> None:
    for name in ("a", "b"):
        (cli.home / f"{name}.log").write_bytes(text(name))
    cli("import", "a.log", "b.log")
    again = cli.run("import", "a.log", "./b.log")
    assert (again.returncode, "2 files (a.log …) were imported before" in again.stderr) == (0, True)
    assert told(collector) == whole("a", "b")
    cli("import", "a.log", "b.log", "--restart")
    assert told(collector) == whole("a", "b") * 2


def test_a_restart_that_breaks_off_goes_on_to_the_end(cli: Cli, collector: Collector) -> None:
    for name in ("a", "b"):
        (cli.home / f"{name}.log").write_bytes(text(name))
    cli("import", "a.log", "b.log")
    collector.healthy = 0
    assert cli.run("import", "a.log", "b.log", "--restart", "--retry-for", "0").returncode == 1
    collector.healthy = 1_000_000
    cli("import", "a.log", "b.log")
    assert told(collector) == whole("a", "b") * 2


def test_of_a_file_that_has_grown_only_what_is_new_is_sent(cli: Cli, collector: Collector) -> None:
    log, lines = cli.home / "a.log", text("a")
    half = lines.index(b"INFO a 2500 ") - len("2023-01-01 00:00:00 ")
    log.write_bytes(lines[:half])
    cli("import", "a.log")
    with log.open("ab") as file:
        file.write(lines[half:])
    cli("import", "a.log")
    assert told(collector) == whole("a")


@pytest.mark.parametrize("place", ["the same", "another"])
def test_another_file_of_the_same_name_is_sent_whole(cli: Cli, collector: Collector, place: str) -> None:
    log = cli.home / "a.log"
    log.write_bytes(text("a"))
    cli("import", "a.log")
    if place == "another":
        log.rename(cli.home / "a.log.1")
    log.write_bytes(text("b"))
    done = cli.run("import", "a.log")
    assert (done.returncode, "gone" in done.stderr) == (0, False)
    assert told(collector) == whole("a", "b")


def test_an_empty_file_that_is_filled(cli: Cli, collector: Collector) -> None:
    log = cli.home / "a.log"
    log.touch()
    cli("import", "a.log")
    assert "a.log was imported before" in cli.run("import", "a.log").stderr
    log.write_bytes(text("a"))
    cli("import", "a.log")
    assert told(collector) == whole("a")
