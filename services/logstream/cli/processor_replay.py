"""`logstream processor`, and `logstream processor replay`: days built anew from the log."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from logstream.cli import output, processes
from logstream.cli.failure import Failure
from logstream.cli.options import Format
from logstream.cli.processes import CheckConfig, CheckConnections, Config, PrintConfig
from logstream.cli.server import need_server

if TYPE_CHECKING:
    from logstream.processor.replay import Day, Progress
    from logstream.run.settings import ProcessorProcess
    from logstream.stream import Stream

processor = typer.Typer(invoke_without_command=True)


@processor.callback(help=processes.processor.__doc__)
def run(
    context: typer.Context,
    config: Config = None,
    check_config: CheckConfig = False,
    check_connections: CheckConnections = False,
    print_config: PrintConfig = False,
) -> None:
    if context.invoked_subcommand is None:
        processes.processor(config, check_config, check_connections, print_config)


@processor.command()
def replay(
    days: Annotated[
        str, typer.Option("--days", help="2026-11-20, 2026-11-20..2026-11-22, several joined by commas. Default: all.")
    ] = "",
    stream: Annotated[str, typer.Option("--stream", help="Its name.")] = "default",
    yes: Annotated[
        bool, typer.Option("--yes", help="Build and swap. Without it, only say what would be done.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what a replay that broke off has left behind.")
    ] = False,
    config: Config = None,
    form: Annotated[
        Format, typer.Option("--output", "-o", help="Table, JSON or one JSON object a line.")
    ] = Format.TABLE,
) -> None:
    """Build days anew from the topic, and swap them in. Beside the live table, which is read meanwhile.

    A day is one of arrival, in UTC. It can be built anew when it is over, was stored to its end, and the topic still
    has all of it. It is swapped in, in one step, only when it has as many rows of every key as the ledger counted;
    repeats are dropped and dead letters left out as before. The processors go on meanwhile.

    Exit status: 1 when a day that was asked for by --days could not be swapped in.

    Examples:

      logstream processor replay

      logstream processor replay --days 2026-11-20..2026-11-22 --yes
    """
    need_server("processor")
    from logstream.errors import LogStreamError
    from logstream.processor.replay import parse_days
    from logstream.run.load import WrongSettings, load
    from logstream.run.settings import ProcessorProcess

    try:
        wanted = parse_days(days) if days else None
    except ValueError as error:
        raise Failure(f"--days cannot be read: {error}", status=2) from error
    try:
        settings = load(ProcessorProcess, environ=os.environ, path=config).settings
    except WrongSettings as error:
        raise Failure(error.problems[0], detail=error.problems[1:], status=2) from error
    try:
        with _bar() as progress:
            found = asyncio.run(_replay(settings, stream, wanted, yes=yes, restart=restart, progress=progress))
    except LogStreamError as error:
        raise Failure(error.message) from error
    _show(found, form, yes=yes)
    if yes and wanted and not all(day.swapped for day in found):
        raise Failure("not every day that was asked for was swapped in")


async def _replay(
    settings: "ProcessorProcess",
    name: str,
    days: Sequence[date] | None,
    *,
    yes: bool,
    restart: bool,
    progress: "Progress | None",
) -> "list[Day]":
    from logstream.clock import SystemClock
    from logstream.processor.replay import Replay
    from logstream.processor.window import Deduplication
    from logstream.run.dependencies import open_bus
    from logstream.storage.journal import make_journal
    from logstream.storage.store import Store

    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await Store.connect(settings.store)
        stack.push_async_callback(store.close)
        journal = make_journal(store)
        bus = await open_bus(settings, clock, journal=journal)
        stack.push_async_callback(bus.close)
        on_kafka = settings.run.bus == "kafka"
        building = Replay(
            settings.processor, bus=bus, store=store, stream=await _stream(settings, name), clock=clock,
            deduplication=Deduplication(journal, settings.kafka.idempotency_window_seconds) if on_kafka else None,
        )  # fmt: skip
        if restart:
            await building.discard()
        if not yes:
            return await building.survey(days)
        return await building.run(days, progress=progress)


async def _stream(settings: "ProcessorProcess", name: str) -> "Stream":
    """The stream called `name`, of the accounts or of the settings. Raises Failure."""
    from logstream.auth.accounts import Accounts
    from logstream.auth.gate import Gate
    from logstream.clock import SystemClock
    from logstream.run.settings import make_named

    if settings.auth is None:
        known = {entry.name: make_named(entry) for entry in settings.streams()}
    else:
        accounts = await Accounts.open(settings.auth, SystemClock())
        try:
            gate = Gate(accounts)
            await gate.refresh()
            known = {info.stream.name: info.stream for info in gate.streams()}
        finally:
            await accounts.close()
    if name not in known:
        raise Failure(f"there is no stream {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
    return known[name]


@contextmanager
def _bar() -> "Iterator[Progress | None]":
    """A progress bar on standard error, when somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.completed:,} of {task.total:,} records"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1)
        yield lambda read, total: bar.update(task, completed=read, total=total)


def _show(days: "Sequence[Day]", form: Format, *, yes: bool) -> None:
    rows = [
        {
            "day": day.day.isoformat(),
            "in_table": day.live,
            "in_ledger": day.stored,
            "rebuilt": day.rebuilt,
            "swapped": day.swapped,
            "reason": day.reason,
        }
        for day in days
    ]
    if form is Format.JSON:
        output.write(output.to_json(rows))
    elif form is Format.NDJSON:
        for row in rows:
            output.write(output.to_json(row))
    else:
        output.write(f"{'day':<12}{'in table':>14}{'in ledger':>14}  result")
        for day in days:
            result = "swapped in" if day.swapped else day.reason or "can be built anew"
            output.write(f"{day.day.isoformat():<12}{day.live:>14,}{day.stored:>14,}  {output.clean(result)}")
        if not yes and any(not day.reason for day in days):
            output.say("nothing was changed; with --yes the days that can be are built anew and swapped in")
