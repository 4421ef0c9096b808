"""`logstream login`, `logout` and `context`: who we are, and where."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from logstream.cli import config, output
from logstream.cli.client import Api
from logstream.cli.config import Context, Target
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, Format, IngestUrl, Output

context = typer.Typer(
    no_args_is_help=True,
    help="Named contexts: which platform, and as whom.\n\nExample: logstream context use prod",
)


def login(
    email: Annotated[str | None, typer.Argument(help="E-mail address; the password is asked for.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="first-login.json of a new platform: takes all from it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--context", help="Name of the context. Default: the current, or local.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    api_key: ApiKey = None,
    ingest_url: IngestUrl = None,
    api_url: ApiUrl = None,
) -> None:
    """Log in, with e-mail and password or with a key. It becomes the current context.

    Examples:

      logstream login --file logstream-data/first-login.json

      logstream login ada@example.com --api-url https://logs.example.com

      logstream login --api-key ls_… --context prod --ingest-url https://in.example.com --api-url https://logs.example.com
    """
    found = config.load()
    name = name or found.current or "local"
    password: str | None = None
    key = api_key or ""
    if file is not None:
        first = _first_login(file)
        email, password, key = email or first["admin"]["email"], first["admin"]["password"], key or first["api_key"]
        ingest_url, api_url = ingest_url or first.get("ingest_url"), api_url or first.get("api_url")
    target = config.resolve(ingest_url=ingest_url, api_url=api_url, context=name if name in found.contexts else None)
    session = ""
    if email is not None:
        if password is None:
            password = read_password(password_stdin)
        session, who = open_session(target, email, password)
    elif key:
        who = _me(target, key)
    else:
        raise Failure("give an e-mail address, --api-key or --file (see: logstream login --help)", status=2)
    keep(found, name, target, api_key=key, session=session)
    output.write(f"logged in as {who}; context '{name}' is current")
    if file is not None:
        output.say(f"{file} is no longer needed: delete it")


def logout(
    name: Annotated[str | None, typer.Option("--context", help="Default: the current one.")] = None,
) -> None:
    """End the session of a context; its API key stays.

    Example: logstream logout
    """
    found = config.load()
    target = config.resolve(context=name)
    if not target.session:
        raise Failure(f"context '{target.context}' has no session")
    with Api(replace(target, api_key="", explicit_key=False)) as api:
        try:
            api.request("POST", "/api/v1/logout")
        except Failure as failure:
            output.say(f"the server did not end the session ({failure.message})")
    config.save(config.put(found, target.context, replace(found.contexts[target.context], session=""), use=False))
    output.write("logged out")


def _first_login(file: Path) -> dict[str, Any]:
    try:
        first: dict[str, Any] = json.loads(file.read_text())
        _ = first["admin"]["email"], first["admin"]["password"], first["api_key"]
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{file} is not a first-login.json of LogStream") from error
    return first


def keep(found: config.Config, name: str, target: Target, *, api_key: str = "", session: str = "") -> None:
    """Write the context `name` and make it the current one; what is not given stays, at the same address."""
    before = found.contexts.get(name, Context())
    same_place = before.api_url in {"", target.api_url}
    made = Context(
        ingest_url=target.ingest_url,
        api_url=target.api_url,
        api_key=api_key or (before.api_key if same_place else ""),
        session=session or (before.session if same_place else ""),
    )
    config.save(config.put(found, name, made, use=True))


def read_password(from_stdin: bool, prompt: str = "Password: ") -> str:
    """A line of standard input, or what is typed, unseen."""
    if from_stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    return getpass.getpass(prompt)


def open_session(target: Target, email: str, password: str, *, path: str = "/api/v1/login") -> tuple[str, str]:
    """(session token, who it is for a person). Raises Failure."""
    with Api(replace(target, api_key="", session="", explicit_key=False)) as api:
        answer = api.request("POST", path, body={"email": email, "password": password})
    return answer["token"], f"{answer['user']['email']} ({answer['user']['role']})"


def _me(target: Target, key: str) -> str:
    with Api(replace(target, api_key=key, explicit_key=True)) as api:
        me = api.get("/api/v1/me")
    return f"{me['kind']} '{me['name']}' ({', '.join(me['scopes'])})"


@context.command("list")
def list_contexts(form: Output = Format.TABLE) -> None:
    """List contexts.

    Example: logstream context list
    """
    found = config.load()
    rows = [
        {
            "current": name == found.current,
            "name": name,
            "ingest_url": c.ingest_url,
            "api_url": c.api_url,
            "api_key": _masked(c.api_key),
            "logged_in": bool(c.session),
        }
        for name, c in sorted(found.contexts.items())
    ]
    output.show(
        rows, ("current", "name", "ingest_url", "api_url", "api_key", "logged_in"), form,
        empty="there are no contexts; make one with: logstream login",
    )  # fmt: skip


@context.command("use")
def use_context(name: Annotated[str, typer.Argument(help="Name of the context.")]) -> None:
    """Make a context the current one.

    Example: logstream context use prod
    """
    found = config.load()
    _known(found, name)
    config.save(config.Config(name, found.contexts))
    output.write(f"context '{name}' is current")


@context.command("show")
def show_context(
    name: Annotated[str | None, typer.Argument(help="Default: what commands would use now.")] = None,
) -> None:
    """Show addresses and the key's name, never a secret.

    Example: logstream context show
    """
    target = config.resolve(context=name)
    output.write(f"context     {target.context or '(none)'}")
    output.write(f"ingest_url  {target.ingest_url}")
    output.write(f"api_url     {target.api_url}")
    output.write(f"api_key     {_masked(target.api_key) or '-'}")
    output.write(f"logged in   {'yes' if target.session else 'no'}")
    output.write(f"file        {config.path()}")


@context.command("remove")
def remove_context(name: Annotated[str, typer.Argument(help="Name of the context.")]) -> None:
    """Forget a context with its key and session.

    Example: logstream context remove prod
    """
    found = config.load()
    _known(found, name)
    rest = {n: c for n, c in found.contexts.items() if n != name}
    config.save(config.Config("" if found.current == name else found.current, rest))
    output.write(f"context '{name}' is removed")


def _known(found: config.Config, name: str) -> None:
    if name not in found.contexts:
        raise Failure(
            f"there is no context '{name}' (there are: {', '.join(sorted(found.contexts)) or 'none'})", status=2
        )


def _masked(key: str) -> str:
    """The part of a key that may be shown: prefix and id."""
    return "_".join(key.split("_")[:2]) + "_…" if key.count("_") >= 2 else ("…" if key else "")
