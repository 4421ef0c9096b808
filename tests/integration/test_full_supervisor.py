"""The supervisor of the full installation, with small processes in the servers' and services' places."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.up import eventually


class Supervised:
    """One run of `tests.support.full_child`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "log"
        root = str(Path(__file__).parents[2])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.full_child", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.path.join(root, "services")])},
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def told(self, sentence: str) -> None:
        """Wait until it was said."""
        eventually(lambda: f"logstream: {sentence}\n" in self.log, sentence)

    def pid(self, name: str) -> int:
        return int(re.findall(rf"{name} is process (\d+)", self.log)[-1])

    def ended(self) -> int:
        return self.process.wait(60)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Supervised]]:
    """Runs that end with the test."""
    runs: list[Supervised] = []
    yield runs
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def _in_order(log: str, *sentences: str) -> None:
    places = [log.index(f"logstream: {sentence}\n") for sentence in sentences]
    assert places == sorted(places), log


def test_steps_go_up_in_order_and_stages_down(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "below:good", "/", "above:good")
    running.append(run)
    run.told("step 2 is done")
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    up = ("below is ready", "step 1 is done", "above is ready", "step 2 is done")
    _in_order(run.log, *up, "stopping", "above says bye", "above has stopped", "below says bye", "below has stopped")


def test_what_dies_is_started_again(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "a:good", "b:good")
    running.append(run)
    run.told("step 1 is done")
    first, other = run.pid("a"), run.pid("b")
    os.kill(first, signal.SIGKILL)
    run.told("a was killed by SIGKILL; restart 1 in 0.1 s")
    eventually(lambda: run.log.count("a is ready") == 2, "a is back")
    assert run.pid("a") != first
    assert run.pid("b") == other
    assert run.log.count("step 1 is done") == 1
    run.process.terminate()
    assert run.ended() == 0


def test_what_cannot_start_ends_everything_with_its_reason(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "fine:good", "bad:wrong")
    running.append(run)
    assert run.ended() == 1
    _in_order(run.log, "bad says the disk is made of cheese", "bad cannot be started (ended with status 1); giving up")
    assert "fine has stopped" in run.log
    assert "step 1 is done" not in run.log


def test_a_step_that_fails_ends_everything_with_its_sentence(tmp_path: Path, running: list[Supervised]) -> None:
    (tmp_path / "refuse").touch()
    run = Supervised(tmp_path, "below:good", "/", "above:good")
    running.append(run)
    assert run.ended() == 1
    _in_order(run.log, "step 1 is done", "step refused", "below has stopped")
    assert "above" not in run.log


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "a:good", "/", "b:deaf")
    running.append(run)
    run.told("step 2 is done")
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 0
    _in_order(
        run.log, "b did not stop in time and is killed; what was acknowledged is kept", "b was killed by SIGKILL",
        "a has stopped",
    )  # fmt: skip


def test_a_frozen_process_is_woken_to_stop(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "a:good")
    running.append(run)
    run.told("step 1 is done")
    os.kill(run.pid("a"), signal.SIGSTOP)
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 0
    assert "a has stopped" in run.log


def test_it_can_be_stopped_before_it_is_ready(tmp_path: Path, running: list[Supervised]) -> None:
    run = Supervised(tmp_path, "a:good", "b:never", "/", "c:good")
    running.append(run)
    run.told("a is ready")
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    assert "c is process" not in run.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_it(tmp_path: Path, running: list[Supervised], number: signal.Signals) -> None:
    run = Supervised(tmp_path, "a:good", "b:deaf", "/", "c:never")
    running.append(run)
    eventually(lambda: "c is process" in run.log, "c was started")
    family = [psutil.Process(run.pid(name)) for name in "abc"]
    run.process.send_signal(number)
    run.ended()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
