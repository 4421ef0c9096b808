"""How words, word patterns and phrases are found in a message, as SQL and as predicates.

A token is what ClickHouse's token filter takes for one: a longest run of ASCII letters, ASCII digits and bytes above
0x7F.

In any case means: an ASCII needle folds ASCII letters only (on bytes, on both sides); any other needle is compared
after Unicode lower-casing (ICU's in the engine, `str.lower` here), with the two forms of a small sigma taken as one,
since which of them lower-casing yields depends on the letters around it.
"""

import re
from collections.abc import Callable, Iterable

from logstream.query.language import regex
from logstream.storage.schema import WORDS

Bind = Callable[[object, str], str]
"""Makes a bound parameter of a value and its ClickHouse type; returns its place in the SQL."""

_FINAL_SIGMA, _SIGMA = "ς", "σ"
_INSIDE = "[0-9A-Za-z\u0080-\U0010ffff]"  # for Python's re, on text
_TOKENS = re.compile(f"{_INSIDE}+")
_OUTSIDE = r"[^0-9A-Za-z\x{80}-\x{10FFFF}]"  # for RE2
_BLANKLESS = r"[^\t\n\x0b\f\r ]*"
_RE2_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_MAX_INDEX_TOKENS = 8
"""Tokens of one word that are looked up in the index; more would cost more than they skip."""
_FOLDED = "lower(message)"
_LETTERS = re.compile("[a-z]+")
"""A word that the text index is exact for."""
_LIKE_SPECIAL = re.compile(r"[%_\\]")


def like_escaped(text: str) -> str:
    """`text` as a literal part of a LIKE pattern."""
    return _LIKE_SPECIAL.sub(r"\\\g<0>", text)


def _fold(text: str) -> str:
    return text.lower().replace(_FINAL_SIGMA, _SIGMA)


def _folded_bytes(text: str) -> bytes:
    return _fold(text).encode()


def _ascii_folded_bytes(text: str) -> bytes:
    # bytes.lower folds ASCII only, as the engine does.
    return text.encode().lower()


def _needle(text: str) -> str:
    return text.lower() if text.isascii() else _fold(text)


def _haystack(text: str, column: str = "message") -> str:
    """The message as `text` is looked for in it. What counts is `text` as written: a Kelvin sign folds to a "k"."""
    if text.isascii():
        return f"lower({column})"  # of the message: the expression of the table's token filter
    folded = f"lowerUTF8({column})"
    return f"replaceAll({folded}, '{_FINAL_SIGMA}', '{_SIGMA}')" if _SIGMA in _fold(text) else folded


def re2_escaped(text: str) -> str:
    """`text` as a literal part of a regular expression."""
    return _RE2_SPECIAL.sub(r"\\\g<0>", text).replace("\0", r"\x00")


def _is_token(character: str) -> bool:
    return bool(_TOKENS.fullmatch(character))


def _bounded(first: str, last: str, inner: str) -> str:
    """`inner` for RE2, neither beginning nor ending inside of a token. first, last: its outer characters or ""."""
    left = f"(?:^|{_OUTSIDE})" if first and _is_token(first) else ""
    right = f"(?:$|{_OUTSIDE})" if last and _is_token(last) else ""
    return f"{left}{inner}{right}"


def word_sql(text: str, bind: Bind) -> str:
    needle = _needle(text)
    haystack = _haystack(text)
    tokens = dict.fromkeys(_TOKENS.findall(needle))
    terms = _token_terms(haystack, tokens, bind)
    if [needle] == list(tokens):
        return terms[0]
    pattern = _bounded(needle[0], needle[-1], re2_escaped(needle))
    return _all([*terms, f"match({haystack}, {bind(pattern, 'String')})"])


