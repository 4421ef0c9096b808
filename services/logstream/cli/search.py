"""`logstream search`: logs that match a query."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.asking import From, Params, Since, Stream, To, Words, nothing, question
from logstream.cli.client import Api, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Levels, Rows, RowsOutput, Services
from logstream.cli.query import show_answer
from logstream.cli.reading import read, reader

PAGE = 1_000
MOST = 100_000
"""What a command holds in memory; `logstream export` has no limit."""
COLUMNS = ("timestamp", "service", "level", "message", "metadata", "trace_id", "span_id", "id")


def search(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=MOST, help="At most this many, the newest; more: export.")
    ] = 100,
    ids: Annotated[bool, typer.Option("--ids", help="Show each log's id, for `logstream around`.")] = False,
    form: RowsOutput = Rows.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Find logs that match a query.

    The newest stands last; json, ndjson and csv have it first. A query with pipes is run as `logstream query` runs it.

    Put the query into single quotes: shells give their own meaning to " > | ( ) ! and *. A phrase keeps its own
    quotes inside of them. A query that begins with - goes behind --.

    Examples:

      logstream search timed out

      logstream search '"timed out" level>=warn -debug' --since 24h

      logstream search 'user_id:123 latency_ms>250 (host:web-* OR /time.?out/)'

      logstream search --service payment --level error --since 24h

      logstream search refused --from 2026-01-31T12:00 --to 2026-01-31T13:00 -o ndjson

      logstream search -- -debug
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        try:
            entries = Found(api, params, limit)
            if form is Rows.NDJSON:
                for entry in entries:
                    output.write(output.to_json(entry))
                return
            logs = list(entries)
        except Failure as failure:
            # Only the server reads the language. If this is a query with pipes, its answer tells.
            if failure.code != "query_syntax" or "|" not in str(params.get("query", "")):
                raise
            answer = read(api, "/api/v1/query", {**params, "limit": limit})
            show_answer(answer, params, form)
            return
    if form is Rows.JSON:
        output.write(output.to_json(logs))
    elif form is Rows.CSV:
        output.csv(COLUMNS, ([entry.get(column) for column in COLUMNS] for entry in logs))
    else:
        show_lines(reversed(logs), ids=ids)
        if not logs:
            output.say(nothing(params))
        elif entries.more:
            output.say(f"only the newest {limit:,} are shown; see more with --limit")


class Found:
    """At most `limit` logs, newest first, a page after the other: more that arrive meanwhile change nothing.

    more: whether there are more than `limit`, once all were taken. Iterating raises Failure.
    """

    def __init__(self, api: Api, params: Params, limit: int) -> None:
        self._api = api
        self._params = params
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        left, page = self._limit, min(self._limit, PAGE)
        cursor: str | None = None
        while left > 0:
            asked = {**self._params, "limit": min(left, page), **({"cursor": cursor} if cursor else {})}
            try:
                answer = read(self._api, "/api/v1/search", asked)
            except Failure as failure:
                # This server's pages are smaller.
                if failure.field != "limit" or not isinstance(failure.limit, int) or not 0 < failure.limit < page:
                    raise
                page = failure.limit
                continue
            logs = rows_of(answer, "logs")
            yield from logs
            left -= len(logs)
            cursor = answer.get("next")
            if not cursor:
                return
        self.more = True


def show_lines(entries: Iterator[dict[str, Any]], *, ids: bool = False) -> None:
    """Logs as lines, in the order given."""
    colour, breaks = output.colourful(), output.in_terminal()
    for entry in entries:
        output.write(output.log_line(entry, colour=colour, breaks=breaks, ids=ids))
