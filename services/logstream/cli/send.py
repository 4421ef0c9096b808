"""`logstream send`: text, files, standard input, and files as they grow."""

import os
import secrets
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from logstream.cli import output
from logstream.cli.config import Target, resolve
from logstream.cli.failure import Failure
from logstream.cli.follow import BATCH_BYTES, BATCH_LINES, Chunk, LogFile
from logstream.cli.lines import Defaults, record_of
from logstream.cli.options import ApiKey, ContextName, Format, IngestUrl, Output
from logstream.cli.position import PositionFile
from logstream.cli.sender import Sender, Totals

if TYPE_CHECKING:
    from logstream.cli.progress import Progress

POLL_SECONDS = 0.25
STDIN_WAIT = 0.3
"""Seconds a line from standard input waits for others to travel with."""


def send(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Files (plain, gzip, zstd), or a text to send as one log; nothing or - is standard input."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the files grow and rotate; resumes where it stopped.")
    ] = False,
    from_end: Annotated[
        bool, typer.Option("--from-end", help="With --follow: begin at the end of a file not followed before.")
    ] = False,
    service: Annotated[
        str | None, typer.Option("--service", "-s", help="Service of lines that name none. Default: the file's name.")
    ] = None,
    level: Annotated[str, typer.Option("--level", "-l", help="Level of lines that name none. Default: guessed.")] = "",
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", help="key=value for every log; may be repeated.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder of the positions. Default: ~/.local/state/logstream/send.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget the position and send from the start.")] = False,
    retry_for: Annotated[
        float | None,
        typer.Option(
            "--retry-for",
            min=0,
            help="Seconds to wait for a collector that is away. Default: 120; for ever with --follow.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    ingest_url: IngestUrl = None,
) -> None:
    """Send logs. Lines that are JSON objects with a message are sent as they are, other lines as messages.

    A run that was broken off goes on where it stopped when it is started again, and doubles nothing.

    Examples:

      logstream send 'Hello, LogStream' --service demo

      logstream send /var/log/syslog access.log.gz

      logstream send --follow /var/log/app.log --service app --metadata host=web1

      journalctl -f -o cat | logstream send --service journal
    """
    target = resolve(context=context, api_key=api_key, ingest_url=ingest_url)
    pairs = key_values(metadata)
    files, text = _sort_out(what or [], follow=follow)

    def defaults(name: str) -> Defaults:
        return Defaults(service or name, level, pairs)

    patience = retry_for if retry_for is not None else (None if follow else 120.0)
    status = 0
    with Sender(target, patience=patience, say=output.say) as sender:
        try:
            if text is not None:
                _send_lines(sender, [text.encode(errors="surrogateescape")], defaults("cli"), "the text")
            elif not files:
                _send_stdin(sender, defaults("stdin"))
            else:
                _send_files(
                    sender, files, target, defaults,
                    follow=follow, from_end=from_end, state=state, restart=restart, quiet=quiet,
                )  # fmt: skip
        except KeyboardInterrupt:
            # The way to end --follow; otherwise a broken-off run.
            status = 0 if follow else 130
        finally:
            if not quiet:
                summarise(sender.totals, form)
    if status or sender.totals.rejected:
        raise typer.Exit(status or 1)


def _sort_out(what: list[str], *, follow: bool) -> tuple[list[Path], str | None]:
    """The files to send, or else the text."""
    if not what or what == ["-"]:
        if follow:
            raise Failure("--follow needs the files to follow", status=2)
        if not what and sys.stdin.isatty():
            raise Failure("give a text, a file, or lines on standard input (see: logstream send --help)", status=2)
        return [], None
    paths = [Path(w) for w in what]
    for path in paths:
        if path.is_dir():
            raise Failure(f"{path} is a folder; name the files in it, like {path}/*.log", status=2)
    if follow or all(p.is_file() or p.is_fifo() for p in paths):
        return paths, None
    missing = [p for p in paths if not p.exists()]
    if len(what) == 1 and not _looks_like_path(what[0]):
        return [], what[0]
    if all(not _looks_like_path(str(p)) for p in missing) and len(missing) == len(paths):
        return [], " ".join(what)
    raise Failure(f"there is no file {missing[0]}", status=2)


def _looks_like_path(text: str) -> bool:
    return not any(c.isspace() for c in text) and (
        "/" in text or text.endswith((".log", ".gz", ".zst", ".txt", ".json"))
    )


def key_values(metadata: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in metadata or []:
        name, found, value = item.partition("=")
        if not found or not name:
            raise Failure(f"--metadata must be key=value: '{item}'", status=2)
        pairs[name] = value
    return pairs


def _send_lines(sender: Sender, lines: list[bytes], defaults: Defaults, name: str, key: str | None = None) -> None:
    """Send lines as one request, or as several when the records are many or large."""
    numbered = [(i, r) for i, r in enumerate(record_of(line, defaults) for line in lines) if r is not None]
    sender.totals.blank += len(lines) - len(numbered)
    if numbered:
        numbers = [i for i, _ in numbered]
        sender.send(
            [r for _, r in numbered],
            key or secrets.token_hex(16),
            where=lambda index: f"{name}, line {numbers[index] + 1} of this batch",
        )


def _send_stdin(sender: Sender, defaults: Defaults) -> None:
    for lines in _stdin_batches():
        _send_lines(sender, lines, defaults, "standard input")


def _stdin_batches() -> Iterator[list[bytes]]:
    """Lines of standard input, gathered while they come quickly; memory is bounded by one batch."""
    descriptor = sys.stdin.fileno()
    held = b""
    deadline: float | None = None
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if select.select([descriptor], [], [], wait)[0]:
            data = os.read(descriptor, 256 * 1024)
            held += data
            if not data:
                break
        if held and deadline is None and b"\n" in held:
            deadline = time.monotonic() + STDIN_WAIT
        due = deadline is not None and time.monotonic() >= deadline
        if due or len(held) >= BATCH_BYTES:
            whole, newline, rest = held.rpartition(b"\n")
            if newline:
                yield from _split(whole)
            elif len(held) >= 8 * BATCH_BYTES:
                yield [held]
                rest = b""
            held, deadline = rest, None
    if held:
        yield from _split(held.removesuffix(b"\n"))


def _split(data: bytes) -> Iterator[list[bytes]]:
    lines = data.split(b"\n")
    for start in range(0, len(lines), BATCH_LINES):
        yield lines[start : start + BATCH_LINES]


class _Named(Protocol):
    def __call__(self, name: str) -> Defaults: ...


def _send_files(
    sender: Sender,
    paths: list[Path],
    target: Target,
    defaults: _Named,
    *,
    follow: bool,
    from_end: bool,
    state: Path | None,
    restart: bool,
    quiet: bool,
) -> None:
    from logstream.cli.progress import Progress

    destination = f"{target.ingest_url} {public_part(target.credential())}"
    places = [PositionFile.of(path, destination, folder=state) for path in paths]
    if restart:
        for place in places:
            place.forget()
    files = [
        LogFile(path, place.load(), follow=follow, from_end=from_end, say=output.say)
        for path, place in zip(paths, places, strict=True)
    ]
    with Progress(paths, sender.totals, follow=follow, quiet=quiet) as progress:
        if follow:
            _follow_all(sender, list(zip(files, places, strict=True)), defaults, progress)
        for file, place in zip(files, places, strict=True):
            while not file.finished:
                _send_next(sender, file, place, defaults(file.path.name.partition(".")[0]), progress)
            file.close()
            # A run that came to its end is over: the same file may be sent again on purpose.
            place.forget()


def _follow_all(
    sender: Sender, files: list[tuple[LogFile, PositionFile]], defaults: _Named, progress: "Progress"
) -> None:
    """Until interrupted. Each file has its turn, so that a busy one does not starve the others."""
    while True:
        busy = False
        for file, place in files:
            name = file.path.name.partition(".")[0]
            busy = _send_next(sender, file, place, defaults(name), progress) or busy
        if not busy:
            time.sleep(POLL_SECONDS)


def _send_next(sender: Sender, file: LogFile, place: PositionFile, defaults: Defaults, progress: "Progress") -> bool:
    chunk: Chunk | None = file.next()
    if chunk is None:
        return False
    # First written down, then sent: a break in between repeats exactly this range under the same key.
    place.save(chunk.position)
    _send_lines(sender, chunk.lines(), defaults, str(file.path), chunk.position.key())
    place.save(file.done(chunk))
    progress.update(file)
    return True


def public_part(credential: str) -> str:
    """The part of a key that names it without giving it away."""
    return credential[:12]


def summarise(totals: Totals, form: Format) -> None:
    if form is not Format.TABLE:
        output.write(output.to_json(totals.summary()))
        return
    parts = [f"{totals.accepted:,} accepted"]
    if totals.duplicates:
        parts.append(f"{totals.duplicates:,} already there")
    if totals.rejected:
        parts.append(f"{totals.rejected:,} rejected")
    if totals.blank:
        parts.append(f"{totals.blank:,} blank line{'s' if totals.blank > 1 else ''} left out")
    output.write(", ".join(parts))
    for code, count in totals.reasons.most_common():
        output.say(f"{count:,} rejected: {code}")
    for where, reason in totals.examples:
        output.say(f"  {where}: {reason}")