def word_predicate(text: str) -> Callable[[str], bool]:
    ascii_only = text.isascii()
    needle = _needle(text)
    left = f"(?<!{_INSIDE})" if _is_token(needle[0]) else ""
    right = f"(?!{_INSIDE})" if _is_token(needle[-1]) else ""
    # ASCII with IGNORECASE folds ASCII letters only.
    flags = re.ASCII | re.IGNORECASE if ascii_only else re.NOFLAG
    search = re.compile(left + re.escape(needle) + right, flags).search
    if ascii_only:
        return lambda message: search(message) is not None
    return lambda message: search(_fold(message)) is not None


def _pattern_regex(needles: tuple[str, ...]) -> str:
    inner = _BLANKLESS.join(re2_escaped(needle) for needle in needles)
    return _bounded(needles[0][:1], needles[-1][-1:], inner)


def pattern_sql(parts: tuple[str, ...], bind: Bind) -> str:
    needles = _needles(parts)
    haystack = _haystack("".join(parts))
    # A token that touches a wildcard may be a part of a longer one, which the index cannot find.
    whole = dict.fromkeys(token for token in _TOKENS.findall("*".join(needles)) if _stands_alone(token, needles))
    return _all([
        *_token_terms(haystack, whole, bind),
        f"match({haystack}, {bind(_pattern_regex(needles), 'String')})",
    ])  # fmt: skip


def _needles(parts: tuple[str, ...]) -> tuple[str, ...]:
    if all(part.isascii() for part in parts):
        return tuple(part.lower() for part in parts)
    return tuple(_fold(part) for part in parts)


def _stands_alone(token: str, needles: tuple[str, ...]) -> bool:
    text = "*".join(needles)
    inside = rf"(?<![*0-9A-Za-z\u0080-\U0010ffff]){re.escape(token)}(?![*0-9A-Za-z\u0080-\U0010ffff])"
    return re.search(inside, text) is not None


def pattern_predicate(parts: tuple[str, ...]) -> Callable[[str], bool]:
    needles = _needles(parts)
    search = regex.searcher(_pattern_regex(needles))
    fold = _ascii_folded_bytes if all(part.isascii() for part in parts) else _folded_bytes
    return lambda message: search(fold(message))


def word_in_sql(text: str, column: str, bind: Bind) -> str:
    """As `word_sql`, of any text `column` and without an index."""
    needle = _needle(text)
    pattern = _bounded(needle[0], needle[-1], re2_escaped(needle))
    return f"match({_haystack(text, column)}, {bind(pattern, 'String')})"


def pattern_in_sql(parts: tuple[str, ...], column: str, bind: Bind) -> str:
    """As `pattern_sql`, of any text `column` and without an index."""
    return f"match({_haystack(''.join(parts), column)}, {bind(_pattern_regex(_needles(parts)), 'String')})"


def phrase_sql(text: str, bind: Bind, column: str = "message") -> str:
    needle = _needle(text)
    haystack = _haystack(text, column)
    if text.isascii():
        # As LIKE over the index's own expression, whole words inside of the needle let the engine skip granules.
        return f"{haystack} LIKE {bind('%' + like_escaped(needle) + '%', 'String')}"
    return f"position({haystack}, {bind(needle, 'String')}) > 0"


def phrase_predicate(text: str) -> Callable[[str], bool]:
    needle = _needle(text)
    if not text.isascii():
        return lambda message: needle in _fold(message)
    raw = needle.encode()
    return lambda message: needle in message.lower() if message.isascii() else raw in _ascii_folded_bytes(message)


def _token_terms(haystack: str, tokens: Iterable[str], bind: Bind) -> list[str]:
    """Conditions that all of `tokens` stand in the message, as the indexes answer them."""
    longest = sorted(tokens, key=len, reverse=True)[:_MAX_INDEX_TOKENS]
    return [
        f"hasToken({WORDS if haystack == _FOLDED and _LETTERS.fullmatch(token) else haystack}, {bind(token, 'String')})"
        for token in longest
    ]


def _all(terms: list[str]) -> str:
    return terms[0] if len(terms) == 1 else f"({' AND '.join(terms)})"
