"""Expressions of RE2 on UTF-8: they take time in proportion to the text, whatever they are."""

import re

import re2  # type: ignore[import-untyped]

from logstream.redact.detector import Detector

_MAX_PROGRAM_BYTES = 256 * 1024
"""What a rule's compiled program may take."""
_MAX_RUN_BYTES = 8 * 1024 * 1024
"""What one may take with the states that RE2 remembers while it runs; without room for them it is a hundred times
slower."""
_MAX_HINT_BYTES = 16 * 1024 * 1024
"""As much for all rules together."""
_UNLIKE_ITSELF = re.compile(r"\\[AzC]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""What may match in a text, and not where others surround it."""


class InvalidPattern(ValueError):
    """The text says why; `column` where, from 1, or None where RE2 does not tell."""

    def __init__(self, reason: str, column: int | None = None) -> None:
        super().__init__(reason)
        self.column = column


def _options(max_bytes: int, *, captures: bool = True) -> "re2.Options":
    options = re2.Options()
    options.log_errors = False
    options.max_mem = max_bytes
    options.never_capture = not captures
    return options


_RUN = _options(_MAX_RUN_BYTES)
_CHECK = _options(_MAX_PROGRAM_BYTES)
_HINT = _options(_MAX_HINT_BYTES, captures=False)


def compile_pattern(pattern: str) -> "re2._Regexp":
    """A search of bytes for `pattern`. Raises InvalidPattern, also for what would match the empty text."""
    try:
        encoded = pattern.encode()
    except UnicodeEncodeError as error:
        raise InvalidPattern("a lone surrogate is no character", error.start + 1) from None
    try:
        compiled = re2.compile(encoded, _CHECK)
        if compiled.search(b"") is not None:
            raise InvalidPattern("it matches the empty text, so it would match everywhere")
        return re2.compile(encoded, _RUN)
    except re2.error as error:
        reason = error.args[0] if error.args else "not valid"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(text, _column(pattern, text)) from None


def _column(pattern: str, reason: str) -> int | None:
    """RE2 quotes the part that is wrong, but does not say where it stands."""
    _, _, part = reason.partition(": ")
    at = pattern.find(part) if part else -1
    return at + 1 if at >= 0 else None


def compile_builtin(detector: Detector) -> "re2._Regexp":
    return re2.compile(detector.pattern.encode(), _RUN)


def as_hint(pattern: str, *, builtin: bool = False) -> str | None:
    """An expression that matches somewhere in texts joined by line feeds at least if `pattern` matches in one of
    them; None where that cannot be said."""
    if not builtin and _UNLIKE_ITSELF.search(pattern):
        return None
    # Where a text begins and ends is, among others, where a line does.
    return f"(?m:{pattern})"


def is_joinable(pattern: str) -> bool:
    """Whether `pattern` finds in a text among others, with line feeds between them, what it finds in it alone, apart
    from what reaches into its neighbours."""
    return _UNLIKE_ITSELF.search(pattern) is None and not {"^", "$"} & set(pattern.replace("[^", "["))


def compile_hint(hints: list[str]) -> "re2._Regexp | None":
    """A search for any of them; None when together they are too large."""
    try:
        return re2.compile("|".join(hints).encode(), _HINT)
    except re2.error:
        return None
