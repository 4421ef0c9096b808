"""`logstream deadletters`: accepted records that the store refused; look at them, replay them, discard them."""

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from logstream.cli import output
from logstream.cli.asking import From, Stream, To
from logstream.cli.client import Api, person, rows_of
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output, Services
from logstream.cli.times import period

PAGE = 100
_AT_ONCE = 500
_SHOWN = 20
_REASON_CHARACTERS = 160
_FRAME = re.compile(r".*?DB::Exception: | \([0-9a-f-]{36}\)|\. \([A-Z_]+\)( \(for url .*\))?$", re.DOTALL)
_FIELDS = ("timestamp", "service", "level", "message", "trace_id", "span_id")

deadletters = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: list, show, replay, discard. Accepted records that the store refused.\n\n"
    "Example: logstream deadletters list --state waiting",
)


class State(StrEnum):
    """What became of a letter."""

    WAITING = "waiting"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    EXPIRED = "expired"


_Search = Annotated[str, typer.Option("--search", help="Only with this text in message or reason.")]
_Key = Annotated[str, typer.Option("--key", help="Only those sent with the API key of this id.")]
_Code = Annotated[int | None, typer.Option("--code", help="Only with this exception code of ClickHouse.")]
_States = Annotated[list[State] | None, typer.Option("--state", help="Only in this state; may be repeated.")]
_Since = Annotated[str | None, typer.Option("--since", help="Refused no longer ago than this: 15m, 2h, 7d.")]
_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `deadletters list` shows them.")]
_All = Annotated[bool, typer.Option("--all", help="All that wait.")]
_Most = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most this many, the newest first.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
_Force = Annotated[
    bool, typer.Option("--force", help="Also where an earlier replay may have arrived: a record may then be doubled.")
]


@deadletters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")] = 20,
    search: _Search = "",
    service: Services = None,
    key: _Key = "",
    code: _Code = None,
    state: _States = None,
    since: _Since = None,
    start: From = None,
    end: To = None,
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List dead letters, newest first. Each with the reason of its refusal and what became of it.

    Examples:

      logstream deadletters list

      logstream deadletters list --state waiting --service payment --search "too large" --since 2d
    """
    asked: dict[str, str | int] = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in _filter(search, service, key, code, state, since, start, end).items()
    }
    asked |= {"stream": stream} if stream else {}
    letters: list[dict[str, Any]] = []
    with person(context, api_key, api_url) as api:
        cursor: str | None = ""
        while cursor is not None and len(letters) < limit:
            page = api.get(
                "/api/v1/deadletters",
                {**asked, "limit": min(PAGE, limit - len(letters)), **({"cursor": cursor} if cursor else {})},
            )
            letters += rows_of(page, "deadletters")
            cursor = page.get("next")
    if form is Format.TABLE:
        letters = [_row(letter) for letter in letters]
    columns = ("id", "state", "received_at", "service", "level", "message", "reason", "attempt")
    output.show(
        letters, columns, form, empty="there are no such dead letters" if asked else "there are no dead letters"
    )


@deadletters.command("show")
def show_letter(
    letter_id: Annotated[str, typer.Argument(help="As `deadletters list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the bytes that were refused, as they are.")] = False,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show one dead letter whole, as JSON. With the bytes that were refused (base64).

    Examples:

      logstream deadletters show 0-17

      logstream deadletters show 0-17 --raw > letter.bin
    """
    path = f"/api/v1/deadletters/{quote(letter_id, safe='')}"
    with person(context, api_key, api_url) as api:
        letter = api.get(path, {"stream": stream} if stream else None)
    if not raw:
        output.write(output.to_json(letter))
        return
    import base64

    sys.stdout.buffer.write(base64.b64decode(letter.get("raw") or ""))
    sys.stdout.buffer.flush()


