"""What the parser calls for each rule of the grammar: checks values and makes the nodes of the syntax tree."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lark import Token, Transformer, v_args

from logstream.errors import InvalidValue
from logstream.query.language import nodes as n
from logstream.query.language import quantity, regex
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.time import parse_time
from logstream.record import LEVEL_LABELS, parse_level

MAX_LIMIT = 100_000
"""Rows that `limit`, `top`, `rare` and `patterns` can ask for."""
MAX_SPAN_NS = 366 * 86_400 * 10**9
DEFAULT_TOP = 10
MAX_PLACEHOLDERS = 20
MAX_WILDCARDS = 10
"""`*` in one word or value: each may multiply the states of the expression it becomes."""

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_PLACEHOLDER = re.compile(r"<([^<>]*)>")
_FUNCTIONS: dict[str, n.Function] = {f.value: f for f in n.Function if f is not n.Function.PERCENTILE}
_FUNCTIONS |= {"dc": n.Function.COUNT_DISTINCT, "dcount": n.Function.COUNT_DISTINCT}

Condition = Callable[[str, int], n.Filter]
"""A condition behind "field:", waiting for the name of the field and the column where it stands."""


@dataclass(frozen=True, slots=True)
class _Text:
    """The text of a token with its escapes resolved. wild: its parts between wildcards, when there are any."""

    text: str
    wild: tuple[str, ...]
    column: int


def _at(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _bare(token: Token) -> _Text:
    """A word or value without quotes: a backslash takes the meaning of what follows, "*" stands for anything."""
    parts = [""]
    escaped = False
    for character in str(token):
        if not escaped and character == "\\":
            escaped = True
        elif not escaped and character == "*":
            if len(parts) == 1 or parts[-1]:
                parts.append("")
        else:
            parts[-1] += character
            escaped = False
    if len(parts) > MAX_WILDCARDS + 1:
        raise QuerySyntaxError(
            f"one word or value has at most {MAX_WILDCARDS} wildcards", column=_at(token), limit=MAX_WILDCARDS
        )
    return _Text("".join(parts), tuple(parts) if len(parts) > 1 else (), _at(token))


def _quoted(token: Token) -> _Text:
    column = _at(token)

    def resolve(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise QuerySyntaxError(
                f"there is no escape \\{found[1]}; a backslash itself is written \\\\",
                column=column + 1 + found.start(),
                expected=["\\" + known for known in _ESCAPES],
            )
        return _ESCAPES[found[1]]

    return _Text(re.sub(r"\\(.)", resolve, str(token)[1:-1], flags=re.DOTALL), (), column)


def _text(token: Token) -> _Text:
    return _quoted(token) if token.type == "QUOTED" or token[0] in "\"'" else _bare(token)


def _field(name: str, column: int) -> n.Field:
    if not name:
        raise QuerySyntaxError("the name of a field is empty", column=column, expected=["a field name"])
    return n.field_named(name)


def _joined(kind: type[n.And] | type[n.Or], operands: Sequence[n.Filter]) -> n.Filter:
    flat: list[n.Filter] = []
    for operand in operands:
        flat.extend(operand.operands if isinstance(operand, kind) else (operand,))
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _word(text: _Text) -> n.Filter:
    if text.wild:
        return n.WordPattern(text.wild) if any(text.wild) else n.Everything()
    return n.Word(text.text)


def _phrase(text: str) -> n.Filter:
    return n.Phrase(text) if text else n.Everything()


def _regex(token: Token) -> str:
    pattern = str(token)[1:-1].replace("\\/", "/")
    if "\0" in pattern:
        raise QuerySyntaxError("a regular expression cannot hold a NUL; write \\x00", column=_at(token))
    try:
        regex.check(pattern)
    except regex.InvalidRegex as error:
        raise QuerySyntaxError(f"regular expression is not valid: {error}", column=_at(token)) from None
    return pattern


def _level(text: _Text) -> int:
    level = parse_level(text.text)
    if level is None or text.wild:
        raise QuerySyntaxError(
            f"unknown level {text.text[:40]!r}: expected {', '.join(LEVEL_LABELS)}",
            column=text.column,
            expected=LEVEL_LABELS,
        )
    return int(level)


def _time(text: _Text) -> int:
    try:
        return parse_time(text.text, "timestamp")
    except InvalidValue as error:
        raise QuerySyntaxError(error.message, column=text.column, expected=["a time as 2026-01-31T12:00:00Z"]) from None


def _equals(text: _Text, *, quoted: bool) -> Condition:
    def condition(name: str, column: int) -> n.Filter:
        if name == "_exists":
            return _exists(text)
        if name == "level":
            return _exists_always(text) or n.LevelIs("=", _level(text))
        if name == "timestamp":
            return _exists_always(text) or n.Time("=", _time(text))
        field = _field(name, column)
        if field.column == "message":
            return _phrase(text.text) if quoted else _exists_always(text, field) or _word(text)
        return _value(field, text)

    return condition


def _value(field: n.Field, text: _Text) -> n.Filter:
    if not text.wild:
        return n.Equals(field, text.text)
    return n.Pattern(field, text.wild) if any(text.wild) else n.Exists(field)


def _exists_always(text: _Text, field: n.Field | None = None) -> n.Filter | None:
    """`field:*`; a line always has a level and a timestamp."""
    if not text.wild or any(text.wild):
        return None
    return n.Exists(field) if field else n.Everything()


def _exists(text: _Text) -> n.Filter:
    if text.wild:
        raise QuerySyntaxError("_exists takes the name of one field", column=text.column, expected=["a field name"])
    if text.text in ("level", "timestamp"):
        return n.Everything()
    return n.Exists(_field(text.text, text.column))


def _comparison(operator: str, text: _Text) -> Condition:
    def condition(name: str, column: int) -> n.Filter:
        if operator == "!=":
            return n.Not(_exact(name, column))
        if operator in ("=", "=="):
            return _exact(name, column)
        order = cast(n.Operator, operator)
        if name == "level":
            return n.LevelIs(order, _level(text))
        if name == "timestamp":
            return n.Time(order, _time(text))
        field = _field(name, column)
        literal = None if text.wild else quantity.parse_literal(text.text)
        if literal is None:
            raise QuerySyntaxError(
                f"{text.text[:40]!r} has no order: expected a number, a duration as 1.5s or a size as 10KiB",
                column=text.column,
                expected=["a number", "a duration as 1.5s", "a size as 10KiB"],
            )
        return n.Compare(field, order, literal)

    def _exact(name: str, column: int) -> n.Filter:
        if name == "message":
            return _value(n.Field("message"), text)
        return _equals(text, quoted=False)(name, column)

    return condition


@v_args(inline=True)
class Builder(Transformer[Token, Any]):
    """One method a rule; runs while the parser reduces, so nothing here recurses."""

    def start(self, filter_: n.Filter | None, *rest: Any) -> n.Query:
        """rest: bars and pipes in turn."""
        return n.Query(filter_ or n.Everything(), rest[1::2], _at(rest[0]) if rest else 1)

    # ---- filter and sets: a set's members are conditions, which wait for their field

    def disjunction(self, *operands: Any) -> Any:
        return self._combined(n.Or, operands)

    def conjunction(self, *operands: Any) -> Any:
        return self._combined(n.And, operands)

    def _combined(self, kind: type[n.And] | type[n.Or], operands: tuple[Any, ...]) -> Any:
        if callable(operands[0]):
            return lambda name, column: _joined(kind, [operand(name, column) for operand in operands])
        return _joined(kind, operands)

    def negation(self, operand: Any) -> Any:
        if callable(operand):
            return lambda name, column: n.Not(operand(name, column))
        return n.Not(operand)

    def word(self, token: Token) -> n.Filter:
        return _word(_bare(token))

    def phrase(self, token: Token) -> n.Filter:
        return _phrase(_quoted(token).text)

    def message_regex(self, token: Token) -> n.Filter:
        return n.Regex(n.Field("message"), _regex(token))

    def field_clause(self, field: Token, _colon: Token, condition: Condition) -> n.Filter:
        return condition(_text(field).text, _at(field))

    def comparison_clause(self, field: Token, operator: Token, value: Token) -> n.Filter:
        return _comparison(str(operator), _text(value))(_text(field).text, _at(field))

    def value(self, token: Token) -> Condition:
        return _equals(_bare(token), quoted=False)

    def quoted_value(self, token: Token) -> Condition:
        return _equals(_quoted(token), quoted=True)

    def comparison_value(self, operator: Token, value: Token) -> Condition:
        return _comparison(str(operator), _text(value))

    def regex_value(self, token: Token) -> Condition:
        pattern = _regex(token)

        def condition(name: str, column: int) -> n.Filter:
            if name in ("level", "timestamp", "_exists"):
                raise QuerySyntaxError(f"{name} cannot be searched by a regular expression", column=_at(token))
            return n.Regex(_field(name, column), pattern)

        return condition

    def range_value(self, opening: Token, low: Token, high: Token, closing: Token) -> Condition:
        def condition(name: str, column: int) -> n.Filter:
            bounds = [
                _comparison(operator, _text(bound))(name, column)
                for operator, bound in ((">" if opening == "{" else ">=", low), ("<" if closing == "}" else "<=", high))
                if bound != "*"
            ]
            if bounds:
                return _joined(n.And, bounds)
            return _equals(_Text("", ("", ""), _at(low)), quoted=False)(name, column)

        return condition

    # ---- pipes

    def name(self, token: Token) -> n.Name:
        text = _quoted(token).text if token.type == "QUOTED" else str(token)
        if not text:
            raise QuerySyntaxError("the name of a field is empty", column=_at(token), expected=["a field name"])
        return n.Name(text, _at(token))

    def names(self, *names: n.Name) -> tuple[n.Name, ...]:
        return names

    def by(self, names: tuple[n.Name, ...]) -> tuple[n.Name, ...]:
        return names

    def aggregates(self, *aggregates: n.Aggregate) -> tuple[n.Aggregate, ...]:
        return aggregates

    def aggregate(self, token: Token, argument: n.Name | None, label: n.Name | None) -> n.Aggregate:
        written = str(token)
        percent = 0.0
        found: n.Function | None = _FUNCTIONS.get(written)
        if found is None and re.fullmatch(r"p[0-9]{1,2}(?:\.[0-9]{1,3})?", written) and float(written[1:]) > 0:
            found, percent = n.Function.PERCENTILE, float(written[1:])
        if found is None:
            known = [*_FUNCTIONS, "p50 … p99.9"]
            raise QuerySyntaxError(
                f"unknown function {written[:40]!r}: expected {', '.join(known)}", column=_at(token), expected=known
            )
        if argument is None and found is not n.Function.COUNT:
            raise QuerySyntaxError(
                f"{written} needs a field: {written}(field)", column=_at(token), expected=["a field name"]
            )
        default = f"{written}({argument.text if argument else ''})"
        return n.Aggregate(found, argument, label.text if label else default, percent, _at(token))

    def stats(self, aggregates: tuple[n.Aggregate, ...], by: tuple[n.Name, ...] | None) -> n.Stats:
        return n.Stats(aggregates, by or ())

    def timechart(
        self, span: Token, aggregates: tuple[n.Aggregate, ...] | None, by: tuple[n.Name, ...] | None
    ) -> n.Timechart:
        width = int(quantity.duration(str(span)) or 0) if len(span) < 24 else MAX_SPAN_NS + 1
        if not 1 <= width <= MAX_SPAN_NS:
            raise QuerySyntaxError("span must be 1ns to 366d", column=_at(span), limit="366d")
        return n.Timechart(width, aggregates or (n.Aggregate(n.Function.COUNT, None, "count()"),), by or (), _at(span))

    def top(self, count: Token | None, names: tuple[n.Name, ...]) -> n.Top:
        return n.Top(_count(count) if count else DEFAULT_TOP, names)

    def rare(self, count: Token | None, names: tuple[n.Name, ...]) -> n.Top:
        return n.Top(_count(count) if count else DEFAULT_TOP, names, rare=True)

    def fields(self, names: tuple[n.Name, ...]) -> n.Fields:
        return n.Fields(names)

    def sort_key(self, minus: Token | None, name: n.Name, direction: Token | None) -> n.SortKey:
        return n.SortKey(name, descending=(direction == "desc") if direction else minus is not None)

    def sort(self, *keys: n.SortKey) -> n.Sort:
        return n.Sort(keys)

    def limit(self, count: Token) -> n.Limit:
        return n.Limit(_count(count))

    def extract(self, template: Token, source: n.Name | None) -> n.Extract:
        text = _quoted(template).text
        pieces = _PLACEHOLDER.split(text)
        literals, names = tuple(pieces[0::2]), tuple("" if name == "_" else name for name in pieces[1::2])
        known = [name for name in names if name]
        if not known or len(names) > MAX_PLACEHOLDERS or len(set(known)) < len(known):
            raise QuerySyntaxError(
                f'extract needs 1 to {MAX_PLACEHOLDERS} different placeholders, as in "user <name> logged in"',
                column=_at(template),
                expected=["<name>"],
                limit=MAX_PLACEHOLDERS,
            )
        if any(not literal for literal in literals[1:-1]):
            raise QuerySyntaxError("two placeholders need a text between them", column=_at(template))
        return n.Extract(literals, names, source or n.Name("message"))

    def patterns(self, token: Token, count: Token | None) -> n.Patterns:
        return n.Patterns(_count(count) if count else None, _at(token))

    def where(self, token: Token, asked: n.Filter) -> n.Where:
        return n.Where(asked, _at(token))


def _count(token: Token) -> int:
    if len(token) > 9 or not 1 <= int(token) <= MAX_LIMIT:
        raise QuerySyntaxError(f"the number must be 1 to {MAX_LIMIT}", column=_at(token), limit=MAX_LIMIT)
    return int(token)
