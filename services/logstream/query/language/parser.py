"""From the text of a query to its syntax tree."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lark import PostLex

from logstream.query.language.build import Builder
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.nodes import Filter, Query

MAX_CHARACTERS = 4096
MAX_TERMS = 200
"""Words, quoted texts, regular expressions, values and names of one query."""
MAX_DEPTH = 40
"""Parentheses and NOTs inside of one another."""
MAX_PIPES = 16
MAX_REGEXES = 20
"""Regular expressions: each may hold memory for as long as a tail is open."""

_TERMS = frozenset({"WORD", "VALUE", "QUOTED", "REGEX", "BOUND", "NAME", "FUNCTION"})
_NAMES: dict[str, str] = {
    "WORD": "a word", "QUOTED": "a quoted text", "REGEX": "a /regular expression/", "FIELD": "a field name",
    "_NOT": "NOT", "_AND": "AND", "_OR": "OR", "_TO": "TO", "LPAR": "'('", "RPAR": "')'", "PIPE": "'|'",
    "COLON": "':'", "COMPARISON": "a comparison", "VALUE": "a value", "RANGE_OPEN": "a range", "RANGE_CLOSE": "']'",
    "BOUND": "a bound", "SPAN": "a span of time as 1m", "COUNT": "a whole number", "DIRECTION": "asc or desc",
    "FUNCTION": "a function as count()", "MINUS": "'-'", "NAME": "a name", "COMMA": "','", "_BY": "by", "_AS": "as",
    "_FROM": "from", "_SPAN_IS": "span=", "$END": "the end",
}  # fmt: skip
"""Terminals in words for people; keywords behind pipes stand for themselves."""


class _Guard(PostLex):
    """Bounds what the parser is given, while it is given."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        terms = pipes = nots = regexes = 0
        opened: list[int] = []  # for each parenthesis not yet closed: how many levels it adds
        for token in stream:
            match token.type:
                case "_NOT":
                    nots += 1
                case "LPAR":
                    opened.append(1 + nots)
                    nots = 0
                case "RPAR" if opened:
                    opened.pop()
                case "PIPE":
                    pipes += 1
                case kind if kind in _TERMS:
                    terms += 1
                    regexes += kind == "REGEX"
            depth = sum(opened) + nots
            if token.type in _TERMS:
                nots = 0
            for value, limit, what in (
                (terms, MAX_TERMS, "terms"), (depth, MAX_DEPTH, "levels of parentheses and NOT"),
                (pipes, MAX_PIPES, "pipes"), (regexes, MAX_REGEXES, "regular expressions"),
            ):  # fmt: skip
                if value > limit:
                    raise QuerySyntaxError(f"query has more than {limit} {what}", column=_column(token), limit=limit)
            yield token


@cache
def _parser() -> Lark:
    return Lark.open_from_package(
        "logstream.query.language",
        "grammar.lark",
        parser="lalr",
        lexer="contextual",
        maybe_placeholders=True,
        transformer=Builder(),
        postlex=_Guard(),
    )


def parse(text: str) -> Query:
    """The tree of `text`; nothing but white space asks for everything.

    Raises QuerySyntaxError, which says where and what was expected, and nothing else.
    """
    if len(text) > MAX_CHARACTERS:
        raise QuerySyntaxError(
            f"query has more than {MAX_CHARACTERS} characters", column=MAX_CHARACTERS + 1, limit=MAX_CHARACTERS
        )
    unsuited = re.search("[\ud800-\udfff]", text)
    if unsuited:
        raise QuerySyntaxError("query is not valid Unicode", column=unsuited.start() + 1)
    try:
        tree: Any = _parser().parse(text)
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    assert isinstance(tree, Query)
    return tree


def parse_filter(text: str) -> Filter:
    """The filter `text`, where pipes have no place. Raises QuerySyntaxError."""
    query = parse(text)
    if query.pipes:
        raise QuerySyntaxError(
            "pipes have no place here, only a filter: ask /api/v1/query for them",
            column=query.pipes_column,
            expected=["a filter", "the end"],
        )
    return query.filter


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _explained(error: UnexpectedInput, text: str) -> QuerySyntaxError:
    position = len(text)
    at: Any = error.pos_in_stream  # lark leaves it None or -1 where there is no text left
    if at is not None and at >= 0:
        position = at
    if isinstance(error, UnexpectedToken):
        allowed = set(error.accepts or error.expected)
        if error.token.type == "$END":
            position = len(text)
    elif isinstance(error, UnexpectedCharacters):
        allowed = set(error.allowed or ())
    else:
        allowed = set()
    message, expected = _found(text[position:], allowed)
    if expected:
        message += f": expected {_listed(expected)}"
    return QuerySyntaxError(message, column=position + 1, expected=expected)


def _found(rest: str, allowed: set[str]) -> tuple[str, list[str]]:
    """What is wrong with `rest`, and what could have stood there instead of its beginning."""
    expected = sorted(
        {_NAMES.get(name, name.strip("_").lower()) for name in allowed}, key=lambda name: (name.islower(), name)
    )
    if not rest.strip():
        return "query ends within parentheses" if "RPAR" in allowed else "query ends too early", expected
    if rest[0] in "\"'":
        return f"quotation mark {rest[0]} is never closed", [f"a second {rest[0]}"]
    if rest[0] == ":" and "COLON" in allowed:
        return "a value must follow the colon at once; a text with a colon needs quotes", ["a value"]
    shown = rest.split(maxsplit=1)[0]
    return f"unexpected {(shown if len(shown) <= 30 else shown[:30] + '…')!r}", expected


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
