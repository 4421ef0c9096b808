"""`logstream explain`: how the store answers a query."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import typer

from logstream.cli import output
from logstream.cli.asking import From, Since, Stream, To, Words, question
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Output, Services
from logstream.cli.output import clean, paint
from logstream.cli.reading import read, reader


def explain(
    words: Words = None,
    analyze: Annotated[bool, typer.Option("--analyze", help="Run it, too, and say what that cost.")] = False,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show how the store answers a query.

    That is, how much is read, what each index leaves, and the SQL.

    Examples:

      logstream explain '"timed out" level>=error' --since 24h

      logstream explain '* | stats count() by service' --since 7d --analyze
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/explain", {**params, **({"analyze": "true"} if analyze else {})})
    if form is not Format.TABLE:
        output.write(output.to_json(answer))
        return
    colour = output.colourful()
    for line in _cost(answer):
        output.write(line)
    if answer["indexes"]:
        output.write("")
        output.table(("index", "parts", "granules", "condition"), map(_index, answer["indexes"]))
    output.write("")
    for line in pretty(answer["sql"], answer["parameters"], colour=colour):
        output.write(line)


def _cost(answer: Mapping[str, Any]) -> Iterator[str]:
    granules, parts = answer["granules"], answer["parts"]
    yield (
        f"reads about {answer['rows']:,} rows: {granules['selected']:,} of {granules['initial']:,} granules in "
        f"{parts['selected']:,} of {parts['initial']:,} parts"
    )
    if answer["projections"]:
        yield f"from {', '.join(map(clean, answer['projections']))} in place of the table"
    measured = answer["measured"]
    if measured:
        memory = f", {_size(measured['memory'])} of memory" if measured["memory"] else ""
        yield (
            f"measured: {measured['milliseconds']:,.1f} ms in the store{memory}; read {measured['rows_read']:,} rows, "
            f"{_size(measured['bytes_read'])}; the answer has {measured['rows']:,} rows"
        )


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def _index(index: Mapping[str, Any]) -> tuple[str, ...]:
    name = " ".join(filter(None, (index["type"], index["name"])))
    if index["source"] != "logs":
        name = f"{index['source']}: {name}"
    counts = (f"{index[of]['selected']:,} of {index[of]['initial']:,}" for of in ("parts", "granules"))
    return (name, *counts, index["condition"] or "-")


_CLAUSES = re.compile(r" (?=(?:FROM|PREWHERE|WHERE|GROUP BY|HAVING|ORDER BY|LIMIT|UNION ALL)\b)| (?=AND\b)")
_PLACE = re.compile(r"\{(\w+):[^{}]*\}")


def pretty(sql: str, parameters: Mapping[str, Any], *, colour: bool) -> Iterator[str]:
    """The statement, a clause a line, and below it the values of its parameters."""
    for line in _CLAUSES.split(sql):
        indent = "  " if line.startswith("AND") else ""
        yield indent + _PLACE.sub(lambda found: paint(found[0], "36", colour=colour), clean(line))
    for name, value in parameters.items():
        yield f"  {paint(name, '36', colour=colour)} = {clean(msgspec.json.encode(value).decode())}"
