"""A filter as a predicate on records, for the tail. Agrees with `sql`; a property test holds it to that."""

import operator
from collections.abc import Callable

from logstream.query.language import nodes as n
from logstream.query.language import quantity, regex, text
from logstream.record import Record

Predicate = Callable[[Record], bool]

_ORDER: dict[n.Operator, Callable[[float, float], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def predicate(asked: n.Filter) -> Predicate:
    """A function that tells whether a record is asked for."""
    match asked:
        case n.Everything():
            return lambda record: True
        case n.Not(operand):
            inner = predicate(operand)
            return lambda record: not inner(record)
        case n.And(operands):
            every = [predicate(operand) for operand in operands]
            return lambda record: all(one(record) for one in every)
        case n.Or(operands):
            some = [predicate(operand) for operand in operands]
            return lambda record: any(one(record) for one in some)
        case n.Word(needle):
            return _on_message(text.word_predicate(needle))
        case n.WordPattern(parts):
            return _on_message(text.pattern_predicate(parts))
        case n.Phrase(needle):
            return _on_message(text.phrase_predicate(needle))
        case n.LevelIs(order, level):
            compare = _ORDER[order]
            return lambda record: compare(record.level, level)
        case n.Time(order, ns):
            compare = _ORDER[order]
            return lambda record: compare(record.timestamp, ns)
        case n.Exists(field):
            read = _reader(field)
            if field.column == "metadata":
                return lambda record: read(record) is not None
            return lambda record: bool(read(record))
        case _:
            return _on_value(asked)


def _on_message(found: Callable[[str], bool]) -> Predicate:
    return lambda record: found(record.message)


def _on_value(asked: n.Regex | n.Equals | n.Pattern | n.Compare) -> Predicate:
    read = _reader(asked.field)
    found = _value_test(asked)

    def test(record: Record) -> bool:
        value = read(record)
        return value is not None and found(value)

    return test


def _value_test(asked: n.Regex | n.Equals | n.Pattern | n.Compare) -> Callable[[str], bool]:
    match asked:
        case n.Equals(_, wanted):
            return lambda value: value == wanted
        case n.Regex(_, pattern):
            search = regex.searcher(pattern)
            return lambda value: search(value.encode())
        case n.Pattern(_, parts):
            return lambda value: _glob(parts, value)
        case n.Compare(_, order, literal):
            compare, parse, limit = _ORDER[order], quantity.reader(literal.kind), literal.value

            def test(value: str) -> bool:
                parsed = parse(value)
                return parsed is not None and compare(parsed, limit)

            return test


def _reader(field: n.Field) -> Callable[[Record], str | None]:
    match field.column:
        case "metadata":
            key = field.key
            return lambda record: record.metadata.get(key)
        case "service":
            return lambda record: record.service
        case "message":
            return lambda record: record.message
        case "trace_id":
            return lambda record: record.trace_id
        case "span_id":
            return lambda record: record.span_id


def _glob(parts: tuple[str, ...], value: str) -> bool:
    """Whether `value` is `parts` with any characters between them; the leftmost place of each part will do."""
    first, *middle, last = parts
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in middle:
        at = value.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
