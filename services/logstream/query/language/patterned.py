"""The pipe `patterns`: shapes are counted by the engine, made into patterns here, and so are the pipes behind it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from logstream.errors import TooExpensive
from logstream.query.language import nodes as n
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.result import Column
from logstream.query.language.select import predicate
from logstream.query.patterns import Seen, summarise
from logstream.query.patterns.counted import counted_sql, example_sql
from logstream.record import Record

COLUMNS: tuple[Column, ...] = (
    Column("pattern", "text"),
    Column("count", "number"),
    Column("percent", "number"),
    Column("example", "text"),
)
MAX_SECONDS = 2.0
"""CPU that one filter behind `patterns` may take: a thread cannot be cancelled."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """What is left to be done with the rows that `count_sql` gives.

    limit: patterns, None for all. pipes: those behind, checked. columns: of the answer.
    """

    limit: int | None
    pipes: tuple[n.Pipe, ...]
    columns: tuple[Column, ...]


def count_sql(messages: str) -> str:
    """A SELECT that counts shapes. messages: a SELECT of one column, called m.

    Its rows are (shape, 0 or 1 for the one row that counts all, count, example), that one row first.
    """
    return counted_sql("m", f"({messages})", ["count()", f"any({example_sql('m')})"])


def steps(pipe: n.Patterns, behind: Sequence[n.Pipe]) -> Steps:
    """Raises QuerySyntaxError for a pipe that cannot stand behind `patterns`, and for a column that is not there."""
    columns = COLUMNS
    for later in behind:
        match later:
            case n.Limit():
                pass
            case n.Sort(keys):
                for key in keys:
                    _place(columns, key.field)
            case n.Fields(names):
                columns = tuple(columns[_place(columns, name)] for name in names)
                if len(set(columns)) < len(columns):
                    raise QuerySyntaxError("a column is named twice", column=names[0].column)
            case n.Where(asked, column):
                for field in n.fields_of(asked):
                    _place(columns, n.Name("pattern" if field.column == "message" else field.name, column))
            case _:
                raise QuerySyntaxError(
                    "behind patterns there is only where, sort, fields and limit",
                    column=pipe.column,
                    expected=["where", "sort", "fields", "limit"],
                )
    return Steps(pipe.limit, tuple(behind), columns)


def _place(columns: tuple[Column, ...], name: n.Name) -> int:
    known = [column.name for column in columns]
    if name.text not in known:
        raise QuerySyntaxError(
            f"there is no field {name.text[:60]!r} any more: expected {', '.join(known)}",
            column=name.column,
            expected=known,
        )
    return known.index(name.text)


@dataclass(frozen=True, slots=True)
class Patterned:
    """rest: lines in none of the patterns found, because they have more different shapes than are counted."""

    rows: list[Row]
    rest: int


def finish(counted: Sequence[Row], steps: Steps) -> Patterned:
    """The answer, of what `count_sql` gave. Takes up to seconds: for a thread.

    Raises TooExpensive when filters behind `patterns` take more than MAX_SECONDS of CPU.
    """
    total = sum(count for _, every, count, _ in counted if every)
    shapes = {shape: Seen(count, example) for shape, every, count, example in counted if not every}
    rows: list[Row] = [
        (pattern.template.text, pattern.count, pattern.count * 100 / total, pattern.examples[0])
        for pattern in summarise(shapes)[: steps.limit]
    ]
    columns = COLUMNS
    for pipe in steps.pipes:
        match pipe:
            case n.Limit(count):
                rows = rows[:count]
            case n.Sort(keys):
                for key in reversed(keys):
                    place = _place(columns, key.field)
                    rows.sort(key=lambda row, place=place: row[place], reverse=key.descending)  # type: ignore[misc]
            case n.Fields(names):
                places = [_place(columns, name) for name in names]
                rows = [tuple(row[place] for place in places) for row in rows]
                columns = tuple(columns[place] for place in places)
            case n.Where(asked, _):
                rows = _filtered(rows, columns, asked)
    return Patterned(rows, total - sum(seen.count for seen in shapes.values()))


def _filtered(rows: list[Row], columns: tuple[Column, ...], asked: n.Filter) -> list[Row]:
    wanted = predicate(asked)
    kept: list[Row] = []
    began = time.thread_time()
    for row in rows:
        if wanted(_record(columns, row)):
            kept.append(row)
        if time.thread_time() - began > MAX_SECONDS:
            raise TooExpensive(
                f"where takes longer than {MAX_SECONDS:g} s: use fewer or simpler regular expressions",
                field="query",
                limit=MAX_SECONDS,
            )
    return kept


def _record(columns: tuple[Column, ...], row: Row) -> Record:
    """`row` as a line, for filters: the pattern is its message, and every column a key of its metadata."""
    cells = {column.name: str(cell) for column, cell in zip(columns, row, strict=True)}
    return Record(0, "", 1, cells.get("pattern", ""), cells)
