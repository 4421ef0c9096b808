"""A supervisor of small processes: `python -m tests.support.full_child NAME:BEHAVIOUR …` (see `_SCRIPTS`).

Processes before a `/` are the first step, those behind it the second. Each stage of stopping is one process, the
last one first.
"""

import sys
import time
from pathlib import Path

from logstream.errors import StartupError
from logstream.standalone.child import Command
from logstream.standalone.full.part import Part
from logstream.standalone.full.supervisor import FullSupervisor, Step
from logstream.standalone.supervisor import say

_SCRIPTS = {
    "good": "import signal, sys, time; signal.signal(15, lambda *_: (print('bye', flush=True), sys.exit(0))); "
    "print('hello', flush=True); time.sleep(600)",
    "deaf": "import signal, time; signal.signal(15, signal.SIG_IGN); print('hello', flush=True); time.sleep(600)",
    "wrong": "import sys; print('the disk is made of cheese', file=sys.stderr); sys.exit(1)",
    "never": "import time; time.sleep(600)",
}


def _part(word: str, started: dict[str, bool]) -> Part:
    name, _, behaviour = word.partition(":")
    command = Command(
        name=name, arguments=("-c", _SCRIPTS[behaviour]), environment={}, descriptors=(), executable=sys.executable
    )

    def lacks() -> str | None:
        return None if started.get(name) else "it has not said hello"

    return Part(command, lacks=lacks, grace=0.5)


def main(words: list[str]) -> int:
    started: dict[str, bool] = {}

    def show(name: str, line: bytes) -> None:
        if line == b"hello":
            started[name] = True
        say(f"{name} says {line.decode()}")

    first, _, second = (" ".join(words)).partition("/")
    steps = [[_part(word, started) for word in half.split()] for half in (first, second) if half.split()]

    def then(number: int) -> None:
        say(f"step {number} is done")
        if Path("refuse").exists():
            raise StartupError("step refused")

    supervisor = FullSupervisor(
        [Step(parts, lambda number=number: then(number)) for number, parts in enumerate(steps, 1)],  # type: ignore[misc]
        [[part] for parts in reversed(steps) for part in reversed(parts)],
        show=show,
        say=say,
    )
    begun = time.monotonic()
    status = supervisor.run()
    say(f"ended after {time.monotonic() - begun:.1f} s")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
