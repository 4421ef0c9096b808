"""Fields by name, and what a line has in them."""

import pytest

from logstream.errors import InvalidValue
from logstream.query.language import nodes as n
from logstream.query.language import predicate
from logstream.query.language.fields import MAX_NAME, equals, grouping_sql, parse_field, value_of
from logstream.query.language.sql import Parameters
from logstream.record import Record

RECORD = Record(1_000, "web", 4, "hello", {"level": "x", "user.id": ""}, "t", "")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("service", n.Field("service")), (" level ", n.Field("level")), ("timestamp", n.Field("timestamp")),
        ("user.id", n.Field("metadata", "user.id")), ("metadata.level", n.Field("metadata", "level")),
        ("metadata.", n.Field("metadata", "metadata.")), ("metadata", n.Field("metadata", "metadata")),
    ],
)  # fmt: skip
def test_names(name: str, field: n.Field) -> None:
    assert parse_field(name) == field


@pytest.mark.parametrize("name", ["", "  ", "a" * (MAX_NAME + 1), "\ud800"])
def test_what_is_no_name_is_refused_by_the_parameter(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_field(name, parameter="fields")
    assert caught.value.field == "fields"


@pytest.mark.parametrize("name", ["service", "level", "timestamp", "message", "trace_id", "span_id", "metadata.level",
                                  "user.id", "missing"])  # fmt: skip
def test_a_line_has_the_value_that_it_is_said_to_have(name: str) -> None:
    field = parse_field(name)
    asked = predicate(equals(field, value_of(field, RECORD)))
    other = Record(2_000, "api", 5, "bye", {"missing": "here", "level": "y", "user.id": "7"}, "u", "s")
    assert asked(RECORD)
    assert not asked(other)


def test_columns_to_group_by_bind_the_names_of_keys() -> None:
    parameters = Parameters()
    made = grouping_sql(parse_field("metadata.it's"), parameters)
    assert (made.sql, made.kind, made.present) == (
        "metadata[{q0:String}]",
        "text",
        "mapContains(metadata, {q0:String})",
    )
    assert parameters.values == {"q0": "it's"}
    assert [grouping_sql(parse_field(name), parameters).kind for name in ("service", "level", "timestamp")] == [
        "text", "level", "time",
    ]  # fmt: skip


def test_a_level_or_a_time_that_is_none_is_refused() -> None:
    for name in ("level", "timestamp"):
        with pytest.raises(InvalidValue):
            equals(parse_field(name), "loud")
