"""The operator's day at the command line: people sign up, letters are dead, clocks are compared, files are private."""

import json
import stat
import urllib.request
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine


def sql(up: Up, query: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(up.url("ClickHouse"), data=query.encode()), timeout=60) as got:
        text: str = got.read().decode().strip()
        return text


def test_nobody_else_can_read_what_is_kept(up: Up) -> None:
    inside = [path for path in up.data.rglob("*") if not path.is_symlink()]
    assert {path.name for path in inside} >= {"auth.db", "bus", "clickhouse", "first-login.json"}
    readable = [path for path in inside if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not readable


def test_people_sign_up_and_change_their_password(up: Up, tmp_path: Path) -> None:
    bob = Cli(tmp_path / "bob")
    address = ("--api-url", up.url("API"), "--ingest-url", up.url("collector"))
    short = bob.run("signup", "bob@example.com", "--password-stdin", *address, stdin=b"short\n")
    assert (short.returncode, "at least 10 characters" in short.stderr) == (1, True)
    said = bob("signup", "bob@example.com", "--password-stdin", *address, stdin=b"correct horse battery\n")
    assert said == "signed up as bob@example.com (member); context 'local' is current\n"
    key = bob("keys", "create", "mine", "--scope", "ingest", "--scope", "read").strip()
    assert [row["name"] for row in bob.rows("keys", "list")] == ["mine"]
    bob("send", "hello from bob", "--api-key", key)

    wrong = bob.run("password", "--password-stdin", stdin=b"not my password\nanother good one\n")
    assert wrong.returncode == 1
    bob("password", "--password-stdin", stdin=b"correct horse battery\nanother good one\n")
    refused = bob.run("login", "bob@example.com", "--password-stdin", stdin=b"correct horse battery\n")
    assert refused.returncode == 1
    bob("login", "bob@example.com", "--password-stdin", stdin=b"another good one\n")


def test_an_expiry_must_lie_ahead(cli: Cli) -> None:
    for span in ("0d", "999999w", "soon"):
        refused = cli.run("keys", "create", "x", "--expires", span)
        assert (refused.returncode, "--expires must be" in refused.stderr) == (2, True), span


def test_dead_letters_are_listed_with_what_they_were_and_why(up: Up, cli: Cli) -> None:
    table = sql(up, "SELECT database || '.logs' FROM system.tables WHERE name = 'logs'")
    sql(up, f"ALTER TABLE {table} ADD CONSTRAINT p CHECK message NOT LIKE '%poison%'")
    try:
        cli("send", "poison \x1b[2J in here", "--service", "kitchen", "--level", "error")
        eventually(lambda: bool(cli.rows("deadletters", "list")), "a dead letter")
    finally:
        sql(up, f"ALTER TABLE {table} DROP CONSTRAINT p")
    shown = cli("deadletters", "list")
    assert "poison \\x1b[2J in here" in shown
    assert "kitchen" in shown
    assert "Constraint `p` for table" in shown
    assert "DB::Exception" not in shown
    letter = json.loads(cli("deadletters", "show", cli.rows("deadletters", "list")[0]["id"]))
    assert letter["record"]["message"] == "poison \x1b[2J in here"
    assert letter["raw"]
    assert cli.run("deadletters", "show", "0-99").returncode == 1


def test_dead_letters_are_replayed_and_discarded(up: Up, cli: Cli) -> None:
    table = sql(up, "SELECT database || '.logs' FROM system.tables WHERE name = 'logs'")
    sql(up, f"ALTER TABLE {table} ADD CONSTRAINT p CHECK message NOT LIKE '%venom%'")
    try:
        for number in range(3):
            cli("send", f"venom {number}", "--service", "cellar")
        chosen = ("--service", "cellar")
        eventually(lambda: len(cli.rows("deadletters", "list", *chosen)) == 3, "three dead letters")
    finally:
        sql(up, f"ALTER TABLE {table} DROP CONSTRAINT p")
    refused = cli.run("deadletters", "replay", *chosen)
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    assert cli.run("deadletters", "replay").returncode == 2
    assert cli.run("deadletters", "replay", *chosen, "--set", "colour=red", "--yes").returncode == 2
    dry = cli.run("deadletters", "replay", *chosen, "--dry-run")
    assert "venom 2" in dry.stdout
    assert "would replay: 3 replayed" in dry.stderr
    assert "1 discarded" in cli.run("deadletters", "discard", *chosen, "--limit", "1", "--yes").stderr
    done = cli.run("deadletters", "replay", *chosen, "--set", "metadata.cured=yes", "--yes", "-o", "json")
    assert [row["outcome"] for row in json.loads(done.stdout)] == ["replayed", "replayed"]
    eventually(lambda: len(cli.rows("search", "service:cellar", "--since", "1h")) == 2, "two lines")
    found = cli.rows("search", "service:cellar", "--since", "1h")
    assert {(line["message"], line["metadata"]["cured"]) for line in found} == {("venom 0", "yes"), ("venom 1", "yes")}
    states = [row["state"] for row in cli.rows("deadletters", "list", *chosen)]
    assert states == ["discarded", "replayed", "replayed"]
    last = cli.rows("deadletters", "list", "--state", "replayed")[0]["id"]
    again = cli.run("deadletters", "replay", last, "--yes")
    assert (again.returncode, "1 already replayed" in again.stderr) == (1, True)
    assert "replayed" in cli("ledger")


def test_doctor_compares_clocks(cli: Cli) -> None:
    assert "ok      clock: agrees with the server's" in cli("doctor")
