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
_VALUE = rb"\w+\s*=\s*(?:'(?:[^'\\]|\\.)*'|[-+.\w]+)"
_SETTINGS = re.compile(rb"\s+SETTINGS\s+" + _VALUE + rb"(?:\s*,\s*" + _VALUE + rb")*", re.IGNORECASE | re.DOTALL)
_DATA_START = re.compile(rb"[ \t\f]*\r?\n?")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a statement's text says about how to run it.

    verb: its first word in upper case, "" when it begins otherwise (a parenthesis) or is empty.
    format: the name in its FORMAT clause, None without one. format_start: where that begins, of what is no INSERT.
    insert_end, settings, data_start: only for INSERT … FORMAT X: where the statement without its SETTINGS and
    FORMAT clauses ends, its SETTINGS clause (it may stand on either side of FORMAT), and where the inline data
    begin (byte offsets).
    """

    verb: str
    format: str | None = None
    insert_end: int | None = None
    settings: bytes = b""
    data_start: int | None = None
    format_start: int | None = None

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
    name = format_start = format_at = None
    for start, _, word in words:
        if format_at is not None:
            name, format_start = word.decode("ascii", "replace"), format_at
        format_at = start if word.upper() == b"FORMAT" else None
    return Shape(verb, format=name, format_start=format_start)


def _verb(text: bytes) -> str:
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "skip":
            return match.group().decode("ascii", "replace").upper() if match.lastgroup == "word" else ""
    return ""


def _insert_shape(text: bytes, words: Iterator[tuple[int, int, bytes]]) -> Shape:
    previous = b"INSERT"
    settings_at: int | None = None
    format_at: int | None = None
    for start, end, word in words:
        if format_at is not None:
            behind = _SETTINGS.match(text, end)
            match = _DATA_START.match(text, end if behind is None else behind.end())
            assert match is not None  # every part of the pattern is optional
            insert_end = format_at if settings_at is None else settings_at
            settings = text[insert_end:format_at].strip() if behind is None else behind.group().strip()
            return Shape("INSERT", word.decode("ascii", "replace"), insert_end, settings, match.end())
        upper = word.upper()
        # A table may be called anything, also "format": the word behind INTO is a name.
        if previous not in (b"INTO", b"TABLE", b"FUNCTION", b"."):
            if upper in (b"VALUES", b"SELECT", b"WITH", b"WATCH"):
                break
            if upper == b"SETTINGS":
                settings_at = start
            if upper == b"FORMAT":
                format_at = start
        previous = upper
    return Shape("INSERT")


# Of what the engine would let every user do to the machine, the part that its grants (`config.GRANTS`) do not govern.
_CALLS = frozenset({
    b"FILE", b"EVAL", b"EXECUTABLE", b"PYTHON", b"ARROWSTREAM", b"SQLITE", b"FILESYSTEM",
})  # fmt: skip
_ENGINES = frozenset({b"FILELOG", b"EMBEDDEDROCKSDB", b"EXECUTABLE", b"EXECUTABLEPOOL", b"SQLITE", b"FILESYSTEM"})
_BY_NAME = (b"APPLY", b"ARRAY", b"MAP")
_SUSPECT = re.compile(
    rb"OUTFILE|INFILE|ATTACH|\\|(?:" + b"|".join(sorted(_CALLS | _ENGINES)) + rb")[\s`\"]*", re.IGNORECASE
)


def forbidden(text: bytes) -> str | None:
    """What in a statement reaches files or programs of the machine past the engine's grants; None when nothing does.

    INTO OUTFILE, FROM INFILE, ATTACH … FROM a folder, calls such as file('…'), table engines on folders.
    """
    if _SUSPECT.search(text) is None:
        return None
    attaches = _verb(text) == "ATTACH"
    before = previous = b""
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        # The engine skips some characters beyond ASCII as white space.
        if kind == "skip" or token[0] >= 0x80:
            continue
        name = _name(kind, token)
        if name in (b"OUTFILE", b"INFILE") and previous in (b"INTO", b"FROM"):
            return f"{previous.decode()} {name.decode()}"
        # A table may be called "file": INSERT INTO file (a), CREATE TABLE file (…).
        called = previous in _CALLS and not (previous == b"FILE" and before in (b"INTO", b"TABLE", b"EXISTS", b"."))
        if token == b"(" and (called or b"\\" in previous):
            return f"{previous.decode(errors='replace').lower()}(…)"
        # Functions are also named without being called: APPLY(file), arrayMap(file, …).
        if name in _CALLS and (previous == b"APPLY" or (previous == b"(" and before.startswith(_BY_NAME))):
            return f"{before.decode(errors='replace').lower()}({name.decode().lower()})"
        if (name in _ENGINES or b"\\" in name) and previous in (b"ENGINE", b"=") and b"ENGINE" in (previous, before):
            return f"ENGINE = {token.decode(errors='replace')}"
        if attaches and previous == b"FROM" and token[:1] in (b"'", b"$"):
            return "ATTACH … FROM"
        if not (token == b"(" and previous == b"("):
            before, previous = previous, name
    return None


def _name(kind: str | None, token: bytes) -> bytes:
    if kind != "quoted":
        return token.upper()
    return token[1:-1].upper() if token[:1] in (b"`", b'"') else b""
