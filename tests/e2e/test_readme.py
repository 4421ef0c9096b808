"""README.md says what happens: its commands are run in its order against a real `make up`, its output compared.

Times, the key id and the ports differ from run to run; everything else must be there, line by line.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.loghub import apache_log
from tests.support.readme import Platform, Step, steps

ROOT = Path(__file__).parents[2]
STEPS = steps((ROOT / "README.md").read_text())
SESSION = STEPS[next(i for i, step in enumerate(STEPS) if "export PATH" in step.command) :]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("readme")
    apache_log(folder / "apache_error.log")
    with Platform(ROOT, folder) as running:
        yield running


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    commands = [step.command.partition("#")[0].strip() for step in STEPS[:2]]
    assert commands == ["make up", "make test"]
    for command in commands:
        subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_banner_is_what_make_up_prints(platform: Platform) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    banner = next(block for block in blocks if "is ready" in block)
    printed = platform.output()
    for line in banner.strip().splitlines():
        assert platform.pattern(line).search(printed), f"not printed: {line}\n{printed}"


def test_the_first_five_minutes(platform: Platform) -> None:
    assert len(SESSION) >= 9, "the README's session has lost its commands"
    for step in SESSION:
        printed = platform.run(step)
        for line in step.output:
            assert platform.pattern(line).search(printed), f"$ {step.command}\nexpected: {line}\nprinted:\n{printed}"


def test_linked_documents_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_steps_are_read_as_meant() -> None:
    text = "```console\n$ one\nout\n$ two\n```\n```sh\n$ not this\n```\n"
    assert steps(text) == [Step("one", ("out",)), Step("two", ())]
