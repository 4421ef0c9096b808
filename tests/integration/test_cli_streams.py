"""`logstream streams` against a real `logstream up`: a stream is made, written to, read, changed and deleted."""

import json

import pytest
from tests.support.up import Cli, Up, eventually

pytestmark = pytest.mark.engine


def show(cli: Cli, name: str) -> dict[str, object]:
    return dict(json.loads(cli.run("streams", "show", name, "-o", "json").stdout))


def test_a_stream_from_the_command_line(up: Up, cli: Cli) -> None:
    made = cli.run("streams", "create", "payments", "--retention-days", "90", "--records-per-second", "20000")
    assert made.returncode == 0, made.stderr
    eventually(lambda: show(cli, "payments")["status"] == "ready", "ready")
    listed = cli.run("streams", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["name", "default", "payments"]
    assert "20,000 records/s" in listed
    again = cli.run("streams", "create", "payments")
    assert (again.returncode, "'payments' already" in again.stderr) == (1, True)
    wrong = cli.run("streams", "create", "Payments")
    assert (wrong.returncode, "name must be 1 to 50 characters" in wrong.stderr) == (1, True)

    key = json.loads(
        cli.run(
            "keys", "create", "app", "--stream", "payments", "--scope", "ingest", "--scope", "read", "-o", "json"
        ).stdout
    )
    assert key["key"]["stream"] == "payments"
    sent = cli.run("send", "hello from payments", "--api-key", key["secret"])
    assert sent.returncode == 0, sent.stderr
    eventually(
        lambda: "hello from payments" in cli.run("search", "hello", "--api-key", key["secret"]).stdout, "searchable"
    )

    assert cli.run("streams", "set", "payments").returncode == 2
    changed = cli.run("streams", "set", "payments", "--records-per-second", "0", "--bytes-per-second", "5e6")
    assert changed.returncode == 0, changed.stderr
    cli.run("streams", "set", "payments", "--retention-days", "14", "--anonymous-reads")
    found = show(cli, "payments")
    assert (found["quota"], found["retention_days"], found["anonymous_reads"]) == (
        {"records_per_second": None, "bytes_per_second": 5e6}, 14, True,
    )  # fmt: skip

    assert cli.run("streams", "delete", "payments", "--confirm", "payment").returncode == 2
    assert cli.run("streams", "delete", "payments", stdin=b"no\n").returncode == 2
    assert show(cli, "payments") == found
    gone = cli.run("streams", "delete", "payments", stdin=b"payments\n")
    assert (gone.returncode, "stream payments is deleted" in gone.stdout) == (0, True), gone.stderr
    assert cli.run("streams", "show", "payments").returncode == 1
    assert cli.run("send", "too late", "--api-key", key["secret"]).returncode == 1
    kept = cli.run("streams", "delete", "default", "--confirm", "default")
    assert (kept.returncode, "it stays" in kept.stderr) == (1, True)