@deadletters.command("replay")
def replay_letters(
    ids: _Ids = None,
    everything: _All = False,
    search: _Search = "",
    service: Services = None,
    key: _Key = "",
    code: _Code = None,
    since: _Since = None,
    start: From = None,
    end: To = None,
    limit: _Most = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="FIELD=VALUE: replace timestamp, service, level, message, trace_id, span_id or metadata.KEY of the "
            "records; may be repeated.",
        ),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Remove this metadata key; may be repeated.")] = None,
    force: _Force = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Send dead letters again, each exactly once. After what refused them was put right.

    A record keeps its time and its key. One that is refused again is a new letter. A replay that broke off is
    finished by the next one.

    Examples:

      logstream deadletters replay 0-17 0-18

      logstream deadletters replay --service payment --since 2d --dry-run

      logstream deadletters replay --all --drop blob --set level=error --yes
    """
    wanted = _wanted(ids, everything, limit, _filter(search, service, key, code, None, since, start, end))
    wanted |= {"force": force, "set": _changes(changes or ()), "drop_metadata": drop or []}
    with person(context, api_key, api_url) as api:
        _dispose(api, "replay", wanted, stream, limit, dry_run=dry_run, yes=yes, form=form)


@deadletters.command("discard")
def discard_letters(
    ids: _Ids = None,
    everything: _All = False,
    search: _Search = "",
    service: Services = None,
    key: _Key = "",
    code: _Code = None,
    since: _Since = None,
    start: From = None,
    end: To = None,
    limit: _Most = None,
    force: _Force = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    stream: Stream = None,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Settle dead letters that nobody wants.

    They are never replayed, and stay to be seen until they expire.

    Examples:

      logstream deadletters discard 0-17

      logstream deadletters discard --search "bad deploy" --since 1h --yes
    """
    wanted = _wanted(ids, everything, limit, _filter(search, service, key, code, None, since, start, end))
    wanted["force"] = force
    with person(context, api_key, api_url) as api:
        _dispose(api, "discard", wanted, stream, limit, dry_run=dry_run, yes=yes, form=form)


def _filter(
    search: str,
    service: Sequence[str] | None,
    key: str,
    code: int | None,
    state: Sequence[State] | None,
    since: str | None,
    start: str | None,
    end: str | None,
) -> dict[str, Any]:
    """What was given, as the API names it."""
    found = {
        "search": search, "service": list(service or ()), "key": key, "code": code,
        "state": [str(name) for name in state or ()],
    }  # fmt: skip
    given = {name: value for name, value in found.items() if value not in ("", None, [])}
    return {**given, **period(since, start, end, datetime.now(UTC))}


