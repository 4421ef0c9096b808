"""`logstream keys`, `users`, `deadletters`, `ledger`: what an admin, or the owner of a key, looks after."""

# ruff: noqa: PLR0917 (a command's options are its parameters)

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import Api
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target
from logstream.cli.times import rfc3339, span

keys = typer.Typer(no_args_is_help=True, help="API keys: list, create, revoke.")
users = typer.Typer(no_args_is_help=True, help="People: list, create, reset, role, delete. For admins.")
deadletters = typer.Typer(no_args_is_help=True, help="Accepted records that the store refused: list, show.")


class Scope(StrEnum):
    """What a key may do."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class Role(StrEnum):
    """What a person may do."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


def _person(context: str | None, api_key: str | None, api_url: str | None) -> Api:
    return Api(api_target(context, api_key, api_url), person=True)


def _rows(answer: object, name: str) -> list[dict[str, Any]]:
    """The list in an answer, bare or under `name`."""
    found = answer.get(name) if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise Failure("the API answered with something else than a list; is this the LogStream API?")
    return found


def _with_times(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For a table: times in local time, to the second."""
    return [
        {k: output.local_time(v)[:19] if isinstance(v, str) and k.endswith("_at") else v for k, v in row.items()}
        for row in rows
    ]


def _show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, *, empty: str) -> None:
    output.show(_with_times(rows) if form is Format.TABLE else rows, columns, form, empty=empty)


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
    with _person(context, api_key, api_url) as api:
        rows = _rows(api.get("/api/v1/keys", {"revoked": "true"} if revoked else None), "keys")
    columns = ["id", "name", "stream", "scopes", "created_at", "expires_at", "last_used_at"]
    _show(rows, [*columns, "revoked_at"] if revoked else columns, form, empty="there are no keys")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[Scope] | None, typer.Option("--scope", help="May be repeated. Default: ingest.")] = None,
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
    """
    body: dict[str, object] = {
        "name": name,
        "scopes": [str(s) for s in scope or [Scope.INGEST]],
        "quota": {"records_per_second": records_per_second, "bytes_per_second": bytes_per_second},
        "shared": shared,
    }
    if expires is not None:
        body["expires_at"] = rfc3339(datetime.now(UTC) + span(expires, "--expires"))
    with _person(context, api_key, api_url) as api:
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
    with _person(context, api_key, api_url) as api:
        api.request("DELETE", f"/api/v1/keys/{quote(key_id, safe='')}")
    output.write(f"key {key_id} is revoked")


@users.command("list")
def list_users(
    form: Output = Format.TABLE, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None
) -> None:
    """List accounts.

    Example: logstream users list -o ndjson
    """
    with _person(context, api_key, api_url) as api:
        rows = _rows(api.get("/api/v1/users"), "users")
    _show(rows, ["email", "role", "created_at", "id"], form, empty="there are no accounts")


@users.command("create")
def create_user(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    role: Annotated[Role, typer.Option("--role", help="viewer reads, member sends too, admin does all.")] = Role.MEMBER,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Make an account with a password that is shown this once.

    Example: logstream users create ada@example.com --role viewer
    """
    with _person(context, api_key, api_url) as api:
        made = api.request("POST", "/api/v1/users", body={"email": email, "role": str(role)})
    _password(made, f"{made['user']['email']} ({made['user']['role']})", form)


@users.command("reset")
def reset_user(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Give an account a new password, shown this once; its sessions end.

    Example: logstream users reset ada@example.com
    """
    with _person(context, api_key, api_url) as api:
        made = api.request("POST", f"/api/v1/users/{_user_id(api, user)}/password", body={})
    _password(made, user, form)


@users.command("role")
def change_role(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    role: Annotated[Role, typer.Argument(help="The new role.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Change what an account may do, at once.

    Example: logstream users role ada@example.com admin
    """
    with _person(context, api_key, api_url) as api:
        changed = api.request("PATCH", f"/api/v1/users/{_user_id(api, user)}", body={"role": str(role)})
    output.write(f"{changed['email']} is {changed['role']} now")


@users.command("delete")
def delete_user(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Remove an account; its sessions end and its keys are revoked.

    Example: logstream users delete ada@example.com
    """
    with _person(context, api_key, api_url) as api:
        api.request("DELETE", f"/api/v1/users/{_user_id(api, user)}")
    output.write(f"{user} is removed")


def _user_id(api: Api, user: str) -> str:
    if "@" not in user:
        return quote(user, safe="")
    for row in _rows(api.get("/api/v1/users"), "users"):
        if row["email"].casefold() == user.casefold():
            return str(row["id"])
    raise Failure(f"there is no account {user}; see: logstream users list")


def _password(made: Mapping[str, Any], who: str, form: Format) -> None:
    if form is not Format.TABLE:
        output.write(output.to_json(made))
        return
    output.write(made["password"])
    output.say(f"this is the password of {who}; it is not shown again")


@deadletters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")] = 20,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List accepted records that the store refused, each with the reason.

    Example: logstream deadletters list
    """
    with _person(context, api_key, api_url) as api:
        rows = _rows(api.get("/api/v1/deadletters", {"limit": limit}), "deadletters")
    columns = [c for c in ("id", "reason", "service", "message", "key_id", "received_at") if any(c in r for r in rows)]
    _show(rows, columns, form, empty="there are no dead letters")


@deadletters.command("show")
def show_letter(
    letter_id: Annotated[str, typer.Argument(help="As `deadletters list` shows it.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show one dead letter whole, as JSON.

    Example: logstream deadletters show 17
    """
    with _person(context, api_key, api_url) as api:
        output.write(output.to_json(api.get(f"/api/v1/deadletters/{quote(letter_id, safe='')}")))


def ledger(
    form: Output = Format.TABLE, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None
) -> None:
    """Show where every accepted record is: accepted = stored + deduplicated + dead-lettered + in flight.

    Example: logstream ledger
    """
    with Api(api_target(context, api_key, api_url)) as api:
        answer = api.get("/api/v1/ledger")
    rows = _rows(answer, next(iter({"entries", "ledger", "keys"} & set(answer)), "entries"))
    columns = [c for c in ("stream", "key_id") if any(c in r for r in rows)]
    columns += ["accepted", "stored", "deduplicated", "dead_lettered", "in_flight"]
    _show(rows, columns, form, empty="nothing was accepted yet")
