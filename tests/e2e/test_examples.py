"""Every example runs, or is what the program that reads it accepts."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.support.up import Up, eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.engine
def test_the_curl_examples(up: Up) -> None:
    login = json.loads((up.data / "first-login.json").read_text())
    environment = {
        **os.environ,
        "LOGSTREAM_API_KEY": login["api_key"],
        "LOGSTREAM_INGEST_URL": up.url("collector"),
        "LOGSTREAM_API_URL": up.url("API"),
    }

    def example(name: str) -> list[str]:
        done = subprocess.run(
            [EXAMPLES / name], env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        return [line for line in done.stdout.splitlines() if line]

    answers = [json.loads(line) for line in example("send-with-curl.sh")]
    assert [(answer["accepted"], answer["rejected"]) for answer in answers] == [(1, []), (2, [])]
    eventually(lambda: len(json.loads(example("search-with-curl.sh")[0])) == 2, "both records of the batch")
    logs, stats, *tail = example("search-with-curl.sh")
    assert [row["level"] for row in json.loads(logs)] == ["error", "warn"]
    assert sum(row["count"] for row in json.loads(stats)) == 2
    assert any(line.startswith("data:") for line in tail)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_posix_and_executable(path: Path) -> None:
    subprocess.run(["sh", "-n", path], check=True)
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.service")), ids=lambda path: path.name)
def test_units_run_commands_that_exist(path: Path) -> None:
    from typer.testing import CliRunner

    from logstream.cli.app import app

    text = path.read_text().replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()
    assert command[0] == "ExecStart=/opt/logstream/bin/logstream"
    shown = CliRunner().invoke(app, [command[1], "--help"])
    assert shown.exit_code == 0
    for option in (word for word in command[2:] if word.startswith("--")):
        assert option in shown.output
