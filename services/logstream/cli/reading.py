"""Reads of the API that may take a while: how far they are is shown, and Ctrl-C ends them in the store, too."""

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from logstream.cli.client import Api, open_http
from logstream.cli.options import api_target

if TYPE_CHECKING:
    import httpx
    import rich.progress

LONGEST = 600.0
"""Seconds without an answer after which the API counts as dead; its own limit is far lower."""
PATIENCE = 1.0
"""Seconds that a person waits without being told anything."""
_INTERVAL = 0.4


def reader(context: str | None, api_key: str | None, api_url: str | None) -> Api:
    """The API for reading logs."""
    return Api(api_target(context, api_key, api_url), timeout=LONGEST)


def read(api: Api, path: str, params: Mapping[str, str | int]) -> Any:
    """The decoded answer. After a second, how far it is stands on standard error, where somebody looks.

    Being interrupted closes the connection, which ends the read in the store. Raises Failure.
    """
    with watched(api) as headers:
        return api.request("GET", path, params=params, headers=headers)


@contextlib.contextmanager
def watched(api: Api) -> Iterator[dict[str, str]]:
    """Around a request: gives the headers that name it, and shows how far it is."""
    name = query_id()
    headers = {"X-Query-Id": name}
    if not sys.stderr.isatty():
        yield headers
        return
    over = Event()
    watcher = Thread(target=_watch, args=(api, name, over), daemon=True)
    watcher.start()
    try:
        yield headers
    finally:
        over.set()
        # The line must be gone before results are written.
        watcher.join(3)


def query_id() -> str:
    """A new name for a read."""
    return f"cli-{secrets.token_hex(8)}"


def _watch(api: Api, name: str, over: Event) -> None:
    if over.wait(PATIENCE):
        return
    with _bar() as bar:
        task = bar.add_task("reading", total=None, rows="", passed="")

        def show(read: dict[str, Any]) -> None:
            bar.update(
                task, description="reading" if read["state"] == "running" else "waiting for its turn",
                total=read["rows_total"], completed=read["rows_read"], passed=f"{read['elapsed_seconds']:.0f} s",
                rows=f"{read['rows_read']:,} rows" if read["rows_read"] else "",
            )  # fmt: skip

        poll(api, name, over, show)


def poll(api: Api, name: str, over: Event, show: Callable[[dict[str, Any]], None]) -> None:
    """Give `show` what the server says about a read, now and then until `over`."""
    with open_http(api.target.api_url, timeout=2.0) as http:
        while True:
            found = state(http, api.headers, name)
            if found is not None:
                show(found)
            if over.wait(_INTERVAL):
                return


def state(http: "httpx.Client", headers: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """What the server says about the read of this name; None when it says nothing, which is no failure of the read."""
    import httpx

    try:
        answer = http.get("/api/v1/queries", headers=headers)
        found: list[dict[str, Any]] = answer.json()["queries"] if answer.is_success else []
        return next(
            (
                read
                for read in found
                if read["id"] == name and {"state", "rows_total", "rows_read", "elapsed_seconds"} <= read.keys()
            ),
            None,
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def _bar() -> "rich.progress.Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"), TextColumn("{task.fields[passed]}"), TextColumn("Ctrl-C cancels"),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
