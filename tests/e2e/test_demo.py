"""`logstream demo` on a real platform, and the commands of docs/demo.md that find the incident's cause."""

import json
import re
import shlex
import signal
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
COMMANDS = [line for line in PAGE.splitlines() if re.match(r"logstream (query|search|patterns) ", line)]
LINES_PER_DAY = "30000"
TWO_DAYS = timedelta(days=2)


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


def _get(up: Up, kind: str, query: str, since: timedelta, limit: int) -> Any:
    """The answer of GET /api/v1/<kind>."""
    asked = {"query": query, "start_time": (datetime.now(UTC) - since).isoformat(), "limit": limit}
    login = json.loads((up.data / "first-login.json").read_text())
    request = urllib.request.Request(
        f"{up.url('API')}/api/v1/{kind}?{urllib.parse.urlencode(asked)}",
        headers={"Authorization": f"Bearer {login['api_key']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def ask(shop: Cli, up: Up) -> Callable[[str], list[str]]:
    """What the API answers to a command of the page, one text a row."""

    def answered(command: str) -> list[str]:
        _, kind, query, option, since, *_ = shlex.split(command)
        assert (option, since[-1]) == ("--since", "d")
        answer = _get(up, kind, query, timedelta(days=int(since[:-1])), 100)
        return [json.dumps(row) for row in answer.get("rows") or answer.get("patterns") or answer["logs"]]

    return answered


def test_the_page_has_three_commands_and_five_more() -> None:
    assert len(COMMANDS) == 8
    assert PAGE.index("**3.") < PAGE.index(COMMANDS[2]) < PAGE.index("## Looking further") < PAGE.index(COMMANDS[3])


def test_three_commands_find_the_cause(ask: Callable[[str], list[str]]) -> None:
    worst = ask(COMMANDS[0])[0]
    assert "payment" in worst
    assert "eu-west-1" in worst
    assert "service:payment region:eu-west-1" in COMMANDS[1], "the second asks about what the first found"

    error = ask(COMMANDS[1])[0]
    assert "PoolTimeoutError" in error
    version = re.search(r"v[\d.]+", error)
    assert version is not None
    assert f"service:payment {version[0]}" in COMMANDS[2], "the third asks about what the second found"

    deployed, rolled_back = ask(COMMANDS[2])
    assert re.search(
        r'"payment", "eu-west-1", "Deployed version v2\.14\.0 .*pool payment-db max_size 40 -> 4 \(its new default\)"',
        deployed,
    )
    assert re.search(r'"payment", "eu-west-1", "Rolled back to version v2\.13\.4', rolled_back)


def test_decoys_are_not_among_the_answers(ask: Callable[[str], list[str]]) -> None:
    for command in COMMANDS[:3]:
        assert not re.search("catalog|price_cents", "".join(ask(command)))


@pytest.mark.parametrize("command", COMMANDS[3:])
def test_the_other_commands_of_the_page_answer(ask: Callable[[str], list[str]], command: str) -> None:
    assert re.search(r"payment|eu-west-1", ask(command)[0])


@pytest.mark.usefixtures("shop")
def test_the_trace_of_a_failed_order_leads_to_payment(up: Up) -> None:
    [failed] = _get(up, "search", "service:checkout level>=error", TWO_DAYS, 1)["logs"]
    lines = _get(up, "search", f"trace_id:{failed['trace_id']}", TWO_DAYS, 100)["logs"]
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


def test_live_goes_on_until_interrupted(shop: Cli, up: Up) -> None:
    before = _present(shop)
    with shop.background("demo", "--days", "0", "--live", "--rate", "200", "--seed", "5") as running:
        eventually(lambda: _present(shop) > before + 200, "lines arrive")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert "accepted" in (shop.home / "out").read_text()
    lines = _get(up, "search", "demo:5", timedelta(minutes=10), 1_000)["logs"]
    assert lines[0]["timestamp"] <= datetime.now(UTC).isoformat()


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
