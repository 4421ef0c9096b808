"""What people and programs see: tables and coloured lines, JSON arrays, or one JSON object a line."""

import csv as csv_files
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from shutil import get_terminal_size
from typing import Any

import msgspec
import typer

from logstream.cli.options import Format

LEVELS = {"trace": "2", "debug": "36", "info": "32", "warn": "33", "error": "31", "fatal": "1;31"}
"""The ANSI colour of each level."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_C1 = re.compile(r"[\x7f-\x9f]")


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


def complain(message: str, detail: Sequence[str] = ()) -> None:
    """A failure: its sentence, and lines below it."""
    say(message)
    for line in detail:
        sys.stderr.write(f"{clean(line)}\n")
    sys.stderr.flush()


def hush() -> None:
    """Nobody reads standard output any more: not even the flush at exit may fail for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def to_json(value: object) -> str:
    """`value` as one line of JSON. JSON lets C1 controls stand as they are, and some terminals obey them."""
    return _C1.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(value).decode())


def clean(text: str) -> str:
    """`text` without what could steer a terminal: a log line is somebody else's."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def in_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def width() -> int:
    """Columns of the terminal that shows standard output; 100 where there is none."""
    return get_terminal_size((100, 24)).columns if in_terminal() else 100


def paint(text: str, code: str, *, colour: bool) -> str:
    """`text` in an ANSI colour."""
    return f"\033[{code}m{text}\033[0m" if colour and code and text else text


def log_line(entry: Mapping[str, Any], *, colour: bool, breaks: bool = False, ids: bool = False) -> str:
    """One log as one line: local time, level, service, message, metadata.

    breaks: show line breaks of the message (stack traces) as such, with a mark, so that none looks like another log.
    ids: end with the log's id.
    """
    level = str(entry.get("level", ""))
    metadata = entry.get("metadata") or {}
    traced = {name: entry[name] for name in ("trace_id", "span_id") if entry.get(name)}
    extra = " ".join(f"{clean(str(k))}={clean(str(v))}" for k, v in {**metadata, **traced}.items())
    if ids and entry.get("id"):
        extra = f"{extra} #{clean(str(entry['id']))}".lstrip()
    when = local_time(str(entry.get("timestamp", "")))
    service, message = clean(str(entry.get("service", ""))), str(entry.get("message", ""))
    if breaks:
        message = "\n    │ ".join(clean(line.removesuffix("\r")) for line in message.rstrip().split("\n"))
    else:
        message = clean(message)
    if not colour:
        return f"{when} {level.upper():5} {service}: {message}" + (f"  {extra}" if extra else "")
    paint = LEVELS.get(level, "0")
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
    """Rows as a table of `columns`, or as JSON with all they have. `empty` is said when there are none.

    In the table, times (`…_at`) are local and to the second, and a column without any value is left out.
    """
    if form is Format.JSON:
        write(to_json(rows))
    elif form is Format.NDJSON:
        for row in rows:
            write(to_json(row))
    elif not rows:
        say(empty)
    else:
        shown = [column for column in columns if any(row.get(column) not in (None, "", []) for row in rows)]
        table(shown, ([cell(column, row.get(column)) for column in shown] for row in rows))


def cell(column: str, value: object) -> str:
    """A value in a table."""
    if column.endswith("_at") and isinstance(value, str):
        return local_time(value)[:19]
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items() if v is not None) or "-"
    return str(value)


def digits(values: Iterable[float]) -> int:
    """How many figures behind the point a column of numbers has: none for whole ones, fewer for large ones."""
    most, whole = 0.0, True
    for value in values:
        most, whole = max(most, abs(value)), whole and float(value).is_integer()
    return 0 if whole else 1 if most >= 100 else 2 if most >= 1 else 4


def number(value: float, places: int | None = None) -> str:
    """For people. places: figures behind the point; None: as it needs."""
    if abs(value) >= 1e15 or not math.isfinite(value):
        return f"{value:.4g}"
    return f"{value:,.{digits([value]) if places is None else places}f}"


def csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """RFC 4180 with a head; lists and objects as JSON, nothing for what is not there."""
    terminal = in_terminal()

    def text(value: object) -> str:
        if value is None:
            return ""
        said = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return clean(said) if terminal else said

    line = io.StringIO()
    writer = csv_files.writer(line, lineterminator="\n")
    writer.writerow(map(text, columns))
    for row in rows:
        writer.writerow(map(text, row))
        if line.tell() > 65_536:
            write(line.getvalue().removesuffix("\n"))
            line.seek(0)
            line.truncate()
    if line.tell():
        write(line.getvalue().removesuffix("\n"))


def _block(text: str) -> str:
    """A cell in a terminal: with the line breaks that it has."""
    return "\n".join(clean(line.removesuffix("\r")).expandtabs(4) for line in text.rstrip().split("\n"))


_NUMBER = re.compile(r"-?[\d,]*\.?\d+(e[+-]?\d+)?|-|[+-][\d,.]+ %")
_WHOLE = ("id", "key_id", "secret", "email")
"""Columns that people copy from: never broken over two lines."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, exact: bool = False) -> None:
    """A table on standard output: in a terminal as wide as that, else a line for each row.

    exact: head it with the columns' very names.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = not sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=wide, width=4096 if wide else None)
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    content = [[clean(value) if wide else _block(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        numbers = all(_NUMBER.fullmatch(row[index]) for row in content)
        made.add_column(
            Text(clean(column)) if exact else column.removesuffix("_at").replace("_", " "),
            overflow="fold",
            no_wrap=wide or column in _WHOLE,
            # A time may be broken between day and hour.
            min_width=10 if column.endswith("_at") else None,
            justify="right" if numbers and column not in _WHOLE else "left",
        )
    for row in content:
        made.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(made)
    for line in captured.get().splitlines():
        write(line.rstrip())
