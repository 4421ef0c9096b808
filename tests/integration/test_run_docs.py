"""docs/processes.md says what the processes do: its files are written, its commands run, its names compared."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.readme import steps

from logstream import __version__
from logstream.errors import StoreUnavailable
from logstream.run.load import load
from logstream.run.readiness import Readiness
from logstream.run.settings import PROCESSES, ApiProcess, ProcessorProcess
from logstream.settings import RunSettings, TlsSettings

DOCS = (Path(__file__).parents[2] / "docs" / "processes.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the document's files, and the secrets that they speak of."""
    for name, content in re.findall(r"^```yaml file=(\S+)\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(content)
    for name in ("admin", "kafka", "postgres", "clickhouse"):
        (tmp_path / f"{name}-password").write_text("a secret that nobody sees\n")
    command = tmp_path / "bin" / "logstream"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m logstream.cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def test_every_command_does_what_the_document_says(folder: Path) -> None:
    found = steps(DOCS)
    assert len(found) == 5
    status = 0
    for step in found:
        if step.command == "echo $?":
            assert step.output == (str(status),)
            continue
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}
        environ["PATH"] = f"{folder / 'bin'}:{environ['PATH']}"
        if "wrong.yaml" in step.command:
            environ["LOGSTREAM_COLLECTOR_FLUSH_ROWS"] = "many"
        done = subprocess.run(
            step.command, check=False, shell=True, cwd=folder, env=environ, text=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert tuple(done.stdout.splitlines()) == step.output, step.command
        status = done.returncode


@pytest.mark.parametrize("kind", PROCESSES.values())
def test_the_file_serves_every_process(
    kind: type[ProcessorProcess], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    settings = load(kind, environ={}, path=Path("logstream.yaml")).settings
    assert settings.kafka.password.get_secret_value() == "a secret that nobody sees"
    assert settings.streams()[0].retention_days == 14


async def test_the_answer_of_readyz_looks_so() -> None:
    (shown,) = re.findall(r"^```json readyz\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)

    async def fine() -> None: ...

    async def away() -> None:
        raise StoreUnavailable("ClickHouse does not answer")

    readiness = Readiness("log", "accounts", "store", "schema")
    for name, check in {"log": fine, "accounts": fine, "store": away, "schema": away}.items():
        readiness.reached(name, check)
    is_ready, body = await readiness.answer()
    assert not is_ready
    assert {**body, "version": __version__} == {**json.loads(shown), "version": __version__}


def test_the_numbers_are_the_defaults() -> None:
    run, tls = RunSettings(), TlsSettings()
    for text in (
        f"`run.hang_seconds` ({run.hang_seconds:g})",
        f"`run.drain_seconds` ({run.drain_seconds:g})",
        f"`run.shutdown_seconds`, {run.shutdown_seconds:g}",
        f"`tls.reload_seconds` ({tls.reload_seconds:g})",
    ):
        assert text in DOCS


def test_every_setting_that_is_named_is_one() -> None:
    names = set(re.findall(r"`(run|tls|auth|kafka|store)\.(\w+)[`:]", DOCS))
    assert len(names) > 10
    for section, field in names:
        settings = load(ApiProcess, environ={}).settings
        assert field in type(getattr(settings, section)).model_fields, f"{section}.{field}"
