"""`logstream queries`: reads under way, and ending them."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from logstream.cli import output
from logstream.cli.client import Api, person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target

queries = typer.Typer(
    no_args_is_help=True, help="Reads under way: list, cancel.\n\nExample: logstream queries list --all"
)

_QUERIES = "/api/v1/queries"
_COLUMNS = ("id", "kind", "caller", "stream", "state", "seconds", "rows_read", "done", "memory")


@queries.command("list")
def list_queries(
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's, for admins.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List the reads that wait or run. Those of the key that reads, with --all everybody's.

    Examples:

      logstream queries list

      logstream queries list --all -o json
    """
    if everybody:
        with person(context, api_key, api_url) as api:
            found = rows_of(api.get(_QUERIES, {"all": "true"}), "queries")
    else:
        with Api(api_target(context, api_key, api_url)) as api:
            found = rows_of(api.get(_QUERIES), "queries")
    rows = found if form is not Format.TABLE else list(map(_row, found))
    output.show(rows, _COLUMNS, form, empty="nothing is being read" + ("" if everybody else " with this key"))


def _row(read: Mapping[str, Any]) -> dict[str, Any]:
    percent, memory = read["percent"], read["memory"]
    return {
        **read,
        "seconds": round(read["elapsed_seconds"], 1),
        "done": f"{percent:.0f} %" if percent is not None else None,
        "memory": f"{memory / 2**20:,.0f} MiB" if memory else None,
    }


@queries.command("cancel")
def cancel_query(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Of a read; `logstream queries list` shows it.")],
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """End a read, in the store, too; whoever waits for it is told. Yours, or for admins anybody's.

    Example: logstream queries cancel cli-5f0c9a1be2d34470
    """
    place = f"{_QUERIES}/{quote(identity, safe='')}"
    try:
        with Api(api_target(context, api_key, api_url)) as api:
            api.request("DELETE", place)
    except Failure as failure:
        if failure.code not in {"not_found", "unauthenticated"}:
            raise
        # Not one of the key's; who is logged in may see more.
        try:
            with person(context, api_key, api_url) as api:
                api.request("DELETE", place)
        except Failure as second:
            if second.code != "not_found":
                raise
            raise Failure(f"no read '{identity}' is running; see: logstream queries list") from second
    output.write(f"{identity} is cancelled")
