"""`logstream import` into a real platform, with what ends in the middle: in the end each line is stored once."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = [pytest.mark.slow, pytest.mark.engine]

COUNT = 150_000
BEGIN = 1_672_531_200
"""2023-01-01T00:00:00Z."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("platform"))
    try:
        yield up.ready()
    finally:
        up.stop()


@pytest.fixture
def person(platform: Up, tmp_path: Path) -> Cli:
    cli = Cli(tmp_path / "home")
    cli("login", "--file", str(platform.data / "first-login.json"))
    return cli


def write(path: Path) -> None:
    """COUNT lines whose component is the file's name."""
    with path.open("w") as file:
        for i in range(COUNT):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(BEGIN + i % 3_000))
            file.write(f"{stamp},{i % 1000:03d} INFO [main] {path.stem}: line {i} of some length, as lines are\n")


def offset(cli: Cli) -> int:
    """Bytes of the import under way that are acknowledged."""
    return max((json.loads(path.read_bytes())["offset"] for path in cli.home.rglob("state/**/[!.]*.json")), default=0)


def half_way(cli: Cli, what: Callable[[], object], *arguments: str) -> int:
    """Start a command, do `what` when a third of the file is acknowledged; the exit status."""
    with cli.background(*arguments) as process:
        eventually(lambda: offset(cli) > COUNT * 30 or process.poll() is not None, "a third of the file")
        assert process.poll() is None, "it was over before"
        done = what()
        if isinstance(done, signal.Signals):
            process.send_signal(done)
        return process.wait(60)


def check_all_is_there_once(cli: Cli, name: str) -> None:
    eventually(lambda: not cli.rows("ledger")[0]["in_flight"], "nothing is in flight")
    query = f"component:{name} | stats count() as lines, dc(message) as different, min(timestamp) as oldest"
    [row] = cli.rows("query", query, "--from", "2023-01-01T00:00:00Z", "--to", "2023-01-01T01:00:00Z")
    # Different ones are counted within about 1 %; the lines exactly.
    assert row["lines"] == COUNT
    assert abs(row["different"] - COUNT) < COUNT // 50
    assert row["oldest"] == "2023-01-01T00:00:00Z"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended(person: Cli, sent: signal.Signals) -> None:
    log = person.home / f"{sent.name.lower()}.log"
    write(log)
    status = half_way(person, lambda: sent, "import", str(log))
    assert status == (130 if sent is signal.SIGINT else -sent)
    person("import", str(log))
    check_all_is_there_once(person, log.stem)


@pytest.mark.parametrize("child", ["app", "engine"])
def test_a_platform_that_dies_and_comes_back(platform: Up, person: Cli, child: str) -> None:
    log = person.home / f"{child}.log"
    write(log)
    assert half_way(person, lambda: platform.kill_child(child), "import", str(log)) == 0
    platform.wait_until_it_answers()
    check_all_is_there_once(person, log.stem)


def test_a_key_that_is_revoked_and_another_in_its_place(person: Cli) -> None:
    log = person.home / "revoked.log"
    write(log)
    # Its quota gives the import some ten seconds, so that it is not over before the key is.
    old = person("keys", "create", "old", "--records-per-second", "15000").strip()
    new = person("keys", "create", "new").strip()
    [identity] = [row["id"] for row in person.rows("keys", "list") if row["name"] == "old"]
    status = half_way(person, lambda: person("keys", "revoke", identity), "import", str(log), "--api-key", old)
    assert status == 1
    said = (person.home / "err").read_text()
    assert "revoked" in said or "key" in said, said
    assert "accepted" in (person.home / "out").read_text()
    person("import", str(log), "--api-key", new, "--old-key", old)
    check_all_is_there_once(person, log.stem)
