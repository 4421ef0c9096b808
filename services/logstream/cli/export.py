"""`logstream export`: every log that is asked for, as a file."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from logstream.cli import output
from logstream.cli.asking import From, Params, Since, Stream, To, Words, nothing, question
from logstream.cli.client import Api, refusal, unreachable
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Levels, Services
from logstream.cli.part import Sink, StdoutSink, part_file
from logstream.cli.reading import poll, query_id, reader

if TYPE_CHECKING:
    import rich.progress


class FileFormat(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


class Order(StrEnum):
    ANY = "any"
    ASC = "asc"
    DESC = "desc"


_ENDINGS = {
    ".ndjson": FileFormat.NDJSON, ".jsonl": FileFormat.NDJSON, ".json": FileFormat.NDJSON, ".csv": FileFormat.CSV,
    ".parquet": FileFormat.PARQUET, ".pq": FileFormat.PARQUET,
}  # fmt: skip


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What to write; - is standard output.")],
    words: Words = None,
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="Default: what FILE ends in, else ndjson.", show_default=False)
    ] = None,
    order: Annotated[
        Order, typer.Option("--order", help="Oldest (asc) or newest (desc) first; any: as stored, the fastest.")
    ] = Order.ANY,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Write all logs that match to a file.

    There is no limit. The format is NDJSON, CSV or Parquet; the first two also compressed, as FILE.gz.

    What is written is called FILE.part until all of it is there. When the export breaks off, the exit status is 1
    and nothing is left behind; on standard output it may be incomplete then.

    Examples:

      logstream export errors.ndjson 'level>=error' --since 24h

      logstream export all.parquet --since all

      logstream export payment.csv.gz 'service:payment' --from 2026-01-01 --to 2026-02-01 --order asc

      logstream export - 'user_id:123' --since 7d | jq .message
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    chosen = form or _ENDINGS.get(Path(file.removesuffix(".gz")).suffix.lower(), FileFormat.NDJSON)
    compressed = file != "-" and file.lower().endswith(".gz")
    if chosen is FileFormat.PARQUET and compressed:
        raise Failure("a Parquet file is compressed inside: leave out .gz", status=2)
    if chosen is FileFormat.PARQUET and file == "-" and output.in_terminal():
        raise Failure("Parquet is nothing for a terminal: name a file, or redirect standard output", status=2)
    asked: Params = {**params, "format": chosen.value, "order": order.value}
    began = time.monotonic()
    totals = _Totals()
    with reader(context, api_key, api_url) as api:
        if file == "-":
            _export(api, asked, StdoutSink(), totals, compressed=False, quiet=quiet or output.in_terminal())
        else:
            with part_file(Path(file), replace=force) as sink:
                _export(api, asked, sink, totals, compressed=compressed, quiet=quiet)
    if not quiet:
        _summarise(totals, time.monotonic() - began, file, params)


@dataclass(slots=True)
class _Totals:
    """size: bytes written. logs: None where they cannot be counted on the way."""

    size: int = 0
    logs: int | None = None


def _export(api: Api, asked: Params, sink: Sink, totals: _Totals, *, compressed: bool, quiet: bool) -> None:
    import httpx

    local = "identity" in api.http.headers.get("Accept-Encoding", "")
    name = query_id()
    headers = {
        **api.headers, "X-Query-Id": name, "Accept-Encoding": "gzip" if compressed or not local else "identity",
    }  # fmt: skip
    begun = False
    try:
        with api.http.stream("GET", "/api/v1/export", params=asked, headers=headers) as response:
            if not response.is_success:
                response.read()
                raise refusal(response, "API")
            begun = True
            raw = compressed and response.headers.get("Content-Encoding") == "gzip"
            if compressed and not raw:
                raise Failure("the API does not compress this export: leave out .gz")
            countable = asked["format"] == FileFormat.NDJSON and not raw
            totals.logs = 0 if countable else None
            with _shown(api, name, quiet=quiet) as shown:
                for piece in response.iter_raw() if raw else response.iter_bytes():
                    sink.write(piece)
                    totals.size += len(piece)
                    if totals.logs is not None:
                        totals.logs += piece.count(b"\n")
                    shown(totals)
    except httpx.RequestError as error:
        if not begun:
            raise Failure(unreachable("API", api.target.api_url, error)) from error
        reason = "the server ended it early" if isinstance(error, httpx.RemoteProtocolError) else str(error)
        raise Failure(
            f"the export broke off after {_size(totals.size)}: {reason or type(error).__name__}; "
            + ("what was written is not all" if isinstance(sink, StdoutSink) else "no file was kept")
            + "; see the server's log, and try again, perhaps with a shorter period"
        ) from error


class _Show(Protocol):
    def __call__(self, totals: _Totals) -> None: ...


@contextlib.contextmanager
def _shown(api: Api, name: str, *, quiet: bool) -> Iterator[_Show]:
    """Bytes, logs and rate on standard error, when somebody looks, and how far the store is."""
    if quiet or not sys.stderr.isatty():
        yield lambda totals: None
        return
    over = Event()
    began = time.monotonic()
    with _bar() as bar:
        task = bar.add_task("export", total=None, size="", logs="", rate="")

        def far(read: dict[str, Any]) -> None:
            bar.update(task, total=read["rows_total"], completed=read["rows_read"])

        def show(totals: _Totals) -> None:
            passed = max(time.monotonic() - began, 0.001)
            logs = "" if totals.logs is None else f"{totals.logs:,} logs"
            rate = f"{_size(totals.size / passed)}/s" if totals.logs is None else f"{totals.logs / passed:,.0f} logs/s"
            bar.update(task, size=_size(totals.size), logs=logs, rate=rate)

        watcher = Thread(target=poll, args=(api, name, over, far), daemon=True)
        watcher.start()
        try:
            yield show
        finally:
            over.set()
            watcher.join(3)


def _bar() -> "rich.progress.Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(24), TaskProgressColumn(), TextColumn("{task.fields[size]}"), TextColumn("{task.fields[logs]}"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _summarise(totals: _Totals, seconds: float, file: str, params: Params) -> None:
    if totals.logs == 0 or not totals.size:
        output.say(nothing(params) + ("" if file == "-" else f"; {file} is empty"))
        return
    logs = "" if totals.logs is None else f"{totals.logs:,} logs, "
    rate = totals.size / max(seconds, 0.001)
    where = "" if file == "-" else f" are in {file}"
    output.say(f"{logs}{_size(totals.size)}{where} ({seconds:.1f} s, {_size(rate)}/s)")
