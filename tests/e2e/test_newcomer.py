"""The newcomer's day: start it, send a line with curl, see it arrive, send real log files, find their errors."""

import gzip
import json
import random
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.loghub import LOGHUB
from tests.support.up import Cli, Up, eventually

from logstream.cli.lines import guess_level

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]


def log_files(folder: Path) -> Sequence[Path]:
    """Real log files where there are some, else generated ones that are as uneven."""
    if found := sorted(LOGHUB.glob("*/*_2k.log")):
        return found
    dice = random.Random(7)
    folder.mkdir(exist_ok=True)
    made = []
    for name in "abcdefg":
        path = folder / f"{name}_2k.log"
        lines = [
            f"{dice.choice(['INFO', 'WARN', '[error]', ''])} request {dice.getrandbits(64):x} of user{i % 17} done"
            for i in range(2000)
        ]
        path.write_text("\n".join(lines) + "\n")
        made.append(path)
    return made


def test_a_line_sent_with_curl_is_seen_by_tail_and_search(up: Up, cli: Cli) -> None:
    key = json.loads((up.data / "first-login.json").read_text())["api_key"]
    with cli.background("tail", "--service", "curl", "--limit", "1") as tail:
        # A tail shows what arrives from now on, so it is sent until it was seen.
        deadline = time.monotonic() + 30
        sent = 0
        while tail.poll() is None and time.monotonic() < deadline:
            subprocess.run(
                ["curl", "-sSf", up.url("collector") + "/ingest", "-H", f"Authorization: Bearer {key}",
                 "-d", '{"service":"curl","level":"error","message":"Hello from curl","metadata":{"n":1}}'],
                check=True, capture_output=True,
            )  # fmt: skip
            sent += 1
            time.sleep(0.3)
        assert tail.wait(10) == 0
    shown = (cli.home / "out").read_text()
    assert re.fullmatch(r"[-0-9]+ [0-9:.]+ ERROR curl: Hello from curl  n=1\n", shown)
    eventually(lambda: len(cli.rows("search", "hello", "--service", "curl")) == sent, "all in search")
    text = cli("search", "hello", "--service", "curl")
    assert text.count("ERROR curl: Hello from curl  n=1\n") == sent


