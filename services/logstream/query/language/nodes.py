"""The syntax tree of a query. Immutable and hashable, so that equal questions are evaluated once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, cast

from logstream.query.language.quantity import Quantity

Operator = Literal["=", "<", "<=", ">", ">="]
Column = Literal["service", "message", "trace_id", "span_id", "metadata", "level", "timestamp"]

_METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or (`column` "metadata") the metadata key `key`.

    Filters on text never hold "level" and "timestamp": LevelIs and Time ask for those.
    """

    column: Column
    key: str = ""

    @property
    def name(self) -> str:
        """What it is called, without the prefix of metadata."""
        return self.key if self.column == "metadata" else self.column


def field_named(name: str) -> Field:
    """A column of a line where `name` is one, else the metadata key; `metadata.KEY` is a key in any case."""
    match name:
        case "service" | "message" | "trace_id" | "span_id" | "level" | "timestamp":
            return Field(cast(Column, name))
        case _:
            return Field("metadata", name.removeprefix(_METADATA) or name)


@dataclass(frozen=True, slots=True)
class Everything:
    """Asks nothing."""


EVERYTHING = Everything()


@dataclass(frozen=True, slots=True)
class Not:
    operand: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    """All of at least two."""

    operands: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of at least two."""

    operands: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Word:
    """`text` in the message, in any case, not inside a longer word."""

    text: str


@dataclass(frozen=True, slots=True)
class WordPattern:
    """`parts` in the message, in any case, joined by any characters but white space; at least two parts."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    """`text` anywhere in the message, in any case. Not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression (RE2) that matches a part of the field, which must be present."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is present and is exactly `value`."""

    field: Field
    value: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """The whole field is `parts` joined by any characters, case included; at least two parts, not all empty."""

    field: Field
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """The field is a quantity of the literal's kind and stands in this order to it."""

    field: Field
    operator: Operator
    value: Quantity


@dataclass(frozen=True, slots=True)
class Exists:
    """A metadata key is present, or a column is not empty."""

    field: Field


@dataclass(frozen=True, slots=True)
class LevelIs:
    """level: a `Level` number."""

    operator: Operator
    level: int


@dataclass(frozen=True, slots=True)
class Time:
    """ns: nanoseconds since the epoch."""

    operator: Operator
    ns: int


Filter = (
    Everything
    | Not
    | And
    | Or
    | Word
    | WordPattern
    | Phrase
    | Regex
    | Equals
    | Pattern
    | Compare
    | Exists
    | LevelIs
    | Time
)


def all_of(operands: Iterable[Filter]) -> Filter:
    """What all of `operands` ask together; conjunctions among them are dissolved."""
    flat: list[Filter] = []
    for operand in operands:
        if isinstance(operand, And):
            flat.extend(operand.operands)
        elif not isinstance(operand, Everything):
            flat.append(operand)
    return Everything() if not flat else flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(operands: Sequence[Filter]) -> Filter:
    """What any of `operands` asks; everything when there is none."""
    return Everything() if not operands else operands[0] if len(operands) == 1 else Or(tuple(operands))


def fields_of(asked: Filter) -> Iterator[Field]:
    """The fields that `asked` looks at, some more than once; words look at the message."""
    match asked:
        case And(operands) | Or(operands):
            for operand in operands:
                yield from fields_of(operand)
        case Not(operand):
            yield from fields_of(operand)
        case Word() | WordPattern() | Phrase():
            yield Field("message")
        case LevelIs():
            yield Field("level")
        case Time():
            yield Field("timestamp")
        case Everything():
            pass
        case _:
            yield asked.field


@dataclass(frozen=True, slots=True)
class Name:
    """A field as written after a pipe. column: where, from 1."""

    text: str
    column: int = field(default=1, compare=False)


class Function(StrEnum):
    """What `stats` and `timechart` can compute."""

    COUNT = "count"
    COUNT_DISTINCT = "count_distinct"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    MEDIAN = "median"
    PERCENTILE = "p"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """argument: None counts lines. label: what the column of the answer is called. percent: of PERCENTILE, 0 to 100.

    column: where it is written, from 1.
    """

    function: Function
    argument: Name | None
    label: str
    percent: float = 0.0
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Stats:
    aggregates: tuple[Aggregate, ...]
    by: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Timechart:
    """span: nanoseconds. column: where it is written, from 1."""

    span: int
    aggregates: tuple[Aggregate, ...]
    by: tuple[Name, ...] = ()
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Top:
    """The `limit` most frequent values (`rare`: the least frequent) of `fields` together."""

    limit: int
    fields: tuple[Name, ...]
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    fields: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class SortKey:
    field: Name
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    count: int


@dataclass(frozen=True, slots=True)
class Extract:
    """literals: the texts around the placeholders, one more than `names`. source: the field that is read."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    source: Name


@dataclass(frozen=True, slots=True)
class Patterns:
    """The kinds of message among the lines. limit: the most frequent of them; None for all.

    column: where it is written, from 1.
    """

    limit: int | None = None
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Where:
    """Only the rows that `filter` asks for. column: where it is written, from 1."""

    filter: Filter
    column: int = field(default=1, compare=False)


Pipe = Stats | Timechart | Top | Fields | Sort | Limit | Extract | Patterns | Where


@dataclass(frozen=True, slots=True)
class Query:
    """pipes_column: where the first bar stands, from 1; 1 without pipes."""

    filter: Filter
    pipes: tuple[Pipe, ...] = ()
    pipes_column: int = field(default=1, compare=False)
