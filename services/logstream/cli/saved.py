"""`logstream saved`: questions kept under a name, for oneself or for everybody."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.asking import From, Since, To
from logstream.cli.client import Api, person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, Rows
from logstream.cli.query import show_answer
from logstream.cli.reading import read
from logstream.cli.search import Found, show_lines
from logstream.cli.times import moment, period

saved = typer.Typer(
    no_args_is_help=True,
    help="Saved views: list, add, show, run, rm.\n\n"
    'Example: logstream saved add declined "service:payment declined" --since 24h --shared',
)

_VIEWS = "/api/v1/saved"
_PAGE = 1_000
_ID_LENGTH = 12

Name = Annotated[str, typer.Argument(help="The view's name, or its id.")]


@saved.command("list")
def list_views(
    stream: Annotated[str | None, typer.Option("--stream", help="Only views of this stream.")] = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List your views and the shared ones.

    Example: logstream saved list
    """
    with person(context, api_key, api_url) as api:
        views = _views(api, {"stream": stream} if stream else {})
    columns = ("name", "query", "since", "start_time", "end_time", "stream", "shared", "owner", "id")
    output.show(views, columns, form, empty="there are no saved views; make one with `logstream saved add`")


@saved.command("add")
def add_view(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    query: Annotated[list[str] | None, typer.Argument(help="The query; all of the stream's lines without one.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="How far back from now: 15m, 2h, 7d.")] = None,
    start: From = None,
    end: To = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", help="A field to show; may be repeated.")
    ] = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    shared: Annotated[bool, typer.Option("--shared", help="For every reader of the stream.")] = False,
    stream: Annotated[str, typer.Option("--stream", help="What it reads.")] = "default",
    replace: Annotated[bool, typer.Option("--replace", help="Replace your view of this name.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Save a view. The query is checked, but not run.

    Examples:

      logstream saved add declined "service:payment level>=warn declined" --since 24h --shared

      logstream saved add busiest "* | stats count() by service" --since 7d
    """
    now = datetime.now(UTC)
    body: dict[str, object] = {
        "name": name, "query": " ".join(query or ()), "since": since, "columns": column or [],
        "description": description, "shared": shared, "stream": stream,
        "start_time": moment(start, "--from", now) if start is not None else None,
        "end_time": moment(end, "--to", now) if end is not None else None,
    }  # fmt: skip
    with person(context, api_key, api_url) as api:
        mine = [view for view in _views(api, {"name": name.strip()}) if view["mine"]] if replace else []
        view = api.request("PUT", _place(mine[0]), body=body) if mine else api.request("POST", _VIEWS, body=body)
    if form is not Format.TABLE:
        output.write(output.to_json(view))
        return
    output.write(f"{view['name']} is saved; see it with: logstream saved run {view['id']}")


@saved.command("show")
def show_view(name: Name, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None) -> None:
    """Show one view whole, as JSON.

    Example: logstream saved show declined
    """
    with person(context, api_key, api_url) as api:
        output.write(output.to_json(_find(api, name)))


@saved.command("rm")
def remove_view(name: Name, context: ContextName = None, api_key: ApiKey = None, api_url: ApiUrl = None) -> None:
    """Delete a view of yours; for admins also a shared one.

    Example: logstream saved rm declined
    """
    with person(context, api_key, api_url) as api:
        view = _find(api, name)
        api.request("DELETE", _place(view))
    output.write(f"{view['name']} is deleted")


@saved.command("run")
def run_view(
    name: Name,
    since: Since = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many lines or rows.")] = 100,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Ask what a view asks, over its period or another one.

    Examples:

      logstream saved run declined

      logstream saved run busiest --since 30d -o json
    """
    now = datetime.now(UTC)
    with person(context, api_key, api_url) as api:
        view = _find(api, name)
        if since or start or end:
            asked = period(since, start, end, now)
        elif view["since"]:
            asked = period(view["since"], None, None, now)
        else:
            asked = {field: view[field] for field in ("start_time", "end_time") if view[field]}
        asked = {"query": view["query"], "stream": view["stream"], **asked}
        if view["has_pipes"]:
            show_answer(read(api, "/api/v1/query", {**asked, "limit": limit}), {**asked}, Rows(form.value))
        else:
            _show_lines(list(Found(api, {**asked}, limit)), view["columns"], form)


def _show_lines(entries: list[dict[str, Any]], columns: list[str], form: Format) -> None:
    """Newest last in a table, as `logstream search` has them."""
    if form is not Format.TABLE or not entries:
        output.show(entries, (), form, empty="nothing found")
    elif columns:
        output.show([_fields(entry) for entry in reversed(entries)], columns, form, empty="nothing found")
    else:
        show_lines(reversed(entries))


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line by its columns: metadata keys by themselves and as `metadata.KEY`."""
    metadata = entry.get("metadata") or {}
    return {**metadata, **{f"metadata.{key}": value for key, value in metadata.items()}, **entry}


def _views(api: Api, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """All pages."""
    views: list[dict[str, Any]] = []
    page: Mapping[str, str | int] = {**params, "limit": _PAGE}
    while True:
        answer = api.get(_VIEWS, page)
        views += rows_of(answer, "views")
        if not answer.get("next"):
            return views
        page = {**page, "cursor": answer["next"]}


def _find(api: Api, name: str) -> dict[str, Any]:
    """The view of this name, one's own first, or of this id. Raises Failure."""
    found = _views(api, {"name": name.strip()})
    found = [view for view in found if view["mine"]] or found
    if not found:
        if len(name) != _ID_LENGTH or not name.isalnum():
            raise Failure(f"there is no view '{name}'; see: logstream saved list")
        view: dict[str, Any] = api.get(f"{_VIEWS}/{quote(name, safe='')}")
        return view
    if len(found) > 1:
        raise Failure(f"'{name}' is shared by several people: give an id of {', '.join(view['id'] for view in found)}")
    return found[0]


def _place(view: Mapping[str, Any]) -> str:
    return f"{_VIEWS}/{quote(str(view['id']), safe='')}"
