"""`logstream demo`: the logs of a small shop, with an incident whose cause can be found."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from logstream import __version__
from logstream.cli import output
from logstream.cli.config import resolve
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ContextName, Format, IngestUrl, Output
from logstream.cli.send import summarise
from logstream.cli.sender import Sender
from logstream.cli.times import moment, rfc3339
from logstream.clock import NS_PER_SECOND
from logstream.demo import LINES_PER_DAY, LIVE_RATE, Batch, Plan, backfill, batches, incident, live

if TYPE_CHECKING:
    import rich.progress

BATCH = 5_000
TICK = 0.25
"""Seconds between two requests of --live."""


def demo(
    days: Annotated[
        float, typer.Option("--days", min=0, max=365, help="How far back the logs go; 0 with --live: none.")
    ] = 7.0,
    live_too: Annotated[
        bool, typer.Option("--live", help="Go on sending until Ctrl-C. Without, the command ends with the back-fill.")
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, max=1_000, help="Lines a second of --live, on average.")
    ] = LIVE_RATE,
    lines_per_day: Annotated[
        float, typer.Option("--lines-per-day", min=1_000, max=10_000_000, help="Of the back-fill, on average.")
    ] = LINES_PER_DAY,
    seed: Annotated[int, typer.Option("--seed", help="The same seed and end give the same lines.")] = 1,
    end: Annotated[
        str, typer.Option("--end", help="Where the back-fill ends, like 2026-01-31T12:00:00Z, or 2h: so long ago.")
    ] = "now",
    retry_for: Annotated[
        float, typer.Option("--retry-for", min=0, help="Seconds to wait for a collector that is away.")
    ] = 10.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    ingest_url: IngestUrl = None,
) -> None:
    """Send the logs of a made-up shop.

    A week of traffic with deploys, and one incident to find the cause of.

    Its lines lie among the others of the stream, with demo=SEED in their metadata. Repeating a run with the same
    --seed, --end and other options within an hour doubles nothing.

    Examples:

      logstream demo

      logstream demo --days 1 --live --rate 50

      logstream query 'level>=error | stats count() as errors by service, region | sort by errors desc' --since 7d
    """
    if not days and not live_too:
        raise Failure("--days 0 sends nothing without --live", status=2)
    target = resolve(context=context, api_key=api_key, ingest_url=ingest_url)
    plan = Plan(seed, _nanoseconds(end), days, lines_per_day, rate)
    with Sender(target, patience=retry_for, say=output.say) as sender:
        try:
            with _progress(plan, quiet=quiet) as shown:
                for batch in batches(backfill(plan), BATCH):
                    _send(sender, plan, batch, "past")
                    shown(batch)
            if live_too:
                _go_on(sender, plan, quiet=quiet)
        except KeyboardInterrupt:
            raise typer.Exit(0 if live_too else 130) from None
        finally:
            if not quiet:
                summarise(sender.totals, form)
    if sender.totals.rejected:
        raise typer.Exit(1)
    if not quiet and form is Format.TABLE:
        _say_what_next(plan)


def _nanoseconds(end: str) -> int:
    """`end` in whole seconds, so that it can be typed again."""
    text = moment(end, "--end", datetime.now(UTC))
    second = int(datetime.fromisoformat(text).timestamp())
    if not 0 <= second <= time.time() + 60:
        raise Failure("--end must lie between 1970 and now", status=2)
    return second * NS_PER_SECOND


def _send(sender: Sender, plan: Plan, batch: Batch, part: str) -> None:
    # Whatever decides what is in the batch is in its key.
    key = (
        f"logstream-demo {__version__} {plan.seed} {plan.end_ns} {plan.days:g} {plan.lines_per_day:g} "
        f"{plan.live_rate:g} {part} {batch.number}"
    )
    sender.send(batch.records, key, where=lambda index: f"line {index + 1} of batch {batch.number + 1}")


def _go_on(sender: Sender, plan: Plan, *, quiet: bool) -> None:
    """Lines as their times come, until interrupted."""
    if not quiet:
        output.say(f"sending about {plan.live_rate:g} lines a second; Ctrl-C ends it")
    number = 0
    held: list[bytes] = []
    due = time.time_ns()
    for at, record in live(plan):
        while at > due:
            if held:
                _send(sender, plan, Batch(number, at, held), f"live {due}")
                number, held = number + 1, []
            time.sleep(TICK)
            due = time.time_ns()
        held.append(record)
        if len(held) == BATCH:
            _send(sender, plan, Batch(number, at, held), f"live {due}")
            number, held = number + 1, []


class _Shown(Protocol):
    def __call__(self, batch: Batch) -> None: ...


@contextmanager
def _progress(plan: Plan, *, quiet: bool) -> Iterator[_Shown]:
    """A bar over the days on standard error, when somebody looks."""
    if quiet or not plan.days or not sys.stderr.isatty():
        yield lambda batch: None
        return
    bar = _bar()
    with bar:
        task = bar.add_task("demo", total=plan.end_ns - plan.start_ns, sent=0, rate="", day="")
        began, sent = time.monotonic(), 0

        def show(batch: Batch) -> None:
            nonlocal sent
            sent += len(batch.records)
            day = datetime.fromtimestamp(batch.until / NS_PER_SECOND).astimezone()
            bar.update(
                task, completed=batch.until - plan.start_ns, sent=sent, day=f"{day:%a %d %b %H:%M}",
                rate=f"{sent / max(0.001, time.monotonic() - began):,.0f} lines/s",
            )  # fmt: skip

        yield show


def _bar() -> "rich.progress.Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[day]}"), TextColumn("{task.fields[sent]:,} lines"),
        TextColumn("{task.fields[rate]}"), TextColumn("ETA"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip


def _say_what_next(plan: Plan) -> None:
    """Where the lines are, and where to begin."""
    if not plan.days:
        return
    start, end = (rfc3339(datetime.fromtimestamp(ns // NS_PER_SECOND, UTC)) for ns in (plan.start_ns, plan.end_ns))
    output.say(f"the shop's logs are there from {start} to {end}")
    if incident(plan) is not None:
        query = "level>=error | timechart 1h count() as errors by service, region | sort by errors desc | head 5"
        output.say(f"something went wrong in that time; begin with: logstream query '{query}' --from {start}")
