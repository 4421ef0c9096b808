"""What people and programs see: tables and coloured lines, JSON arrays, or one JSON object a line."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import typer

from logstream.cli.options import Format

_COLOURS = {"trace": "2", "debug": "36", "info": "32", "warn": "33", "error": "31", "fatal": "1;31"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def colourful(stream: Any = None) -> bool:
    """Whether to colour what goes to `stream` (standard output)."""
    stream = stream or sys.stdout
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """One line for a person, on standard error, so that it does not mix with results."""
    sys.stderr.write(f"logstream: {clean(text)}\n")
    sys.stderr.flush()


def write(text: str, *, flush: bool = False) -> None:
    """One line of results. Ends the command quietly when its reader has gone (`logstream search … | head`)."""
    try:
        sys.stdout.write(text + "\n")
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        hush()
        raise typer.Exit(0) from None


def hush() -> None:
    """Nobody reads standard output any more: not even the flush at exit may fail for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def clean(text: str) -> str:
    """`text` without what could steer a terminal: a log line is somebody else's."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def log_line(entry: Mapping[str, Any], *, colour: bool) -> str:
    """One log as one line: local time, level, service, message, metadata."""
    level = str(entry.get("level", ""))
    metadata = entry.get("metadata") or {}
    extra = " ".join(f"{clean(str(k))}={clean(str(v))}" for k, v in metadata.items())
    when = local_time(str(entry.get("timestamp", "")))
    service, message = clean(str(entry.get("service", ""))), clean(str(entry.get("message", "")))
    if not colour:
        return f"{when} {level.upper():5} {service}: {message}" + (f"  {extra}" if extra else "")
    paint = _COLOURS.get(level, "0")
    tail = f"  \033[2m{extra}\033[0m" if extra else ""
    return f"\033[2m{when}\033[0m \033[{paint}m{level.upper():5}\033[0m \033[1m{service}\033[0m: {message}{tail}"


def local_time(timestamp: str) -> str:
    """RFC 3339 as local time to the millisecond; what cannot be read stays as it is."""
    try:
        moment = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError, OSError):
        return clean(timestamp)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, *, empty: str) -> None:
    """Rows as a table of `columns`, or as JSON with all they have. `empty` is said when there are none."""
    if form is Format.JSON:
        write(to_json(rows))
    elif form is Format.NDJSON:
        for row in rows:
            write(to_json(row))
    elif not rows:
        say(empty)
    else:
        table(columns, ([cell(row.get(column)) for column in columns] for row in rows))


def cell(value: object) -> str:
    """A value in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items() if v is not None) or "-"
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = not sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=wide, width=4096 if wide else None)
    made = Table(box=None if wide else box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column.replace("_", " "), overflow="fold", no_wrap=wide)
    for row in rows:
        made.add_row(*(Text(clean(value)) for value in row))
    with console.capture() as captured:
        console.print(made)
    for line in captured.get().splitlines():
        write(line.rstrip())