def test_real_log_files_are_stored_found_and_counted(up: Up, cli: Cli, tmp_path: Path) -> None:
    files = log_files(tmp_path / "logs")
    assert len(files) == 7
    sent = {path.name.partition(".")[0]: lines_of(path) for path in files}
    for path, lines in zip(files, sent.values(), strict=True):
        answer = json.loads(cli("send", str(path), "-o", "json"))
        assert (answer["accepted"], answer["rejected"], answer["duplicates"]) == (len(lines), 0, 0)
    eventually(lambda: all(r["in_flight"] == 0 for r in cli.rows("ledger")), "all stored")
    for service, lines in sent.items():
        stored = cli.rows("search", "--service", service, "--limit", "10000")
        assert Counter(row["message"] for row in stored) == Counter(lines)
        # Found again by a word of it: of its first, its middle and its last line.
        for line in (lines[0], lines[len(lines) // 2], lines[-1]):
            word = max(re.findall(r"[A-Za-z0-9_]+", line), key=len)
            wanted = sum(word.lower() in other.lower() for other in lines)
            assert len(read(up, "/logs", search=word, service=service, limit="10000")) == wanted
        minutes = read(up, "/stats", service=service)
        assert sum(minute["count"] for minute in minutes) == len(lines)
        assert Counter(str(row["timestamp"])[:16] for row in stored) == {
            m["timestamp"][:16]: m["count"] for m in minutes
        }
        errors = read(up, "/logs", service=service, level="error,fatal", limit="10000")
        assert len(errors) == sum(guess_level(line) in {"error", "fatal"} for line in lines)
    bars = cli("stats", "--since", "1d").splitlines()
    assert re.fullmatch(r"[\d,]+ logs, one bar per minute", bars[-1])
    assert all(r["accepted"] == r["stored"] + r["deduplicated"] + r["dead_lettered"] for r in cli.rows("ledger"))


def lines_of(path: Path) -> list[str]:
    text = path.read_bytes().decode(errors="backslashreplace")
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def read(up: Up, path: str, **params: str) -> list[dict[str, Any]]:
    """As curl would ask the API."""
    key = json.loads((up.data / "first-login.json").read_text())["api_key"]
    url = f"{up.url('API')}{path}?{urllib.parse.urlencode(params)}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})) as answer:
        rows: list[dict[str, Any]] = json.load(answer)
        return rows


def test_a_file_is_followed_through_rotation_and_a_break(up: Up, cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "follow.log"
    log.write_text("".join(f"follow line {i}\n" for i in range(50)))

    def messages() -> list[str]:
        return sorted(str(row["message"]) for row in cli.rows("search", "--service", "follow", "--limit", "10000"))

    def wait_for(count: int) -> None:
        eventually(lambda: len(messages()) >= count, f"{count} lines")

    with cli.background("send", "--follow", str(log)) as sender:
        wait_for(50)
        with log.open("a") as file:
            file.writelines(f"follow line {i}\n" for i in range(50, 60))
        log.rename(tmp_path / "follow.log.1")
        log.write_text("".join(f"follow line {i}\n" for i in range(60, 70)))
        wait_for(70)
        sender.kill()
        sender.wait()
    with log.open("a") as file:
        file.writelines(f"follow line {i}\n" for i in range(70, 80))
    log.rename(tmp_path / "follow.log.1")
    log.write_text("follow line 80\n")
    with cli.background("send", "--follow", str(log)) as sender:
        wait_for(81)
    assert sender.returncode == 0
    assert messages() == sorted(f"follow line {i}" for i in range(81))


def test_a_run_that_is_killed_goes_on_and_doubles_nothing(up: Up, cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "broken.log"
    total = 200_000
    log.write_text("".join(f"broken line {i} with some text\n" for i in range(total)))
    dice = random.Random(5)
    for _ in range(3):
        with cli.background("send", str(log)) as sender:
            # At any moment, but not after the end: then the next run would rightly send the file once more.
            eventually(lambda: (cli.home / "state").exists() or sender.poll() is not None, "the first position")
            time.sleep(dice.uniform(0.0, 0.2))
            sender.kill()
            assert sender.wait() == -9
    assert json.loads(cli("send", str(log), "-o", "json"))["rejected"] == 0
    rows = f"SELECT count(), uniqExact(message) FROM {database(up)}.logs WHERE service = 'broken'"
    eventually(lambda: sql(up, rows).split()[1] == str(total), "all lines", seconds=90)
    assert sql(up, rows).split() == [str(total), str(total)]


def test_pipes_archives_and_rejections(up: Up, cli: Cli, tmp_path: Path) -> None:
    piped = cli("send", "-", "--service", "pipe", "-m", "host=web1", stdin=b'one\n\n{"msg":"two","n":3}\nthree')
    assert piped == "3 accepted, 1 blank line left out\n"
    (tmp_path / "old.log.gz").write_bytes(gzip.compress(b"packed one\npacked two\n"))
    assert cli("send", str(tmp_path / "old.log.gz"), "--service", "pipe") == "2 accepted\n"
    bad = cli.run("send", "--service", "pipe", stdin=b'{"msg":"x","timestamp":"never"}\n{"msg":"fine"}\n')
    assert bad.returncode == 1
    assert bad.stdout == "1 accepted, 1 rejected\n"
    assert "standard input, line 1" in bad.stderr
    assert "timestamp" in bad.stderr
    eventually(lambda: len(cli.rows("search", "--service", "pipe")) == 6, "all records")
    found = {row["message"]: row["metadata"] for row in cli.rows("search", "--service", "pipe")}
    assert found["one"] == {"host": "web1"}
    assert found["two"] == {"host": "web1", "n": "3"}


def test_keys_and_people_are_looked_after(up: Up, cli: Cli, tmp_path: Path) -> None:
    made = json.loads(cli("keys", "create", "reader", "--scope", "read", "-o", "json"))
    reader = ("--api-key", made["secret"], "--ingest-url", up.url("collector"))
    refused = cli.run("send", "no", *reader)
    assert (refused.returncode, "use a key or a login that may do this" in refused.stderr) == (1, True)
    cli("keys", "revoke", made["key"]["id"])
    revoked = cli.run("search", "x", "--api-key", made["secret"])
    assert (revoked.returncode, "revoked" in revoked.stderr) == (1, True)
    assert made["secret"] not in revoked.stderr

    password = cli("users", "create", "ada@example.com", "--role", "viewer").strip()
    ada = Cli(tmp_path / "ada")
    ada("login", "ada@example.com", "--password-stdin", "--api-url", up.url("API"), stdin=password.encode() + b"\n")
    ada("search", "anything")
    denied = ada.run("users", "list")
    assert (denied.returncode, "use a key or a login that may do this" in denied.stderr) == (1, True)
    cli("users", "role", "ada@example.com", "admin")
    assert {row["email"] for row in ada.rows("users", "list")} >= {"ada@example.com"}
    cli("users", "reset", "ada@example.com")
    assert ada.run("search", "anything").returncode == 1
    cli("users", "delete", "ada@example.com")
    cli("deadletters", "list")


def test_doctor_says_what_is_wrong_and_what_to_do(up: Up, cli: Cli) -> None:
    well = cli("doctor")
    assert "PROBLEM" not in well
    assert "user 'admin@logstream.local' may: admin, ingest, read" in well
    ill = cli.run("doctor", "--api-url", "http://127.0.0.1:9", "--ingest-url", "http://127.0.0.1:9")
    assert ill.returncode == 1
    assert ill.stdout.count("PROBLEM") == 2
    assert "→ start it with `logstream up`" in ill.stdout


def database(up: Up) -> str:
    return sql(up, "SELECT name FROM system.databases WHERE name LIKE 'logstream_local_default_%'").strip()


def sql(up: Up, query: str) -> str:
    with urllib.request.urlopen(
        urllib.request.Request(up.url("ClickHouse"), data=query.encode()), timeout=60
    ) as answer:
        text: str = answer.read().decode()
        return text
