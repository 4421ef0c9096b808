"""`logstream verify`: proof that the books balance."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from logstream.cli import output
from logstream.cli.asking import Stream
from logstream.cli.client import Api, refusal, unreachable
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, api_target

if TYPE_CHECKING:
    from rich.progress import Progress

_TERMS = (
    ("accepted", "lines in the records that the log has"),
    ("stored", "in ClickHouse, each once"),
    ("deduplicated", "repeats of an Idempotency-Key"),
    ("dead_lettered", "dead letters"),
    ("in_flight", "waited when the count began"),
    ("expired", "older than lines are kept"),
    ("letters_gone", "not stored, of a time whose dead letters are gone"),
    ("lost", "accepted, and nowhere"),
    ("doubled", "there more than once"),
    ("stray", "stored without having been accepted"),
    ("ledger", "by which the ledger is wrong"),
)
_SILENCE_SECONDS = 900.0


def verify(
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Prove that the books balance.

    Every accepted line is stored once, a dead letter, a repeat, or in flight.

    Reads every record that the log still has, looks for its rows in ClickHouse and among the dead letters, and holds
    the ledger against what was counted. It may run while everything is at work. Status 0: the books balance; 1: they
    do not, or it could not be told.

    Examples:

      logstream verify

      logstream verify --stream payments --output json
    """
    with Api(api_target(context, api_key, api_url), person=True, timeout=_SILENCE_SECONDS) as api:
        found = _ask(api, stream)
    if form is Format.TABLE:
        _show(found)
    else:
        output.show([found], tuple(found), form, empty="")
    if not found["balanced"]:
        raise typer.Exit(1)


def _ask(api: Api, stream: str | None) -> dict[str, Any]:
    import httpx

    params = {"stream": stream} if stream else None
    bar, task = _bar()
    try:
        with api.http.stream("POST", "/api/v1/ledger/verify", params=params, headers=api.headers) as response:
            if not response.is_success:
                response.read()
                raise refusal(response, "API")
            for line in response.iter_lines():
                told = json.loads(line)
                if "error" in told:
                    raise Failure(f"the books could not be verified: {told['error']['message']}")
                if "verification" in told:
                    return dict(told["verification"])
                if bar is not None:
                    bar.update(task, completed=told["records"], total=told["of"] or None)
    except httpx.TransportError as error:
        raise Failure(unreachable("API", api.target.api_url, error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("the API's answer cannot be read; is this the LogStream API?") from error
    finally:
        if bar is not None:
            bar.stop()
    raise Failure("the answer broke off before its end; try again")


def _bar() -> "tuple[Progress | None, Any]":
    """On standard error, where somebody looks."""
    if not sys.stderr.isatty():
        return None, None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    bar.start()
    return bar, bar.add_task("records", total=None)


def _show(found: dict[str, Any]) -> None:
    rows = [
        {"lines": found[term], "term": term.replace("_", " "), "meaning": meaning}
        for term, meaning in _TERMS
        if found[term] or term in ("accepted", "stored", "lost", "doubled")
    ]
    output.show(rows, ("term", "lines", "meaning"), Format.TABLE, empty="")
    for problem in found["problems"]:
        where = f"partition {problem['partition']}, offset {problem['offset']}: " if problem["offset"] >= 0 else ""
        output.write(f"{problem['kind']} {problem['rows']}: {where}{problem['detail']}")
    scope = "all there ever was" if found["complete"] else f"received since {found['start']}"
    verdict = "the books balance" if found["balanced"] else "THE BOOKS DO NOT BALANCE"
    output.write(f"{verdict}: {found['records']:,} records of {found['partitions']} partitions, {scope}")
