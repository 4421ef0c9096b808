"""What reaches a terminal: nothing that steers it, columns that fit."""

import contextlib
import csv
import io
import json
import os
import pty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.cli import output
from logstream.cli.options import Format

CONTROLS = {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e", "\u2066", "\u200f", "\u2028"}
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(sorted(CONTROLS))), max_size=40)


@given(texts, texts, texts)
def test_a_line_never_steers_the_terminal(message: str, service: str, value: str) -> None:
    entry = {
        "timestamp": "2026-01-31T12:00:00Z", "service": service, "level": "error", "message": message,
        "metadata": {value: value}, "trace_id": value,
    }  # fmt: skip
    line = output.log_line(entry, colour=False)
    assert not CONTROLS - {"\t"} & set(line)


def test_a_stack_trace_keeps_its_lines_where_a_person_looks() -> None:
    entry = {
        "timestamp": "x",
        "service": "s",
        "level": "error",
        "message": "boom\r\n\tat f\x1b[2J\nx ERROR s: forged\n",
    }
    assert output.log_line(entry, colour=False, breaks=True).splitlines() == [
        "x ERROR s: boom", "    │ \tat f\\x1b[2J", "    │ x ERROR s: forged",
    ]  # fmt: skip
    assert output.log_line(entry, colour=False).count("\n") == 0


@given(texts)
def test_json_says_the_same_without_controls(text: str) -> None:
    line = output.to_json({"message": text})
    assert json.loads(line) == {"message": text}
    assert not {*map(chr, range(32)), *map(chr, range(127, 160))} & set(line)


def test_markup_is_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([{"name": "[bold]x[/bold] :smile:"}], ("name",), Format.TABLE, empty="")
    assert capsys.readouterr().out == "name\n[bold]x[/bold] :smile:\n"


def test_numbers_for_people() -> None:
    assert [output.number(value) for value in (3, 1234567, 0.0625, 1.005, 1234.56, 2.0, 1e20)] == [
        "3", "1,234,567", "0.0625", "1.00", "1,234.6", "2", "1e+20",
    ]  # fmt: skip
    assert output.digits([1.0, 2.0]) == output.digits([]) == 0
    assert [output.number(value, output.digits([80.79, 9.6])) for value in (80.79, 9.6)] == ["80.79", "9.60"]


def test_csv_is_what_a_program_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [['say "hi", now', "a\nb", None, 1.5, {"k": "v"}], ["\x1b[2J", "", True, 3, []]]
    output.csv(["one", "two", "three", "four", "five"], rows)
    found = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert found == [
        ["one", "two", "three", "four", "five"],
        ['say "hi", now', "a\nb", "", "1.5", '{"k":"v"}'],
        ["\x1b[2J", "", "true", "3", "[]"],
    ]


def test_much_csv_is_written_piece_by_piece(capsys: pytest.CaptureFixture[str]) -> None:
    output.csv(["n"], ([number] for number in range(50_000)))
    assert capsys.readouterr().out.splitlines() == ["n", *map(str, range(50_000))]


def test_names_of_columns_may_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["created_at", "[b]user_id"], [["x", "y"]], exact=True)
    assert capsys.readouterr().out == "created_at  [b]user_id\nx           y\n"


def test_columns_without_values_are_left_out_and_numbers_stand_right(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"key_id": "a", "accepted": 1, "expires_at": None}, {"key_id": "b", "accepted": 12_000, "expires_at": None}]
    output.show(rows, ("key_id", "accepted", "expires_at"), Format.TABLE, empty="")
    assert capsys.readouterr().out == "key id  accepted\na              1\nb         12,000\n"


def read_all(terminal: int) -> str:
    """What was written to the other end, which is closed; a single read may return a part of it."""
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65_536):
            shown += piece
    return shown.decode()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_in_a_terminal_ids_stay_whole_and_rows_fit(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at = "2026-11-24T07:47:18Z"
    row = {
        "id": "cv495manu3u2", "name": "the key of the payment service", "stream": "default",
        "scopes": ["ingest", "read"], "created_at": at, "expires_at": at, "last_used_at": at,
    }  # fmt: skip
    ours, theirs = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    try:
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr("sys.stdout", terminal)
            output.show([row], tuple(row), Format.TABLE, empty="")
        shown = read_all(ours)
    finally:
        os.close(ours)
    plain = [line.rstrip("\r") for line in shown.replace("\033[1m", "").replace("\033[0m", "").split("\n")]
    assert all(len(line) <= columns for line in plain)
    assert "cv495manu3u2" in shown
    assert "2026-11-24" in shown
