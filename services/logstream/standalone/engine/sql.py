"""As much of ClickHouse's syntax as an HTTP server must know: the verb, the FORMAT clause, where inline data begins.

Lexical rules: ClickHouse `src/Parsers/Lexer.cpp`; where data begins: `src/Parsers/ParserInsertQuery.cpp`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
       |(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
       |(?P<word>\w+)
       |(?P<open>[(\[{])
       |(?P<close>[)\]}])
       |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_DATA_START = re.compile(rb"[ \t\f]*\r?\n?")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a statement's text says about how to run it.

    verb: its first word in upper case, "" when it begins otherwise (a parenthesis) or is empty.
    format: the name in its FORMAT clause, None without one.
    insert_end, data_start: only for INSERT … FORMAT X: the statement without its FORMAT clause ends at the
    first, the inline data begin at the second (both are byte offsets).
    """

    verb: str
    format: str | None = None
    insert_end: int | None = None
    data_start: int | None = None

    @property
    def takes_data(self) -> bool:
        return self.insert_end is not None


def _words(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, token) of what stands outside parentheses and comments; quoted names included."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind != "skip" and depth == 0:
            yield match.start(), match.end(), match.group()


def shape(text: bytes) -> Shape:
    """The shape of the statement that `text` begins with. Never raises: the engine judges the syntax."""
    words = _words(text)
    verb = _verb(text)
    if verb == "INSERT":
        return _insert_shape(text, words)
    name = None
    is_format = False
    for _, _, word in words:
        if is_format:
            name = word.decode("ascii", "replace")
        is_format = word.upper() == b"FORMAT"
    return Shape(verb, format=name)


def _verb(text: bytes) -> str:
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "skip":
            return match.group().decode("ascii", "replace").upper() if match.lastgroup == "word" else ""
    return ""


def _insert_shape(text: bytes, words: Iterator[tuple[int, int, bytes]]) -> Shape:
    previous = b"INSERT"
    format_at: int | None = None
    for start, end, word in words:
        if format_at is not None:
            match = _DATA_START.match(text, end)
            assert match is not None  # every part of the pattern is optional
            return Shape("INSERT", word.decode("ascii", "replace"), format_at, match.end())
        upper = word.upper()
        # A table may be called anything, also "format": the word behind INTO is a name.
        if previous not in (b"INTO", b"TABLE", b"FUNCTION", b"."):
            if upper in (b"VALUES", b"SELECT", b"WITH", b"WATCH"):
                break
            if upper == b"FORMAT":
                format_at = start
        previous = upper
    return Shape("INSERT")
