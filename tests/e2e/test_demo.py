"""`logstream demo` on a real platform, and the commands of docs/demo.md that find the incident's cause."""

import functools
import json
import re
import shlex
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
COMMANDS = [line for line in PAGE.splitlines() if re.match(r"logstream (query|search|patterns) ", line)]
LINES_PER_DAY = "30000"


@pytest.fixture(scope="module")
def end() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def shop(cli: Cli, end: str) -> Cli:
    """The command line of somebody who has sent the demo's logs, which can all be found."""
    said = json.loads(cli("demo", "--lines-per-day", LINES_PER_DAY, "--end", end, "-o", "json"))
    assert 180_000 < said["accepted"] < 240_000
    assert said["rejected"] == said["duplicates"] == 0
    eventually(lambda: _present(cli) >= said["accepted"], "all lines are stored")
    return cli


def _present(cli: Cli) -> int:
    return sum(row["present"] for row in cli.rows("ledger"))


def _rows(printed: str) -> list[str]:
    """The rows of a table, without its head."""
    return printed.splitlines()[1:]


@pytest.fixture(scope="module")
def ask(shop: Cli) -> Callable[[str], str]:
    """What a command of the page prints."""
    return functools.cache(lambda command: shop(*shlex.split(command)[1:]))


def test_the_page_has_three_commands_and_five_more() -> None:
    assert len(COMMANDS) == 8
    assert PAGE.index("**3.") < PAGE.index(COMMANDS[2]) < PAGE.index("## Looking further") < PAGE.index(COMMANDS[3])


def test_three_commands_find_the_cause(ask: Callable[[str], str]) -> None:
    worst = _rows(ask(COMMANDS[0]))[0]
    assert "payment" in worst
    assert "eu-west-1" in worst
    assert "service:payment region:eu-west-1" in COMMANDS[1], "the second asks about what the first found"

    error = _rows(ask(COMMANDS[1]))[0]
    assert "PoolTimeoutError" in error
    version = re.search(r"v[\d.]+", error)
    assert version is not None
    assert f"service:payment {version[0]}" in COMMANDS[2], "the third asks about what the second found"

    deployed, rolled_back = _rows(ask(COMMANDS[2]))
    assert re.search(r"payment +eu-west-1 +Deployed version v2\.14\.0 .*pool payment-db max_size 40 -> 4", deployed)
    assert re.search(r"payment +eu-west-1 +Rolled back to version v2\.13\.4", rolled_back)


def test_decoys_are_not_among_the_answers(ask: Callable[[str], str]) -> None:
    for command in COMMANDS[:3]:
        assert "catalog" not in ask(command)
        assert "price_cents" not in ask(command)


@pytest.mark.parametrize("command", COMMANDS[3:])
def test_the_other_commands_of_the_page_answer(ask: Callable[[str], str], command: str) -> None:
    assert re.search(r"payment|eu-west-1|pool", ask(command))


def test_the_trace_of_a_failed_order_leads_to_payment(shop: Cli) -> None:
    [failed] = shop.rows("search", "service:checkout level>=error", "--since", "2d", "--limit", "1")
    lines = shop.rows("search", f"trace_id:{failed['trace_id']}", "--since", "2d")
    causes = [line for line in lines if line["service"] == "payment" and line["level"] == "error"]
    assert causes
    assert {line["metadata"]["error"] for line in causes} == {"PoolTimeoutError"}
    assert {"gateway", "checkout", "payment"} <= {line["service"] for line in lines}


def test_repeating_a_run_doubles_nothing(shop: Cli, end: str) -> None:
    before = _present(shop)
    said = json.loads(shop("demo", "--lines-per-day", LINES_PER_DAY, "--end", end, "-o", "json"))
    assert said["accepted"] == 0
    assert said["duplicates"] > 180_000
    assert _present(shop) == before


def test_live_goes_on_until_interrupted(shop: Cli) -> None:
    before = _present(shop)
    with shop.background("demo", "--days", "0", "--live", "--rate", "200", "--seed", "5") as running:
        eventually(lambda: _present(shop) > before + 200, "lines arrive")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert "accepted" in (shop.home / "out").read_text()
    lines = shop.rows("search", "demo:5", "--since", "10m", "--limit", "1000")
    assert lines
    assert max(line["timestamp"] for line in lines) <= datetime.fromtimestamp(time.time() + 1, UTC).isoformat()


def test_wrong_options_are_told(shop: Cli, up: Up) -> None:
    for arguments, message in (
        (("--days", "0"), "--days 0 sends nothing without --live"),
        (("--end", "2099-01-01"), "--end must lie between 1970 and now"),
        (("--end", "soon"), "--end must be like"),
    ):
        done = shop.run("demo", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
    done = shop.run("demo", "--days", "0.01", "--retry-for", "0", "--ingest-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "start it with `logstream up`" in done.stderr
