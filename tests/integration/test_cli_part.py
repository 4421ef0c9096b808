"""Two exports that write the same file."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from logstream.cli.failure import Failure
from logstream.cli.part import part_file


def write(path: Path, content: bytes, *, replace: bool) -> None:
    with part_file(path, replace=replace) as sink:
        sink.write(content)


def break_off(path: Path) -> None:
    with part_file(path, replace=True) as sink:
        sink.write(b"half")
        raise Failure("it broke off")


@pytest.fixture
def overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that another export finishes after the next one has opened its part and before it locks it."""
    path = tmp_path / "out.ndjson"
    lock = fcntl.flock
    others = [part_file(path, replace=False)]
    others[0].__enter__().write(b"whole\n")

    def late(descriptor: Any, operation: int) -> None:
        if others:
            others.pop().__exit__(None, None, None)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    return path


def test_a_file_finished_meanwhile_is_not_emptied(overtaken: Path) -> None:
    with pytest.raises(Failure, match="exists; replace it with --force"):
        write(overtaken, b"second\n", replace=False)
    assert overtaken.read_bytes() == b"whole\n"
    assert os.listdir(overtaken.parent) == ["out.ndjson"]


def test_a_file_finished_meanwhile_is_replaced_when_the_next_one_is_whole(overtaken: Path) -> None:
    with part_file(overtaken, replace=True) as sink:
        assert overtaken.read_bytes() == b"whole\n"
        sink.write(b"second\n")
    assert overtaken.read_bytes() == b"second\n"
    assert os.listdir(overtaken.parent) == ["out.ndjson"]


def test_one_at_a_time_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    with part_file(path, replace=False) as sink:
        sink.write(b"first\n")
        with pytest.raises(Failure, match="another export is writing"):
            write(path, b"second\n", replace=False)
    assert path.read_bytes() == b"first\n"


def test_one_that_fails_leaves_nothing_but_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    path.write_bytes(b"old\n")
    with pytest.raises(Failure, match="broke off"):
        break_off(path)
    assert path.read_bytes() == b"old\n"
    assert os.listdir(tmp_path) == ["out.ndjson"]
