"""`logstream streams`: what streams there are, and making, changing and deleting them."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output

streams = typer.Typer(
    no_args_is_help=True,
    help="Streams: list, create, show, set, delete.\n\nExample: logstream streams create payments --retention-days 90",
)

_COLUMNS = ("name", "status", "retention_days", "dead_letter_days", "quota", "anonymous_reads", "created_at")

Name = Annotated[str, typer.Argument(help="The stream's name.")]
RetentionDays = Annotated[int | None, typer.Option("--retention-days", help="Logs older than that are deleted.")]
DeadLetterDays = Annotated[
    int | None, typer.Option("--dead-letter-days", help="Dead letters older than that are deleted.")
]
AnonymousReads = Annotated[
    bool | None,
    typer.Option("--anonymous-reads/--no-anonymous-reads", help="Let anybody read, without a key or a login."),
]
Records = Annotated[float | None, typer.Option("--records-per-second", help="Quota of all keys together; 0: none.")]
Bytes = Annotated[float | None, typer.Option("--bytes-per-second", help="Quota of all keys together; 0: none.")]


@streams.command("list")
def list_streams(
    form: Output = Format.TABLE, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None
) -> None:
    """List streams.

    Example: logstream streams list
    """
    with person(context, api_key, api_url) as api:
        rows = rows_of(api.get("/api/v1/streams"), "streams")
    output.show([_shown(row, form) for row in rows], _COLUMNS, form, empty="there are no streams")


@streams.command("create")
def create_stream(
    name: Annotated[str, typer.Argument(help="1 to 50 of a-z, 0-9 and '-', beginning with a letter.")],
    retention_days: RetentionDays = None,
    dead_letter_days: DeadLetterDays = None,
    anonymous_reads: AnonymousReads = None,
    records_per_second: Records = None,
    bytes_per_second: Bytes = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Make a stream, with keys, quota and retention of its own. For admins.

    Examples:

      logstream streams create payments

      logstream streams create audit --retention-days 365 --records-per-second 20000
    """
    body = _given(retention_days, dead_letter_days, anonymous_reads)
    quota = {"records_per_second": records_per_second or None, "bytes_per_second": bytes_per_second or None}
    with person(context, api_key, api_url) as api:
        made = api.request("POST", "/api/v1/streams", body={"name": name, "quota": quota, **body})
    _show(made, form)


@streams.command("show")
def show_stream(
    name: Name,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show one stream.

    Example: logstream streams show payments -o json
    """
    with person(context, api_key, api_url) as api:
        _show(api.get(_path(name)), form)


@streams.command("set")
def set_stream(
    name: Name,
    retention_days: RetentionDays = None,
    dead_letter_days: DeadLetterDays = None,
    anonymous_reads: AnonymousReads = None,
    records_per_second: Records = None,
    bytes_per_second: Bytes = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Change what is given; the rest stays. For admins.

    Examples:

      logstream streams set payments --retention-days 14

      logstream streams set payments --records-per-second 0 --no-anonymous-reads
    """
    body = _given(retention_days, dead_letter_days, anonymous_reads)
    rates = {"records_per_second": records_per_second, "bytes_per_second": bytes_per_second}
    rates = {what: rate for what, rate in rates.items() if rate is not None}
    if not body and not rates:
        raise Failure("nothing to change: give an option, such as --retention-days 14", status=2)
    with person(context, api_key, api_url) as api:
        if rates:
            # A quota is replaced as a whole, and here is only a part of it.
            quota = {**api.get(_path(name))["quota"], **rates}
            body["quota"] = {what: rate or None for what, rate in quota.items()}
        changed = api.request("PATCH", _path(name), body=body)
    _show(changed, form)


@streams.command("delete")
def delete_stream(
    name: Name,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="The name once more; else it is asked for.", show_default=False)
    ] = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Delete a stream with all its logs, for good. Dead letters, keys and saved views go, too. For admins.

    Examples:

      logstream streams delete payments

      logstream streams delete payments --confirm payments
    """
    if confirm is None:
        confirm = typer.prompt(f"This deletes all logs of '{name}' for good. Type its name to go on", err=True)
    if confirm != name:
        raise Failure(f"that is not '{name}': nothing was deleted", status=2)
    with person(context, api_key, api_url) as api:
        api.request("DELETE", _path(name), params={"confirm": confirm})
    output.write(f"stream {name} is deleted; its keys have stopped")


def _path(name: str) -> str:
    return f"/api/v1/streams/{quote(name, safe='')}"


def _given(retention_days: int | None, dead_letter_days: int | None, anonymous_reads: bool | None) -> dict[str, object]:
    given = {
        "retention_days": retention_days,
        "dead_letter_days": dead_letter_days,
        "anonymous_reads": anonymous_reads,
    }
    return {what: value for what, value in given.items() if value is not None}


def _show(stream: Mapping[str, Any], form: Format) -> None:
    if form is Format.TABLE:
        output.show([_shown(stream, form)], _COLUMNS, form, empty="")
    else:
        output.write(output.to_json(stream))
    if stream.get("status") == "creating":
        output.say(f"its topics and tables are not there yet; see: logstream streams show {stream.get('name')}")


def _shown(stream: Mapping[str, Any], form: Format) -> Mapping[str, Any]:
    """A row for people has no column full of nothings for a quota that there is not."""
    quota = stream.get("quota")
    if form is not Format.TABLE or not isinstance(quota, dict):
        return stream
    said = [f"{rate:,g} {what.removesuffix('_per_second')}/s" for what, rate in quota.items() if rate is not None]
    return {**stream, "quota": ", ".join(said)}
