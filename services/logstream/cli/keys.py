"""`logstream keys`: API keys."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output
from logstream.cli.times import rfc3339, span

keys = typer.Typer(
    no_args_is_help=True,
    help="API keys: list, create, revoke.\n\nExample: logstream keys create payment --scope ingest",
)


class Scope(StrEnum):
    """What a key may do."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


@keys.command("list")
def list_keys(
    revoked: Annotated[bool, typer.Option("--revoked", help="With the revoked ones.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List your keys; for admins all. Secrets are never shown again.

    Example: logstream keys list
    """
    with person(context, api_key, api_url) as api:
        rows = rows_of(api.get("/api/v1/keys", {"revoked": "true"} if revoked else None), "keys")
    columns = ["id", "name", "stream", "scopes", "created_at", "expires_at", "last_used_at"]
    output.show(rows, [*columns, "revoked_at"] if revoked else columns, form, empty="there are no keys")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[Scope] | None, typer.Option("--scope", help="May be repeated. Default: ingest.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Its stream. Default: default.")] = None,
    all_streams: Annotated[bool, typer.Option("--all-streams", help="Not one stream, but all. For admins.")] = False,
    expires: Annotated[str | None, typer.Option("--expires", help="Ends after this long: 90d, 2w.")] = None,
    records_per_second: Annotated[float | None, typer.Option("--records-per-second", help="Quota.")] = None,
    bytes_per_second: Annotated[float | None, typer.Option("--bytes-per-second", help="Quota.")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Belongs to nobody, so it outlives your account.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Make a key. It is shown this once.

    Examples:

      logstream keys create payment --scope ingest

      logstream keys create grafana --scope read --expires 90d

      logstream keys create shipper --stream payments --records-per-second 5000
    """
    body: dict[str, object] = {
        "name": name,
        "scopes": [str(s) for s in scope or [Scope.INGEST]],
        "quota": {"records_per_second": records_per_second, "bytes_per_second": bytes_per_second},
        "shared": shared,
    }
    if all_streams and stream is not None:
        raise Failure("give --stream or --all-streams, not both", status=2)
    if all_streams or stream is not None:
        body["stream"] = stream
    if expires is not None:
        body["expires_at"] = _expiry(expires, datetime.now(UTC))
    with person(context, api_key, api_url) as api:
        made = api.request("POST", "/api/v1/keys", body=body)
    if form is not Format.TABLE:
        output.write(output.to_json(made))
        return
    output.write(made["secret"])
    output.say("this is the whole key; it is not shown again")


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id (or the key itself).")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """End a key for good; it stops working within five seconds.

    Example: logstream keys revoke k3x9a0b1c2d4
    """
    if key_id.startswith("ls_"):
        key_id = key_id.split("_")[1]
    with person(context, api_key, api_url) as api:
        api.request("DELETE", f"/api/v1/keys/{quote(key_id, safe='')}")
    output.write(f"key {key_id} is revoked")


def _expiry(text: str, now: datetime) -> str:
    """Raises Failure for what is no span, none at all or beyond the calendar."""
    try:
        ends = now + span(text, "--expires")
    except OverflowError:
        ends = now
    if ends <= now:
        raise Failure(f"--expires must be a time from now, like 90d or 2w: '{text}'", status=2)
    return rfc3339(ends)
