"""`logstream import`: log files in the formats of other programs."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from logstream.cli import output
from logstream.cli.config import resolve
from logstream.cli.failure import Failure
from logstream.cli.follow import BATCH_BYTES, MAX_LINE_BYTES, LogFile
from logstream.cli.importing import LongLines, Plan, Wishes, check_text, long_lines, make_plan, plan_for
from logstream.cli.options import ApiKey, ContextName, Format, IngestUrl, Output
from logstream.cli.position import PositionFile, after_end, is_sent, stamp
from logstream.cli.progress import Progress
from logstream.cli.send import key_values, public_part, summarise
from logstream.cli.sender import Sender

SHOWN = 10
"""Events of each file that --dry-run shows."""
LOOKED_THROUGH = 64 * 1024 * 1024
"""Bytes of each file in which --dry-run looks for lines that are too long."""


def import_(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Files (plain, gzip, zstd) and folders; - is standard input.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is understood; send nothing.")] = False,
    log_format: Annotated[
        str, typer.Option("--format", help="The format's name, as --dry-run shows it. Default: found out.")
    ] = "",
    timezone: Annotated[
        str, typer.Option("--timezone", help="Of times without one, like Europe/Berlin. Default: UTC.")
    ] = "UTC",
    year: Annotated[
        int | None,
        typer.Option("--year", min=1970, max=2261, help="Of dates without one. Default: the latest."),
    ] = None,
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="How to read 04/05/2023. Default: see the file."),
    ] = None,
    service: Annotated[
        str, typer.Option("--service", "-s", help="Service of all lines. Default: what they name, or the file's name.")
    ] = "",
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", help="key=value for every log; may be repeated.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder of the positions. Default: ~/.local/state/logstream/send.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Send all from the start, also what was imported.")
    ] = False,
    old_key: Annotated[
        str,
        typer.Option(
            "--old-key", help="The key of a run that broke off, or its first 12 characters: go on where it was."
        ),
    ] = "",
    retry_for: Annotated[
        float, typer.Option("--retry-for", min=0, help="Seconds to wait for a collector that is away.")
    ] = 120.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    ingest_url: IngestUrl = None,
) -> None:
    """Import log files as they lie on disks.

    Their format, times, levels and services are found out from their lines.

    A run that was broken off goes on where it stopped when it is started again, and doubles nothing: files that were
    imported are left out, unless --restart is given.

    Examples:

      logstream import --dry-run /var/log/syslog access.log.gz

      logstream import /var/log/hadoop --timezone Europe/Berlin --service hadoop

      zcat old.log.gz | logstream import - --service shop
    """
    wishes = Wishes(log_format, _zone(timezone), year, day_first, service, key_values(metadata))
    paths = _files(what)
    if dry_run:
        _dry_run(paths, wishes, form)
        return
    # All are looked at before any is sent: a wrong option sends nothing.
    plans = {path: plan for path, plan, _ in _looked_at(paths, wishes)}
    long = LongLines()
    target = resolve(context=context, api_key=api_key, ingest_url=ingest_url)
    # Before any is sent: a run with --restart that breaks off goes on without it.
    places = {
        path: _position_of(path, target.credential(), old_key, restart=restart, url=target.ingest_url, folder=state)
        for path in plans
    }
    sent_before: list[Path] = []
    with Sender(target, patience=retry_for, say=output.say) as sender:
        try:
            if not paths:
                _send_stdin(sender, wishes, long)
            else:
                with Progress(list(plans), sender.totals, follow=False, quiet=quiet) as progress:
                    for path, plan in plans.items():
                        if not _send_file(sender, path, plan, places[path], progress, long):
                            sent_before.append(path)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            if not quiet:
                summarise(sender.totals, form)
                _say_if(_left_out(sent_before))
            _say_if(long.sentence())
    if sender.totals.rejected or len(plans) < len(paths):
        raise typer.Exit(1)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Failure(f"--timezone: there is no time zone {name}", status=2) from error


def _files(what: list[str] | None) -> dict[Path, bool]:
    """The files that are meant, and whether they were named or lie in a folder; none for standard input."""
    if not what:
        raise Failure("name the files to import, or - for standard input (see: logstream import --help)", status=2)
    if what == ["-"]:
        return {}
    found: dict[Path, bool] = {}
    for path in map(Path, what):
        if os.path.isdir(path):
            inside = sorted(_inside(path))
            if not inside:
                raise Failure(f"there are no files in {path}", status=2)
            for file in inside:
                found.setdefault(file, False)
        elif os.path.isfile(path):
            found[path] = True
        elif os.path.exists(path):
            raise Failure(
                f"{path} is no file but a pipe, socket or device; for a pipe: logstream import - < {path}", status=2
            )
        else:
            raise Failure(f"there is no file {path}", status=2)
    return found


def _inside(folder: Path) -> Iterator[Path]:
    """The files in `folder` and its folders, and folders that cannot be read. Not what is hidden, and no folders that
    are only linked to.
    """
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = [inside for inside in folders if not inside.startswith(".")]
        yield from (path for file in files if not file.startswith(".") and os.path.isfile(path := Path(name, file)))
    yield from (Path(error.filename) for error in unreadable)


def _looked_at(paths: dict[Path, bool], wishes: Wishes) -> Iterator[tuple[Path, Plan, list[bytes]]]:
    """The files with their plans, as `make_plan`; those of folders that cannot be read or are no text are left out."""
    for path, named in paths.items():
        try:
            yield path, *make_plan(path, wishes)
        except Failure as failure:
            if named or wishes.form:
                raise
            output.say(f"left out: {failure}")


def _position_of(path: Path, key: str, old_key: str, *, restart: bool, url: str, folder: Path | None) -> PositionFile:
    """Where the position of `path` is kept, with that of `old_key` taken over where there is none."""

    # A key is of one stream: to another, the file has not been sent.
    place, old = (PositionFile.of(path, f"{url} {public_part(k)} import", folder=folder) for k in (key, old_key))
    if restart:
        place.forget()
    elif old_key and place.load() is None and (position := old.load()) is not None:
        place.save(position)
        old.forget()
    return place


def _send_file(
    sender: Sender, path: Path, plan: Plan, place: PositionFile, progress: Progress, long: LongLines
) -> bool:
    """False when all of it was sent by an earlier run."""
    position = place.load()
    if position is not None and is_sent(path, position):
        return False
    now = stamp(path)
    file = LogFile(path, position and after_end(path, position), follow=False, say=output.say)
    try:
        while not file.finished:
            # What was under way when the last run broke off is sent again exactly as it was.
            again = file.position is not None and file.position.planned is not None
            chunk = file.next()
            if chunk is None:
                continue
            if not again:
                chunk = plan.whole(chunk)
            place.save(chunk.position)
            records, before = plan.records(chunk.lines(), chunk.position.before)
            if records:
                sender.send(records, chunk.position.key(), where=_Where(path, chunk.position.offset))
            file.position = replace(file.done(chunk), before=before)
            place.save(file.position)
            long.feed(chunk.data)
            progress.update(file)
    finally:
        file.close()
        long.end()
    # Kept: the next file may break off, and the same command must not send this one again.
    if file.position is not None:
        place.save(replace(file.position, ended=now))
    return True


def _left_out(paths: list[Path]) -> str:
    if not paths:
        return ""
    what = f"{paths[0]} was" if len(paths) == 1 else f"{len(paths):,} files ({paths[0]} …) were"
    return f"{what} imported before and left out; --restart sends what is there again"


def _say_if(sentence: str) -> None:
    if sentence:
        output.say(sentence)


@dataclass(frozen=True, slots=True)
class _Where:
    """Names an event for a person."""

    path: Path
    offset: int

    def __call__(self, index: int) -> str:
        return f"{self.path}, event {index + 1} from byte {self.offset}"


def _stdin_plan(wishes: Wishes) -> tuple[Plan, list[bytes], Iterator[bytes]]:
    """The plan, the lines that it was made from, and all lines of standard input, these included."""
    stdin = sys.stdin.buffer
    head: list[bytes] = []
    size = 0
    while len(head) < 400 and size < BATCH_BYTES and (line := stdin.readline(MAX_LINE_BYTES)):
        head.append(line)
        size += len(line)
    if not wishes.form:
        check_text(b"".join(head), "standard input")
    plan, lines = plan_for(b"".join(head), "stdin", time.time_ns(), wishes)

    def everything() -> Iterator[bytes]:
        yield from head
        while line := stdin.readline(MAX_LINE_BYTES):
            yield line

    return plan, lines, everything()


def _send_stdin(sender: Sender, wishes: Wishes, long: LongLines) -> None:
    plan, _, lines = _stdin_plan(wishes)
    held: list[bytes] = []
    size = 0
    before: int | None = None
    for line in lines:
        long.feed(line)
        # A batch ends before a line that begins an event.
        if size >= BATCH_BYTES and (
            size >= 4 * BATCH_BYTES or plan.form.parse(line.decode(errors="backslashreplace")) is not None
        ):
            before = _send_batch(sender, plan, held, before)
            held, size = [], 0
        held.append(line.removesuffix(b"\n"))
        size += len(line)
    _send_batch(sender, plan, held, before)
    long.end()


def _send_batch(sender: Sender, plan: Plan, lines: list[bytes], before: int | None) -> int | None:
    records, before = plan.records(lines, before)
    if records:
        sender.send(records, secrets.token_hex(16), where=lambda i: f"standard input, event {i + 1} of this batch")
    return before


def _dry_run(paths: dict[Path, bool], wishes: Wishes, form: Format) -> None:
    long = LongLines()
    for path, plan, lines in _looked_at(paths, wishes):
        _show(str(path), plan, lines, form)
        try:
            long_lines(path, long, LOOKED_THROUGH)
        except Failure as failure:
            output.say(str(failure))
    if not paths:
        _show("standard input", *_stdin_plan(wishes)[:2], form)
    _say_if(long.sentence())


def _show(name: str, plan: Plan, lines: list[bytes], form: Format) -> None:
    """What is understood of the beginning of a file."""
    rows = [plan.preview(event) for event in islice(plan.events(lines), SHOWN)]
    if form is Format.TABLE:
        times = f", times as {plan.form.times}" if plan.form.times else ""
        output.write(
            f"{output.clean(name)}: format '{plan.form.name}'{times}, {plan.form.matched:.0%} of the sample's lines"
        )
    else:
        for row in rows:
            row["format"] = plan.form.name
            row["file"] = name
    output.show(rows, ["timestamp", "level", "service", "component", "message", "metadata"], form, empty="no lines")
