"""Shapes counted by the engine, whatever else is asked of each."""

from collections.abc import Sequence

from logstream.query.patterns.shape import shape_sql

MAX_SHAPES = 10_000
"""The most frequent shapes that patterns are made of."""
_MAX_GROUPS = 30_000
"""Shapes that are counted at all: with a shape and an example of about 1 KiB each this bounds the memory."""
_EXAMPLE_CHARACTERS = 1_024


def counted_sql(message: str, source: str, columns: Sequence[str]) -> str:
    """A SELECT of the most frequent shapes of `message`, an expression over `source`; all of it is SQL of our own.

    Its rows are (shape, 0 or 1 for the one row of all lines, *columns), that one row first.
    """
    named = ", ".join(f"{column} AS r{place}" for place, column in enumerate(columns, 2))
    return (
        # The empty grouping set counts the lines whose shape is beyond the bound, too, in the same pass.
        f"SELECT {shape_sql(message)} AS r0, grouping(r0) AS r1, {named} FROM {source} "  # noqa: S608
        f"GROUP BY GROUPING SETS ((r0), ()) ORDER BY r1 DESC, count() DESC, r0 LIMIT {MAX_SHAPES + 1} "
        f"SETTINGS max_rows_to_group_by = {_MAX_GROUPS}, group_by_overflow_mode = 'any'"
    )


def example_sql(message: str) -> str:
    """As much of `message` as an example shows."""
    return f"substringUTF8({message}, 1, {_EXAMPLE_CHARACTERS})"
