"""`logstream redact`: files in, what would be left out of them on standard output."""

import json
from pathlib import Path

import pytest

from logstream.cli.app import run

LINES = '{"message":"4111 1111 1111 1111 of ada","user":{"password":"x1"}}\nfrom 10.0.0.1\nnothing\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text(LINES)
    return path


def test_lines_before_and_after(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["redact", str(log)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "- 4111 1111 1111 1111 of ada  user.password=x1",
        "+ [card] of ada  user.password=[secret]",
        "- from 10.0.0.1",
        "+ from [ipv4]",
    ]
    assert "3 lines, 3 findings of 3 rules" in err
    assert log.read_text() == LINES


def test_all_lines_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["redact", "--all", "-o", "ndjson", "--detector", "ip", str(log)]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [row["rules"] for row in rows] == [["ipv4"]] or [row["rules"] for row in rows] == [[], ["ipv4"], []]
    assert rows[1]["after"]["message"] == "from [ipv4]"


def test_counts(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["redact", "--count", "-o", "json", str(log)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["rule"]: row["lines"] for row in rows} == {"card": 1, "secret": 1, "ipv4": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", '[[rules]]\nname = "who"\npattern = "of (\\\\w+)"\naction = "reject"\n'),
        (
            "r.toml",
            '[redaction]\nhash_key = "x"\n[[redaction.rules]]\nname="who"\npattern=\'of (\\w+)\'\naction="reject"\n',
        ),
        ("r.json", '[{"name": "who", "pattern": "of (\\\\w+)", "action": "reject"}]'),
    ],
)  # fmt: skip
def test_rules_of_a_file(log: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    rules = log.with_name(name)
    rules.write_text(text)
    assert run(["redact", "--rules", str(rules), str(log)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "+ (rejected by who)"
    assert "1 would be rejected" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rules]]\nname = 'x'\npattern = 'a\\y'", "rules.0.pattern: the pattern of the rule 'x', column 2"),
        ("[[rules]]\ndetector = 'card'\naction = 'burn'", "rules.0.action"),
        ("[[rules]\n", "r.toml:"),
        ("redaction = 1", "must be a table"),
        ("rulez = []", "rulez"),
    ],
)
def test_a_wrong_file_is_named(log: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    rules = log.with_name("r.toml")
    rules.write_text(text)
    assert run(["redact", "--rules", str(rules), str(log)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_hashes_are_of_the_key_in_the_environment(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = log.with_name("r.json")
    rules.write_text('[{"detector": "ipv4", "action": "hash"}]')

    def hashed() -> str:
        assert run(["redact", "--rules", str(rules), str(log)]) == 0
        return capsys.readouterr().out

    assert hashed() != hashed(), "a key of each run's own"
    monkeypatch.setenv("LOGSTREAM_REDACTION_HASH_KEY", "0123456789abcdef")
    assert hashed() == hashed()


def test_a_missing_file_fails_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["redact", str(tmp_path / "none.log")]) == 1
    assert "cannot be read" in capsys.readouterr().err
