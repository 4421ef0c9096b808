"""Columns of a statement under way, which pipes have made, and filters over them.

`sql` prints filters over the columns of the table, for its indexes. Here any column may be of any kind: what is a
number is compared as one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from logstream.query.language import nodes as n
from logstream.query.language import quantity, text
from logstream.query.language.sql import Parameters
from logstream.record import LEVEL_LABELS

Kind = Literal["text", "number", "time", "level", "map"]


class Column(NamedTuple):
    """A column of an answer. Of a "time" the values are nanoseconds since the epoch, of a "map" dicts of texts."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Value:
    """A field as SQL. present: whether a row has it. A number or a time may be NULL, nothing else.

    optional: it can be missing, which is not the same as empty, and then reads as ''.
    """

    sql: str
    kind: Kind
    present: str = "1"
    optional: bool = False


Resolve = Callable[[n.Field], Value]
"""Finds a field; raises QuerySyntaxError where there is none."""


class WrongKind(ValueError):
    """The text says what a field is not."""


def severity(label: str, parameters: Parameters) -> str:
    """The level whose label `label` is, as a number that can be ordered."""
    return f"indexOf({parameters.bind(list(LEVEL_LABELS), 'Array(String)')}, {label})"


def condition_sql(asked: n.Filter, resolve: Resolve, parameters: Parameters) -> str:
    """`asked` as a boolean expression that is never NULL. Raises WrongKind, and what `resolve` raises."""
    bind = parameters.bind
    match asked:
        case n.Everything():
            return "1"
        case n.Not(operand):
            return f"NOT {condition_sql(operand, resolve, parameters)}"
        case n.And(operands):
            return f"({' AND '.join(condition_sql(one, resolve, parameters) for one in operands)})"
        case n.Or(operands):
            return f"({' OR '.join(condition_sql(one, resolve, parameters) for one in operands)})"
        case n.Word(needle):
            return text.word_in_sql(needle, _message(resolve), bind)
        case n.WordPattern(parts):
            return text.pattern_in_sql(parts, _message(resolve), bind)
        case n.Phrase(needle):
            return f"({text.phrase_sql(needle, bind, _message(resolve))})"
        case n.LevelIs(order, level):
            label = _of_kind(resolve(n.Field("level")), "level")
            return f"({severity(label, parameters)} {order} {bind(level, 'UInt8')})"
        case n.Time(order, ns):
            return f"ifNull({_of_kind(resolve(n.Field('timestamp')), 'time')} {order} {bind(ns, 'Int64')}, 0)"
        case n.Exists(field):
            value = resolve(field)
            return f"isNotNull({value.sql})" if value.kind in ("number", "time") else f"({value.present})"
        case _:
            value = resolve(asked.field)
            return _number(asked, value, bind) if value.kind == "number" else _text(asked, value, bind)


def _message(resolve: Resolve) -> str:
    return _of_kind(resolve(n.Field("message")), "text")


def _of_kind(value: Value, kind: Kind) -> str:
    if value.kind != kind:
        raise WrongKind(f"a {value.kind} cannot be asked for in this way, only a {kind}")
    return value.sql


def _number(asked: n.Equals | n.Regex | n.Pattern | n.Compare, value: Value, bind: text.Bind) -> str:
    match asked:
        case n.Equals(_, wanted):
            literal = quantity.number(wanted)
            return "0" if literal is None else f"ifNull({value.sql} = {bind(literal, 'Float64')}, 0)"
        case n.Compare(_, order, literal):
            if literal.kind is quantity.Kind.DURATION:
                return "0"  # nobody knows of what the number is
            return f"ifNull({value.sql} {order} {bind(literal.value, 'Float64')}, 0)"
        case _:
            shown = Value(f"ifNull(toString({value.sql}), '')", "text", f"isNotNull({value.sql})")
            return _text(asked, shown, bind)


def _text(asked: n.Equals | n.Regex | n.Pattern | n.Compare, value: Value, bind: text.Bind) -> str:
    source = _of_kind(value, "text")
    needed = f"{value.present} AND " if value.optional else ""
    match asked:
        case n.Equals(_, wanted):
            return f"({'' if wanted else needed}{source} = {bind(wanted, 'String')})"
        case n.Regex(_, pattern):
            return f"({needed}match({source}, {bind(pattern, 'String')}))"
        case n.Pattern(_, parts):
            return f"({source} LIKE {bind('%'.join(text.like_escaped(part) for part in parts), 'String')})"
        case n.Compare(_, order, literal):
            number = quantity.to_sql(source, literal.kind, bind)
            return f"ifNull({number} {order} {bind(literal.value, 'Float64')}, 0)"
