"""`logstream signup`, `password`: one's own account."""

import sys
from typing import Annotated

import typer

from logstream.cli import config, login, output
from logstream.cli.client import person
from logstream.cli.failure import Failure
from logstream.cli.options import ApiUrl, ContextName, IngestUrl

PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def signup(
    email: Annotated[str, typer.Argument(help="E-mail address; the password is asked for.")],
    name: Annotated[
        str | None, typer.Option("--context", help="Name of the context. Default: the current, or local.")
    ] = None,
    password_stdin: PasswordStdin = False,
    ingest_url: IngestUrl = None,
    api_url: ApiUrl = None,
) -> None:
    """Make an account for yourself, and log in. Where the platform lets people sign up.

    Example: logstream signup ada@example.com
    """
    found = config.load()
    name = name or found.current or "local"
    target = config.resolve(ingest_url=ingest_url, api_url=api_url, context=name if name in found.contexts else None)
    session, who = login.open_session(target, email, _new_password(password_stdin), path="/api/v1/signup")
    login.keep(found, name, target, session=session)
    output.write(f"signed up as {who}; context '{name}' is current")
    output.say("to send logs make a key: logstream keys create NAME --scope ingest --scope read")


def password(
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read two lines from standard input: the old one, the new one.")
    ] = False,
    context: ContextName = None,
    api_url: ApiUrl = None,
) -> None:
    """Change your password; your sessions elsewhere end.

    Example: logstream password
    """
    current = login.read_password(password_stdin, "Current password: ")
    new = _new_password(password_stdin)
    with person(context, None, api_url) as api:
        api.request("POST", "/api/v1/password", body={"current_password": current, "new_password": new})
    output.write("the password is changed; other sessions have ended")


def _new_password(from_stdin: bool) -> str:
    chosen = login.read_password(from_stdin, "New password: ")
    if sys.stdin.isatty() and not from_stdin and login.read_password(False, "Again: ") != chosen:
        raise Failure("the two passwords differ")
    return chosen