def _wanted(
    ids: Sequence[str] | None, everything: bool, limit: int | None, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """The selection of a request. Raises Failure unless it is clear which letters are meant."""
    if bool(ids) + bool(everything or wanted) != 1:
        raise Failure("give ids, or options that say which letters, or --all", status=2)
    if ids and limit is not None:
        raise Failure("--limit goes with options that say which letters, not with ids", status=2)
    return {"ids": list(ids)} if ids else {"filter": dict(wanted)}


def _changes(given: Sequence[str]) -> dict[str, Any]:
    """Raises Failure."""
    fields: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not (name in _FIELDS or (name.startswith("metadata.") and len(name) > 9)):
            raise Failure(
                f"--set must be FIELD=VALUE, FIELD one of {', '.join(_FIELDS)}, metadata.KEY: '{text}'", status=2
            )
        if name in _FIELDS:
            fields[name] = value
        else:
            fields.setdefault("metadata", {})[name.removeprefix("metadata.")] = value
    return fields


def _dispose(
    api: Api,
    what: str,
    wanted: Mapping[str, Any],
    stream: str | None,
    limit: int | None,
    *,
    dry_run: bool,
    yes: bool,
    form: Format,
) -> None:
    """Ask, work off the letters a page at a time, and say what became of them; status 1 unless all were done."""
    path = f"/api/v1/deadletters/{what}" + (f"?{urlencode({'stream': stream})}" if stream else "")
    if not (yes or dry_run):
        _ask(api, path, what, wanted, limit)
    results: list[dict[str, Any]] = []
    with _progress(what) as advance:
        for answer in _pages(api, path, {**wanted, "dry_run": dry_run}, limit):
            records = answer.get("records") or {}
            page = rows_of(answer, "results")
            results += [{**row, **({"record": records[row["id"]]} if row["id"] in records else {})} for row in page]
            advance(len(page))
    _report(results, what, dry_run=dry_run, form=form)
    if any(row["outcome"] not in ("replayed", "discarded") for row in results):
        raise typer.Exit(1)


def _pages(api: Api, path: str, body: Mapping[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    """The answers to a selection of any size."""
    ids: list[str] = body.get("ids") or []
    if ids:
        for start in range(0, len(ids), _AT_ONCE):
            yield api.request("POST", path, body={**body, "ids": ids[start : start + _AT_ONCE]})
        return
    done, cursor = 0, None
    while limit is None or done < limit:
        size = _AT_ONCE if limit is None else min(_AT_ONCE, limit - done)
        answer = api.request("POST", path, body={**body, "limit": size, "cursor": cursor})
        done += len(rows_of(answer, "results"))
        cursor = answer.get("next")
        yield answer
        if cursor is None:
            return


def _ask(api: Api, path: str, what: str, wanted: Mapping[str, Any], limit: int | None) -> None:
    """Ask a person, with the number of letters. Raises Failure where nobody can be asked, Exit."""
    if not sys.stdin.isatty():
        raise Failure(f"nobody can be asked here: say --yes to {what} them, or --dry-run to see what would be done")
    answer = next(_pages(api, path, {**wanted, "dry_run": True}, limit), {})
    count = len(answer.get("results") or ())
    if not count and not answer.get("next"):
        output.say("there are no such dead letters")
        raise typer.Exit
    more = "" if not answer.get("next") or count == limit else " and all older ones that match"
    if not typer.confirm(f"{what} {count:,} dead letter{'' if count == 1 else 's'}{more}?", err=True):
        raise typer.Exit(130)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Counts letters on standard error while a person looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.completed:,.0f} letters")
    console = Console(stderr=True)
    with Progress(SpinnerColumn(), TextColumn(what), text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.advance(task, count)


def _report(results: Sequence[Mapping[str, Any]], what: str, *, dry_run: bool, form: Format) -> None:
    if form is not Format.TABLE:
        output.show(results, (), form, empty="")
        return
    rows = [_outcome(row) for row in results if dry_run or row["outcome"] not in ("replayed", "discarded")]
    if rows:
        output.show(rows[:_SHOWN], ("id", "outcome", "service", "level", "message", "detail"), form, empty="")
    if len(rows) > _SHOWN:
        output.say(f"{len(rows) - _SHOWN:,} more; -o ndjson shows all")
    counts = Counter(str(row["outcome"]) for row in results)
    said = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in counts.items())
    output.say((f"would {what}: " if dry_run else "") + (said or "there are no such dead letters"))


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    record = row.get("record") or {}
    return {
        **{name: row.get(name) for name in ("id", "outcome", "detail")},
        **{name: record.get(name) for name in ("service", "level")},
        "message": _short(str(record.get("message", "")), 80),
    }


def _row(letter: Mapping[str, Any]) -> dict[str, Any]:
    """A letter as a row of the table: what it was, and the gist of why it died."""
    record = letter.get("record") or {}
    return {
        **{name: record.get(name) for name in ("service", "level")},
        **{name: letter.get(name) for name in ("id", "state", "received_at")},
        "message": _short(str(record.get("message", "")), 80),
        "reason": _short(_FRAME.sub("", str(letter.get("reason", ""))), _REASON_CHARACTERS),
        "attempt": letter.get("attempt") if letter.get("attempt", 1) > 1 else None,
    }


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
