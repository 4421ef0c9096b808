"""A filter as a function from a batch to row numbers, for the tail. Agrees with `sql`; a property test sees to it.

Each term tests one column, in one loop, over the rows that are still asked about: a conjunction hands the rows from
term to term, the cheap ones first.
"""

import operator
from collections.abc import Callable, Sequence

from logstream.query.language import nodes as n
from logstream.query.language import quantity, regex, text
from logstream.record import Batch, Record

Rows = Sequence[int]
Selector = Callable[[Batch, Rows], Rows]
"""Those of the given rows, ascending, that are asked for."""

_ORDER: dict[n.Operator, Callable[[float, float], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def predicate(asked: n.Filter) -> Callable[[Record], bool]:
    """A function that tells whether a record is asked for."""
    chosen = selector(asked)
    return lambda record: bool(chosen(Batch.of([record]), range(1)))


def selector(asked: n.Filter) -> Selector:
    """A function that selects rows; keep it, since making it costs more than one call."""
    match asked:
        case n.Everything():
            return lambda batch, rows: rows
        case n.Not(operand):
            return _not(selector(operand))
        case n.And(operands):
            return _and([selector(operand) for operand in sorted(operands, key=_cost)])
        case n.Or(operands):
            return _or(_alternatives(operands))
        case n.Word(needle):
            return _on(_messages, text.word_predicate(needle))
        case n.WordPattern(parts):
            return _on(_messages, text.pattern_predicate(parts))
        case n.Phrase(needle):
            return _on(_messages, text.phrase_predicate(needle))
        case n.LevelIs(order, level):
            return _levels(frozenset(one for one in range(1, 7) if _ORDER[order](one, level)))
        case n.Time(order, ns):
            return _times(order, ns)
        case n.Exists(field):
            return _exists(field)
        case n.Equals(field, value):
            return _in(field, frozenset({value}))
        case _:
            return _on_value(asked.field, _value_test(asked))


def _cost(asked: n.Filter) -> int:
    match asked:
        case n.Everything() | n.Time() | n.LevelIs():
            return 0
        case n.Equals() | n.Exists():
            return 1
        case n.Pattern() | n.Compare():
            return 2
        case n.Phrase() | n.Word():
            return 3
        case n.WordPattern() | n.Regex():
            return 4
        case n.Not(operand):
            return _cost(operand)
        case n.And(operands) | n.Or(operands):
            return max(map(_cost, operands))


def _not(inner: Selector) -> Selector:
    def select(batch: Batch, rows: Rows) -> Rows:
        found = frozenset(inner(batch, rows))
        return [row for row in rows if row not in found] if found else rows

    return select


def _and(terms: Sequence[Selector]) -> Selector:
    def select(batch: Batch, rows: Rows) -> Rows:
        for term in terms:
            rows = term(batch, rows)
            if not rows:
                break
        return rows

    return select


def _or(terms: Sequence[Selector]) -> Selector:
    if len(terms) == 1:
        return terms[0]

    def select(batch: Batch, rows: Rows) -> Rows:
        found: set[int] = set()
        rest = rows
        for term in terms:
            if not rest:
                break
            more = term(batch, rest)
            if more:
                found.update(more)
                rest = [row for row in rest if row not in found]
        return [row for row in rows if row in found]

    return select


def _alternatives(operands: Sequence[n.Filter]) -> list[Selector]:
    """One selector an operand, but those that ask one field for exact values become one set."""
    values: dict[n.Field, set[str]] = {}
    levels: set[int] = set()
    others: list[n.Filter] = []
    for operand in operands:
        match operand:
            case n.Equals(field, value):
                values.setdefault(field, set()).add(value)
            case n.LevelIs("=", level):
                levels.add(level)
            case _:
                others.append(operand)
    sets = [_in(field, frozenset(wanted)) for field, wanted in values.items()]
    if levels:
        sets.append(_levels(frozenset(levels)))
    return sets + [selector(operand) for operand in sorted(others, key=_cost)]


# ---- one column each


def _messages(batch: Batch) -> Sequence[str]:
    return batch.messages


def _column(field: n.Field) -> Callable[[Batch], Sequence[str]]:
    match field.column:
        case "service":
            return lambda batch: batch.services
        case "message":
            return _messages
        case "trace_id":
            return lambda batch: batch.trace_ids
        case "span_id":
            return lambda batch: batch.span_ids
        case other:
            raise ValueError(f"{other} is no column of text")


def _on(column: Callable[[Batch], Sequence[str]], test: Callable[[str], bool]) -> Selector:
    def select(batch: Batch, rows: Rows) -> Rows:
        values = column(batch)
        return [row for row in rows if test(values[row])]

    return select


def _on_value(field: n.Field, test: Callable[[str], bool]) -> Selector:
    if field.column != "metadata":
        return _on(_column(field), test)
    key = field.key

    def select(batch: Batch, rows: Rows) -> Rows:
        maps = batch.metadata
        return [row for row in rows if (value := maps[row].get(key)) is not None and test(value)]

    return select


def _in(field: n.Field, wanted: frozenset[str]) -> Selector:
    if field.column == "metadata":
        key = field.key

        def select_key(batch: Batch, rows: Rows) -> Rows:
            maps = batch.metadata
            return [row for row in rows if maps[row].get(key) in wanted]

        return select_key
    column = _column(field)

    def select(batch: Batch, rows: Rows) -> Rows:
        values = column(batch)
        return [row for row in rows if values[row] in wanted]

    return select


def _exists(field: n.Field) -> Selector:
    if field.column != "metadata":
        return _on(_column(field), bool)
    key = field.key

    def select(batch: Batch, rows: Rows) -> Rows:
        maps = batch.metadata
        return [row for row in rows if key in maps[row]]

    return select


def _levels(wanted: frozenset[int]) -> Selector:
    def select(batch: Batch, rows: Rows) -> Rows:
        levels = batch.levels
        return [row for row in rows if levels[row] in wanted]

    return select


def _times(order: n.Operator, ns: int) -> Selector:
    compare = _ORDER[order]

    def select(batch: Batch, rows: Rows) -> Rows:
        times = batch.timestamps
        return [row for row in rows if compare(times[row], ns)]

    return select


def _value_test(asked: n.Regex | n.Pattern | n.Compare) -> Callable[[str], bool]:
    match asked:
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
