"""Every command of the kubectl plugin explains itself with examples that it takes; names are the operator's own."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logstream_kubectl import resources
from logstream_kubectl.app import command

PAGE = (Path(__file__).parents[2] / "docs" / "kubectl.md").read_text()
KUBECTL = {"-n", "--namespace", "--context", "--kubeconfig", "--as", "--request-timeout"}


def commands() -> Iterator[tuple[str, Any]]:
    """Those that do something, with their paths; STREAM stands for itself."""

    def below(path: str, found: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(found, "commands", None)
        if children is None:
            yield path, found
        for name, child in sorted((children or {}).items()):
            between = " STREAM" if path == "deadletters" else ""
            yield from below(f"{path}{between} {name}".strip(), child)

    yield from below("", command())


ALL = dict(commands())


def examples(text: str) -> list[str]:
    return re.findall(r"^\s*(?:Examples?: )?(kubectl logstream .*)$", text, re.MULTILINE)


def options(found: Any) -> set[str]:
    return {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_all_commands_are_there() -> None:
    assert set(ALL) == {
        "status", "top", "search", "tail", "keys list", "keys rotate", "keys revoke", "pause", "resume", "version",
        "deadletters STREAM list", "deadletters STREAM show", "deadletters STREAM replay", "deadletters STREAM discard",
    }  # fmt: skip


@pytest.mark.parametrize("path", ALL)
def test_help_has_examples_of_the_command(path: str) -> None:
    beginning = f"kubectl logstream {path.replace('STREAM', 'shop')}"
    found = examples(ALL[path].help)
    assert found
    assert all(example.startswith(beginning) for example in found), found
    assert "  logstream " not in ALL[path].help


@pytest.mark.parametrize("path", ALL)
def test_no_two_options_of_a_command_are_the_same(path: str) -> None:
    names = [name for parameter in ALL[path].params for name in (*parameter.opts, *parameter.secondary_opts)]
    assert sorted(names) == sorted(set(names))
    assert set(names) >= KUBECTL
    assert not {"--api-key", "--api-url", "--stream"} & set(names)


@pytest.mark.parametrize("example", sorted({line for found in ALL.values() for line in examples(found.help)}))
def test_examples_are_taken(example: str) -> None:
    taken(example)


@pytest.mark.parametrize("example", examples("\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))))
def test_examples_of_the_page_are_taken(example: str) -> None:
    taken(example)


def taken(example: str) -> None:
    """Parsed to the end, and not run."""
    words = shlex.split(example)[2:]
    words = words[: next((index for index, word in enumerate(words) if word in {"|", "&&", ">"}), None)]
    found, context = command(), None
    while words:
        context = found.make_context(found.name, words, parent=context)
        rest = [*getattr(context, "protected_args", ()), *context.args, *getattr(context, "_protected_args", ())]
        if not getattr(found, "commands", None):
            assert rest == []
            return
        # Which of both lists holds the command's name differs between versions of click.
        name = next(word for word in rest if word in found.commands)
        words = words[words.index(name) + 1 :]
        found = found.commands[name]


def test_names_are_those_of_the_operator() -> None:
    from logstream_operator.cluster import kinds
    from logstream_operator.objects import meta
    from logstream_operator.reconcile import rotation, secret

    assert f"{kinds.LOGSTREAM.plural}.{kinds.GROUP}" == resources.LOGSTREAM
    assert f"{kinds.API_KEY.plural}.{kinds.GROUP}" == resources.API_KEY
    assert resources.ROTATE == rotation.ROTATE
    assert secret.KEY == resources.SECRET_FIELD
    assert resources.API_PORT == meta.API_PORT
    assert resources.api_labels("plane") == meta.selector("plane", meta.API)


def test_help_needs_nothing_heavy() -> None:
    """It is asked for often: without clients, servers and what only some commands need."""
    script = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from logstream_kubectl import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'kubernetes', 'kopf', 'pydantic', 'httpx', 'rich', 'yaml', 'sqlalchemy', 'logstream_operator'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
