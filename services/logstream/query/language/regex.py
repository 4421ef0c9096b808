"""Regular expressions: RE2 with ClickHouse's options, so that both sides run the same engine in linear time."""

from collections.abc import Callable

import re2  # type: ignore[import-untyped]

MAX_PATTERN_CHARACTERS = 1000
_MAX_PROGRAM_BYTES = 256 * 1024
"""What the compiled program may take. In the worst case RE2 does one step an instruction and byte of the text."""

_MAX_RUN_BYTES = 1024 * 1024
"""What one may take while it runs: the program, and the states it remembers. With more states it becomes slower."""


def _options(max_bytes: int) -> "re2.Options":
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True  # as ClickHouse's match(): "." is any character, a line feed, too
    options.max_mem = max_bytes
    return options


_RUN = _options(_MAX_RUN_BYTES)
_CHECK = _options(_MAX_PROGRAM_BYTES)


class InvalidRegex(ValueError):
    """The text says why."""


def check(pattern: str) -> None:
    """Raises InvalidRegex when `pattern` is not RE2, or too large when compiled."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise InvalidRegex(f"it has more than {MAX_PATTERN_CHARACTERS} characters")
    try:
        re2.compile(pattern.encode(), _CHECK)
    except re2.error as error:
        reason = error.args[0] if error.args else "not valid"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidRegex(text) from None


def searcher(pattern: str) -> Callable[[bytes], bool]:
    """A function that tells whether `pattern` matches a part of UTF-8 text."""
    search = re2.compile(pattern.encode(), _RUN).search
    return lambda text: search(text) is not None
