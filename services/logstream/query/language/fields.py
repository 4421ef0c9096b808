"""Fields by name: as the API's parameters give them, and as columns to group by."""

from dataclasses import dataclass
from typing import Literal

from logstream.errors import InvalidValue
from logstream.query.language import nodes as n
from logstream.query.language.sql import Parameters, field_sql
from logstream.query.time import format_time, parse_time
from logstream.record import LEVEL_LABELS, Record, parse_level

MAX_NAME = 256
"""Characters of a field's name."""


def parse_field(name: str, *, parameter: str = "by") -> n.Field:
    """The field that `name` names: a column of a line (`level` and `timestamp` are, too), else a metadata key.

    `metadata.KEY` is the key of that name in any case. Raises InvalidValue naming `parameter`.
    """
    name = name.strip()
    if not name:
        raise InvalidValue(f"{parameter} holds an empty name: expected a field", field=parameter)
    if len(name) > MAX_NAME:
        raise InvalidValue(
            f"{parameter}: a field's name has at most {MAX_NAME} characters", field=parameter, limit=MAX_NAME
        )
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InvalidValue(f"{parameter} is not valid Unicode", field=parameter)
    return n.field_named(name)


@dataclass(frozen=True, slots=True)
class Grouping:
    """A field as a column to group by.

    sql: its expression. kind: of the values that come back: "text" (str; a missing field reads as ''), "level" (the
    label as str; sorts by severity), "time" (int, nanoseconds since the epoch). present: SQL that is true where a
    line has the field, which a key that is present and empty has.
    """

    sql: str
    kind: Literal["text", "level", "time"]
    present: str


def grouping_sql(field: n.Field, parameters: Parameters) -> Grouping:
    """`field` to group by, its values bound in `parameters`."""
    match field.column:
        case "level":
            return Grouping("level", "level", "1")
        case "timestamp":
            return Grouping("toUnixTimestamp64Nano(timestamp)", "time", "1")
        case "metadata":
            key = parameters.bind(field.key, "String")
            return Grouping(f"metadata[{key}]", "text", f"mapContains(metadata, {key})")
        case column:
            return Grouping(field_sql(field, parameters), "text", f"{column} != ''")


def value_of(field: n.Field, record: Record) -> str | None:
    """What `record` has there, as text: a level as its label, a time as RFC 3339. None: it lacks the key."""
    match field.column:
        case "level":
            return LEVEL_LABELS[record.level - 1]
        case "timestamp":
            return format_time(record.timestamp)
        case "metadata":
            return record.metadata.get(field.key)
        case column:
            return str(getattr(record, column))


def equals(field: n.Field, value: str | None) -> n.Filter:
    """The filter for lines with `value` (as `value_of` gives it) in `field`; None: for lines that lack it.

    Raises InvalidValue when `value` is no level or no time where `field` is one.
    """
    if value is None:
        return n.Not(n.Exists(field))
    match field.column:
        case "level":
            level = parse_level(value)
            if level is None:
                raise InvalidValue(f"level must be of {', '.join(LEVEL_LABELS)}: {value[:32]!r}", field="level")
            return n.LevelIs("=", int(level))
        case "timestamp":
            return n.Time("=", parse_time(value, "timestamp"))
        case _:
            return n.Equals(field, value)
