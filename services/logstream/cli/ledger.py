"""`logstream ledger`: where every accepted record is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.asking import From, Stream, To
from logstream.cli.client import Api, rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target
from logstream.cli.times import period

_TERMS = ("waiting", "replaying", "replayed", "discarded", "expired")


def ledger(
    since: Annotated[
        str | None, typer.Option("--since", help="Only of records received from this long ago: 2h, 7d.")
    ] = None,
    start: From = None,
    end: To = None,
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show where every accepted record is.

    accepted = stored + deduplicated + dead-lettered + in flight.

    What became of the dead-lettered ones is shown, too: dead-lettered = waiting + replaying + replayed + discarded +
    expired. A replayed record is accepted anew. A time is rounded to whole minutes that hold it.

    Examples:

      logstream ledger

      logstream ledger --since 1d
    """
    asked = period(since, start, end, datetime.now(UTC)) | ({"stream": stream} if stream else {})
    with Api(api_target(context, api_key, api_url)) as api:
        answer = api.get("/api/v1/ledger", asked or None)
    rows = rows_of(answer, "keys")
    _tell_range(answer)
    columns = ("key_id", "accepted", "stored", "deduplicated", "dead_lettered", "in_flight", "present", *_TERMS)
    if form is Format.TABLE:
        rows = [_row(row) for row in rows]
    output.show(rows, columns, form, empty="nothing was accepted yet")


def _tell_range(answer: Any) -> None:
    """Counts are kept by the minute, so that the range may be wider than what was asked for."""
    start, end = answer.get("start_time"), answer.get("end_time")
    if start or end:
        output.say(f"of records received{f' from {start}' if start else ''}{f' to {end}' if end else ''}")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Terms of dead letters only where there are any."""
    letters = row.get("dead_letters") or {}
    return {**row, **{term: letters.get(term) or None for term in _TERMS}}
