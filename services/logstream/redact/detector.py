"""What a built-in detector is made of."""

from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[bytes, int, int], "tuple[int, int] | int"]
"""Judges data[start:end]: the part that is a finding, or, when none of it is, where to look on."""

START = r"(?:\b|\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|\x1b\[[0-9;]*m)"
"""Where a word begins, also behind an escape of JSON, of a URL or of a terminal, whose last character is part of a
word for `\\b` alone."""


def as_it_is(value: bytes) -> bytes:
    return value


@dataclass(frozen=True, slots=True)
class Detector:
    """A kind of value that is found by its form.

    pattern: RE2. Where it has groups, only the groups are the value.
    hint: RE2 that matches at least wherever `pattern` does, cheap to look for in a whole batch; None: `pattern`.
    check: what an expression cannot say.
    normal: one spelling of values that are equal, so that their hashes are.
    keys: RE2 of metadata keys, in lower case, whose values are findings as a whole; None: no key.
    """

    name: str
    about: str
    pattern: str
    hint: str | None = None
    check: Check | None = None
    normal: Callable[[bytes], bytes] = as_it_is
    keys: str | None = None
