"""`logstream users`: accounts, for admins."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import Api, person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output

users = typer.Typer(
    no_args_is_help=True,
    help="People: list, create, reset, role, delete. For admins.\n\n"
    "Example: logstream users create ada@example.com --role viewer",
)


class Role(StrEnum):
    """What a person may do."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


@users.command("list")
def list_users(
    form: Output = Format.TABLE, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None
) -> None:
    """List accounts.

    Example: logstream users list -o ndjson
    """
    with person(context, api_key, api_url) as api:
        rows = rows_of(api.get("/api/v1/users"), "users")
    output.show(rows, ["email", "role", "created_at", "id"], form, empty="there are no accounts")


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
    with person(context, api_key, api_url) as api:
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
    """Give an account a new password, shown this once. Its sessions end.

    Example: logstream users reset ada@example.com
    """
    with person(context, api_key, api_url) as api:
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
    with person(context, api_key, api_url) as api:
        changed = api.request("PATCH", f"/api/v1/users/{_user_id(api, user)}", body={"role": str(role)})
    output.write(f"{changed['email']} is {changed['role']} now")


@users.command("delete")
def delete_user(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Remove an account. Its sessions end and its keys are revoked.

    Example: logstream users delete ada@example.com
    """
    with person(context, api_key, api_url) as api:
        api.request("DELETE", f"/api/v1/users/{_user_id(api, user)}")
    output.write(f"{user} is removed")


def _user_id(api: Api, user: str) -> str:
    if "@" not in user:
        return quote(user, safe="")
    for row in rows_of(api.get("/api/v1/users"), "users"):
        if row["email"].casefold() == user.casefold():
            return str(row["id"])
    raise Failure(f"there is no account {user}; see: logstream users list")


def _password(made: Mapping[str, Any], who: str, form: Format) -> None:
    if form is not Format.TABLE:
        output.write(output.to_json(made))
        return
    output.write(made["password"])
    output.say(f"this is the password of {who}; it is not shown again")
