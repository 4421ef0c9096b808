"""A filter as SQL over the columns of a `logs` table. Every value is a bound parameter, no text of a user's is SQL."""

from logstream.query.condition import Condition
from logstream.query.language import nodes as n
from logstream.query.language import quantity, text
from logstream.record import LEVEL_LABELS
from logstream.storage.schema import BUCKET, bucket, pair


class Parameters:
    """Bound parameters as they come up; the same value of the same type is bound once. Names are `prefix` + number."""

    def __init__(self, prefix: str = "q") -> None:
        self._prefix = prefix
        self._places: dict[tuple[str, str], str] = {}
        self.values: dict[str, object] = {}

    def bind(self, value: object, kind: str) -> str:
        """What stands for `value` in the SQL. kind: its ClickHouse type."""
        key = (kind, repr(value))
        place = self._places.get(key)
        if place is None:
            name = f"{self._prefix}{len(self.values)}"
            self.values[name] = value
            place = self._places[key] = f"{{{name}:{kind}}}"
        return place


def to_sql(asked: n.Filter) -> Condition:
    """`asked` as a boolean expression that is never NULL; "1" when it asks nothing. Parameter names begin with "q"."""
    parameters = Parameters()
    return Condition(filter_sql(asked, parameters), parameters.values)


def filter_sql(asked: n.Filter, parameters: Parameters) -> str:
    """As `to_sql`, its values added to `parameters`."""
    bind = parameters.bind
    match asked:
        case n.Everything():
            return "1"
        case n.Not(operand):
            return f"NOT {filter_sql(operand, parameters)}"
        case n.And(operands):
            return f"({' AND '.join(filter_sql(operand, parameters) for operand in operands)})"
        case n.Or(operands):
            return _or(operands, parameters)
        case n.Word(needle):
            return text.word_sql(needle, bind)
        case n.WordPattern(parts):
            return text.pattern_sql(parts, bind)
        case n.Phrase(needle):
            return f"({text.phrase_sql(needle, bind)})"
        case n.LevelIs(order, level):
            return f"(level {order} {bind(LEVEL_LABELS[level - 1], 'String')})"
        case n.Time(order, ns):
            return _time(order, ns, parameters)
        case _:
            return _value_sql(asked, parameters)


def _value_sql(asked: n.Exists | n.Equals | n.Regex | n.Pattern | n.Compare, parameters: Parameters) -> str:
    bind = parameters.bind
    match asked:
        case n.Exists(field):
            if field.column == "metadata":
                return f"mapContains(metadata, {bind(field.key, 'String')})"
            return f"({field.column} != '')"
        case n.Equals(n.Field("metadata", key), value) if (element := pair(key, value)) is not None:
            return f"has(pairs, {bind(element, 'String')})"
        case n.Equals(field, value):
            return _present(field, f"{field_sql(field, parameters)} = {bind(value, 'String')}", parameters, not value)
        case n.Regex(field, pattern):
            # An expression may match the empty text that a missing key reads as.
            return _present(field, f"match({field_sql(field, parameters)}, {bind(pattern, 'String')})", parameters)
        case n.Pattern(field, parts):
            like = bind("%".join(text.like_escaped(part) for part in parts), "String")
            return f"({field_sql(field, parameters)} LIKE {like})"
        case n.Compare(field, order, literal):
            value_sql = quantity.to_sql(field_sql(field, parameters), literal.kind, bind)
            return f"ifNull({value_sql} {order} {bind(literal.value, 'Float64')}, 0)"


def field_sql(field: n.Field, parameters: Parameters) -> str:
    """The text of `field`; a metadata key that is missing reads as ''."""
    match field.column:
        case "metadata":
            return f"metadata[{parameters.bind(field.key, 'String')}]"
        case "level" | "timestamp":
            return f"toString({field.column})"
        case column:
            return column


def _present(field: n.Field, condition: str, parameters: Parameters, needed: bool = True) -> str:
    if needed and field.column == "metadata":
        return f"(mapContains(metadata, {parameters.bind(field.key, 'String')}) AND {condition})"
    return f"({condition})"


def _or(operands: tuple[n.Filter, ...], parameters: Parameters) -> str:
    """Alternatives for one field become one IN: read once, and the indexes know what to do with it."""
    values: dict[n.Field, list[str]] = {}
    levels: list[str] = []
    others: list[n.Filter] = []
    for operand in operands:
        match operand:
            case n.Equals(field, value) if value:
                values.setdefault(field, []).append(value)
            case n.LevelIs("=", level):
                levels.append(LEVEL_LABELS[level - 1])
            case _:
                others.append(operand)
    terms = [_among(field, wanted, parameters) for field, wanted in values.items()]
    if levels:
        terms.append(f"level IN {parameters.bind(levels, 'Array(String)')}")
    terms += [filter_sql(operand, parameters) for operand in others]
    return f"({' OR '.join(terms)})"


def _among(field: n.Field, wanted: list[str], parameters: Parameters) -> str:
    pairs = [pair(field.key, value) for value in wanted] if field.column == "metadata" else [None]
    if None in pairs:
        return f"{field_sql(field, parameters)} IN {parameters.bind(wanted, 'Array(String)')}"
    return f"hasAny(pairs, {parameters.bind(pairs, 'Array(String)')})"


def _time(order: n.Operator, ns: int, parameters: Parameters) -> str:
    """The timestamp exactly, and its bucket, which the primary key begins with and which never falls."""
    instant = f"fromUnixTimestamp64Nano({parameters.bind(ns, 'Int64')}, 'UTC')"
    bucket_order = {"<": "<=", ">": ">="}.get(order, order)
    return f"({BUCKET} {bucket_order} {parameters.bind(bucket(ns), 'Int64')} AND timestamp {order} {instant})"
