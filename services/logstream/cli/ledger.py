"""`logstream ledger`, `deadletters`: where every accepted record is."""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import Api, person, rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target

PAGE = 100
_REASON_CHARACTERS = 160
_FRAME = re.compile(r".*?DB::Exception: | \([0-9a-f-]{36}\)|\. \([A-Z_]+\)( \(for url .*\))?$", re.DOTALL)

deadletters = typer.Typer(
    no_args_is_help=True,
    help="Accepted records that the store refused: list, show.\n\nExample: logstream deadletters list",
)


@deadletters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")] = 20,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List accepted records that the store refused, each with the reason; newest first.

    Example: logstream deadletters list
    """
    letters: list[dict[str, Any]] = []
    before: str | None = None
    with person(context, api_key, api_url) as api:
        while len(letters) < limit:
            size = min(PAGE, limit - len(letters))
            page = api.get("/api/v1/deadletters", {"limit": size, **({"before": before} if before else {})})
            letters += rows_of(page, "deadletters")
            before = page.get("next")
            if before is None:
                break
    if form is Format.TABLE:
        letters = [_row(letter) for letter in letters]
    output.show(
        letters, ("id", "received_at", "service", "level", "message", "reason"), form, empty="there are no dead letters"
    )


def _row(letter: Mapping[str, Any]) -> dict[str, Any]:
    """A letter as a row of the table: what it was, and the gist of why it died."""
    record = letter.get("record") or {}
    return {
        **{name: record.get(name) for name in ("service", "level")},
        **{name: letter.get(name) for name in ("id", "received_at")},
        "message": _short(str(record.get("message", "")), 80),
        "reason": _short(_FRAME.sub("", str(letter.get("reason", ""))), _REASON_CHARACTERS),
    }


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


@deadletters.command("show")
def show_letter(
    letter_id: Annotated[str, typer.Argument(help="As `deadletters list` shows it.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show one dead letter whole, with the bytes that were refused (base64), as JSON.

    Example: logstream deadletters show 0-17
    """
    with person(context, api_key, api_url) as api:
        output.write(output.to_json(api.get(f"/api/v1/deadletters/{quote(letter_id, safe='')}")))


def ledger(
    form: Output = Format.TABLE, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None
) -> None:
    """Show where every accepted record is: accepted = stored + deduplicated + dead-lettered + in flight.

    Example: logstream ledger
    """
    with Api(api_target(context, api_key, api_url)) as api:
        rows = rows_of(api.get("/api/v1/ledger"), "keys")
    columns = ("key_id", "accepted", "stored", "deduplicated", "dead_lettered", "in_flight", "present")
    output.show(rows, columns, form, empty="nothing was accepted yet")
