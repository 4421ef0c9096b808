"""What `logstream up-full` shows: the processes' own lines under their names, and a bar while fetching.

Standard library only.
"""

import os
import sys
from collections.abc import Sequence

_COLOURS = (36, 35, 33, 32, 34, 96, 95, 93, 92, 94)
_BAR = 30


def is_colourful() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Lines:
    """Lines on standard error, each behind the name of who said it."""

    def __init__(self, names: Sequence[str], *, colour: bool) -> None:
        self._width = max(map(len, names), default=0)
        self._colours = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(names)} if colour else {}

    def show(self, name: str, line: bytes) -> None:
        """One line without its end. A reader that went away is no error."""
        prefix = f"{name:<{self._width}} | "
        if name in self._colours:
            prefix = f"\033[{self._colours[name]}m{prefix}\033[0m"
        _write(f"{prefix}{line.decode(errors='replace').rstrip()}\n")


class Bar:
    """How far the fetching is: a bar on a terminal, two lines elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_terminal = sys.stderr.isatty()
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        if done == self._shown:
            return
        if self._is_terminal:
            full = _BAR * done // max(1, total)
            end = "\n" if done >= total else ""
            _write(f"\r{self._what} [{'#' * full}{'.' * (_BAR - full)}] {done}/{total}{end}")
        elif not self._shown or done >= total:
            _write(f"{self._what}: {done} of {total} files\n")
        self._shown = done


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass
