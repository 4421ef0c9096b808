"""Lines of log files as records."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.cli.lines import Defaults, guess_level, record_of
from logstream.record import parse_level

PLAIN = Defaults("app")


def record(line: bytes, defaults: Defaults = PLAIN) -> dict[str, object]:
    made = record_of(line, defaults)
    assert made is not None
    decoded: dict[str, object] = json.loads(made)
    return decoded


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6", "error"),
        ("[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok", "info"),
        ("081109 203615 148 INFO dfs.DataNode$PacketResponder: terminating", "info"),
        ("2015-07-29 19:04:29,071 - WARN  [SendWorker:188978561024] - Send worker leaving", "warn"),
        ('level=warning msg="slow error handling"', "warn"),
        ("java.lang.IllegalStateException: no", ""),
        ("an Exception was thrown", "error"),
        ("everything is fine", ""),
        ("INFO the word error comes later", "info"),
        ("terror and warningless", ""),
    ],
)
def test_the_level_is_guessed_from_the_words(line: str, level: str) -> None:
    assert guess_level(line) == level
    assert level == "" or parse_level(level) is not None


def test_a_plain_line_is_a_message_without_its_line_end() -> None:
    assert record(b"hello \xe2\x82\xac\r\n") == {"service": "app", "message": "hello €"}


def test_blank_lines_are_no_records() -> None:
    assert record_of(b"  \t\r\n", PLAIN) is None


def test_bytes_that_are_not_utf8_are_kept_visibly() -> None:
    assert record(b"caf\xe9")["message"] == "caf\\xe9"


def test_a_json_record_passes_unchanged() -> None:
    line = b'{"message": "x", "service": "s", "n": 1.10, "big": 123456789012345678901234567890}'
    assert record_of(line + b"\n", PLAIN) == line


def test_a_json_record_gets_what_it_lacks() -> None:
    defaults = Defaults("app", "warn", {"host": "web1"})
    assert record(b'{"msg":"x"}', defaults) == {
        "msg": "x", "service": "app", "level": "warn", "metadata": {"host": "web1"},
    }  # fmt: skip
    assert record(b'{"msg":"x","app":"mine","severity":"info"}', Defaults("app", "warn")) == {
        "msg": "x", "app": "mine", "severity": "info",
    }  # fmt: skip


def test_its_own_metadata_wins() -> None:
    made = record(b'{"msg":"x","metadata":{"host":"own","n":1}}', Defaults("app", "", {"host": "web1", "zone": "a"}))
    assert made["metadata"] == {"host": "own", "n": 1, "zone": "a"}


@pytest.mark.parametrize("line", [b'{"a": 1}', b'{"message": ', b"{not json}", b'{"message":"\xff"}', b"[1, 2]"])
def test_other_json_is_text(line: bytes) -> None:
    assert record(line)["message"] == line.decode(errors="backslashreplace")


@given(st.binary(max_size=200).filter(lambda line: b"\n" not in line))
def test_any_line_is_one_line_of_json_and_always_the_same(line: bytes) -> None:
    made = record_of(line, Defaults("app", "", {"k": "v"}))
    if made is None:
        assert not line.strip()
        return
    assert made == record_of(line, Defaults("app", "", {"k": "v"}))
    assert b"\n" not in made
    assert isinstance(json.loads(made), dict)


@given(st.text(max_size=200))
def test_text_comes_back_as_it_was(text: str) -> None:
    line = text.replace("\n", " ").replace("\r", " ").encode()
    if line.strip() and not line.lstrip().startswith(b"{"):
        assert record(line)["message"] == line.decode()
