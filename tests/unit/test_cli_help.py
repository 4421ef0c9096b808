"""Every command explains itself with an example, and every example is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from logstream.cli.app import app


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its path, those of groups too."""

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, child in sorted(getattr(command, "commands", {}).items()):
            yield from below(f"{path} {name}".strip(), child)

    yield from below("", typer.main.get_command(app))


ALL = [found for found in commands() if found[0]]


def examples(command: Any) -> list[str]:
    return re.findall(r"^\s*(?:Examples?: )?(logstream .*)$", command.help or "", re.MULTILINE)


def test_all_commands_are_walked() -> None:
    assert {"search", "query", "queries cancel", "saved run", "export", "around"} <= {path for path, _ in ALL}


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_help_has_an_example_of_the_command(path: str, command: Any) -> None:
    assert any(example.startswith(f"logstream {path}") for example in examples(command)), command.help


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_the_line_in_the_list_of_commands_is_whole(path: str, command: Any) -> None:
    """In a terminal of 80 columns."""
    assert not command.get_short_help_str(60).endswith("...")


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_options_of_examples_exist(path: str, command: Any) -> None:
    of = dict(ALL)
    for example in examples(command):
        words = shlex.split(example)[1:]
        named = next((" ".join(words[:size]) for size in (2, 1) if " ".join(words[:size]) in of), None)
        assert named is not None, example
        known = {option for parameter in of[named].params for option in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"-h", "--help"}
        given = words[: words.index("--")] if "--" in words else words
        given = given[: given.index("|")] if "|" in given else given
        assert {word for word in given if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known, example


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_option_says_what_it_does(path: str, command: Any) -> None:
    if path in {"up", "clickhouse"}:
        return
    silent = [p.name for p in command.params if p.param_type_name == "option" and not p.help and p.name != "help"]
    assert silent == []
