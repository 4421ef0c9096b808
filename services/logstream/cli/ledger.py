"""`logstream ledger`: where every accepted record is."""

from collections.abc import Mapping
from typing import Any

from logstream.cli import output
from logstream.cli.asking import Stream
from logstream.cli.client import Api, rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target

_TERMS = ("waiting", "replaying", "replayed", "discarded", "expired")


def ledger(
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show where every accepted record is: accepted = stored + deduplicated + dead-lettered + in flight.

    What became of the dead-lettered ones is shown, too: dead-lettered = waiting + replaying + replayed + discarded +
    expired. A replayed record is accepted anew.

    Example: logstream ledger
    """
    with Api(api_target(context, api_key, api_url)) as api:
        rows = rows_of(api.get("/api/v1/ledger", {"stream": stream} if stream else None), "keys")
    columns = ("key_id", "accepted", "stored", "deduplicated", "dead_lettered", "in_flight", "present", *_TERMS)
    if form is Format.TABLE:
        rows = [_row(row) for row in rows]
    output.show(rows, columns, form, empty="nothing was accepted yet")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Terms of dead letters only where there are any."""
    letters = row.get("dead_letters") or {}
    return {**row, **{term: letters.get(term) or None for term in _TERMS}}
