"""`logstream query`: queries with pipes, answered as a table."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.asking import From, Params, Since, Stream, To, Words, nothing, question
from logstream.cli.client import rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Rows, RowsOutput, Services
from logstream.cli.reading import read, reader
from logstream.cli.timechart import timechart

LIMIT = 1_000
_LOG = {"timestamp", "service", "level", "message", "metadata"}


def query(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many rows.")] = LIMIT,
    chart: Annotated[
        bool | None,
        typer.Option("--chart/--no-chart", help="Draw a timechart. Default: in a terminal.", show_default=False),
    ] = None,
    form: RowsOutput = Rows.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Ask a query with pipes: a table or a chart.

    Put it into single quotes, as shells give their own meaning to | and quotes. In a terminal a timechart is drawn.
    How far a read is that takes longer than a second stands on standard error. Ctrl-C cancels it in the store, too.

    Examples:

      logstream query 'level>=error | stats count() by service'

      logstream query 'level>=warn | timechart 1h count() by level' --since 24h

      logstream query 'latency_ms:* | stats p50(latency_ms), p99(latency_ms) by route | sort by route' -o csv

      logstream query '"logged in" | extract "user <name> logged in from <ip>" | top 10 ip' --since 7d
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/query", {**params, "limit": limit})
    show_answer(answer, params, form, chart=chart)


def show_answer(answer: Any, params: Params, form: Rows, *, chart: bool | None = None) -> None:
    """The answer of /api/v1/query. chart: draw a timechart; None: in a terminal. Raises Failure for another one."""
    columns, rows = rows_of(answer, "columns"), _rows(answer)
    names = [column["name"] for column in columns]
    if form is Rows.CSV:
        output.csv(names, rows)
    elif form is not Rows.TABLE:
        output.show([dict(zip(names, row, strict=True)) for row in rows], (), Format(form.value), empty="")
    elif not rows:
        output.say(nothing(params))
    elif set(names) >= _LOG:
        # Whole logs: easier to read as such than in columns.
        colour, breaks = output.colourful(), output.in_terminal()
        for row in rows:
            output.write(output.log_line(dict(zip(names, row, strict=True)), colour=colour, breaks=breaks))
    else:
        wanted = output.in_terminal() if chart is None else chart
        asked = re.search(r"\|\s*timechart\b", str(params.get("query", "")))
        drawn = timechart(answer, width=output.width(), colour=output.colourful()) if wanted and asked else None
        for line in drawn or ():
            output.write(line)
        if drawn is None:
            show_table(columns, rows)
    if answer.get("truncated"):
        output.say(f"there is more than these {len(rows):,} rows; see it with --limit")


def _rows(answer: Any) -> list[list[Any]]:
    found: list[Any] = rows_of(answer, "rows")
    return found


def show_table(columns: Sequence[Mapping[str, str]], rows: Sequence[Sequence[object]]) -> None:
    """Every column, under its very name."""
    kinds = [column["kind"] for column in columns]
    shown = [_shown([row[index] for row in rows], kind) for index, kind in enumerate(kinds)]
    output.table(
        [column["name"] for column in columns],
        ([show(value) for show, value in zip(shown, row, strict=True)] for row in rows),
        exact=True,
    )


def _shown(values: Sequence[Any], kind: str) -> Callable[[Any], str]:
    """How the values of a column are shown: times and numbers as exactly as the one that needs it most."""
    if kind == "time":
        whole = all(value is None or not datetime.fromisoformat(value).microsecond for value in values)
        return lambda value: output.cell("", value and output.local_time(value)[: 19 if whole else None])
    if kind == "number":
        digits = output.digits(value for value in values if value is not None)
        return lambda value: "-" if value is None else output.number(value, digits)
    return lambda value: output.cell("", value)
