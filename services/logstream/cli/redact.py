"""`logstream redact`: what redaction would make of files, without a server."""

import os
import secrets
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import typer

from logstream.cli import output
from logstream.cli.failure import Failure
from logstream.cli.lines import Defaults, record_of
from logstream.cli.options import Format, Output
from logstream.cli.output import clean, paint
from logstream.cli.server import need_server

if TYPE_CHECKING:
    from logstream.record import Record
    from logstream.redact import Redactor
    from logstream.settings import RedactionSettings

_RED, _GREEN = "31", "1;32"
_LONGEST_LINE = 16 * 1024 * 1024


def redact(
    files: Annotated[list[Path], typer.Argument(help="Log files, text or JSON lines; - is standard input.")],
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Rules in TOML or JSON; else all detectors, with the action mask.")
    ] = None,
    detector: Annotated[
        list[str] | None, typer.Option("--detector", "-d", help="This one, or all; may be repeated.")
    ] = None,
    stream: Annotated[str, typer.Option("--stream", help="The stream whose rules are tried.")] = "default",
    everything: Annotated[bool, typer.Option("--all", help="Show lines in which nothing was found, too.")] = False,
    only_count: Annotated[bool, typer.Option("--count", help="Show only how many lines each rule touches.")] = False,
    form: Output = Format.TABLE,
) -> None:
    """Show what redaction would take out of log files. Nothing is sent, and no file is changed.

    Hashes are made with the key in LOGSTREAM_REDACTION_HASH_KEY; without it, with one for this run only.

    Examples:

      logstream redact app.log

      logstream redact --rules redaction.toml --count /var/log/app/*.log

      kubectl logs deploy/shop | logstream redact --detector card --detector email -
    """
    need_server("redact")
    redactor = _redactor(rules, detector, stream)
    lines, rejected = 0, 0
    touched: Counter[str] = Counter()
    colour = output.colourful()
    for record in _records(files):
        lines += 1
        before, after, names = _apply(redactor, record)
        touched.update(names)
        rejected += after is None
        if only_count or not (names or everything):
            continue
        if form is not Format.TABLE:
            output.write(output.to_json({"before": before, "after": after, "rules": names}))
            continue
        for line in _shown(redactor, record, after, names, colour=colour):
            output.write(line)
    if only_count:
        rows = [{"rule": name, "lines": count} for name, count in touched.most_common()]
        output.show(rows, ("rule", "lines"), form, empty="nothing was found")
    more = f", {rejected:,} would be rejected" if rejected else ""
    output.say(f"{lines:,} lines, {sum(touched.values()):,} findings of {len(touched)} rules{more}")


def _redactor(path: Path | None, detectors: Sequence[str] | None, stream: str) -> "Redactor":
    """Raises Failure for a file or a rule that is wrong."""
    from pydantic import ValidationError

    from logstream.redact import RuleError, redactor_for

    try:
        settings = _settings(path, detectors)
        return redactor_for(settings, stream)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        message = str(problem["msg"]).removeprefix("Value error, ")
        raise Failure(f"{path or 'the settings'}: {place}: {message}", status=2) from None
    except RuleError as error:
        raise Failure(f"{path or 'the settings'}: {error.field}: {error.message}", status=2) from None


def _settings(path: Path | None, detectors: Sequence[str] | None) -> "RedactionSettings":
    from logstream.settings import RedactionSettings

    content: dict[str, Any] = {"rules": (), "detectors": tuple(detectors or ())}
    if path is None:
        content["detectors"] = tuple(detectors or ("all",))
    else:
        content |= _read_rules(path)
        content["detectors"] = (*content.get("detectors", ()), *(detectors or ()))
    content["hash_key"] = os.environ.get("LOGSTREAM_REDACTION_HASH_KEY") or secrets.token_hex(16)
    return RedactionSettings(**content)


def _read_rules(path: Path) -> Mapping[str, Any]:
    """The table `redaction`, or the whole document. The hash key is a secret, and not read from here."""
    try:
        data = path.read_bytes()
        document = msgspec.json.decode(data) if path.suffix == ".json" else tomllib.loads(data.decode())
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", status=2) from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {error}", status=2) from None
    found = document.get("redaction", document) if isinstance(document, dict) else {"rules": document}
    if not isinstance(found, dict):
        raise Failure(f"{path}: redaction must be a table", status=2)
    return {name: value for name, value in found.items() if name != "hash_key"}


def _records(files: Sequence[Path]) -> "Iterator[Record]":
    """Each line as the collector would take it in."""
    from logstream.collector.decode.json_body import JsonDecoder
    from logstream.settings import IngestLimits

    decoder = JsonDecoder(IngestLimits())
    for line in _lines(files):
        body = record_of(line, Defaults("unknown"))
        if body is not None:
            yield from decoder.decode(body, now=0).batch


def _lines(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        if str(path) == "-":
            yield from _read(sys.stdin.buffer)
            continue
        try:
            with path.open("rb") as file:
                yield from _read(file)
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}") from None


def _read(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line


def _apply(redactor: "Redactor", record: "Record") -> tuple[dict[str, Any], dict[str, Any] | None, list[str]]:
    """The record before and after (None: rejected), and the names of the rules that found something."""
    from logstream.record import Batch, Decoded

    redacted = redactor.redact(Decoded(Batch.of([record])))
    left = next(iter(redacted.decoded.batch), None)
    return _fields(record), None if left is None else _fields(left), sorted(redacted.found)


def _fields(record: "Record") -> dict[str, Any]:
    return {"service": record.service, "message": record.message, "metadata": record.metadata}


def _shown(
    redactor: "Redactor", record: "Record", after: Mapping[str, Any] | None, names: Sequence[str], *, colour: bool
) -> Iterator[str]:
    """A line without findings as it is; else as it was, with what was found, and as it would be."""
    if not names:
        yield f"  {clean(record.message)}"
        return
    found = redactor.explain(record.message)[0]
    data, at, parts = record.message.encode("utf-8", "replace"), 0, []
    for start, end, _, _ in found.findings:
        parts += [clean(data[at:start].decode(errors="replace"))]
        parts += [paint(clean(data[start:end].decode(errors="replace")), _RED, colour=colour)]
        at = end
    parts.append(clean(data[at:].decode(errors="replace")))
    changed = {
        key: value for key, value in record.metadata.items() if after is None or after["metadata"].get(key) != value
    }
    metadata = " ".join(f"{clean(key)}={paint(clean(value), _RED, colour=colour)}" for key, value in changed.items())
    yield f"{paint('-', _RED, colour=colour)} {''.join(parts)}" + (f"  {metadata}" if metadata else "")
    if after is None:
        yield f"{paint('+', _GREEN, colour=colour)} (rejected by {', '.join(names)})"
        return
    left = " ".join(
        f"{clean(key)}={paint(clean(after['metadata'][key]), _GREEN, colour=colour)}"
        for key in changed
        if key in after["metadata"]
    )
    message = clean(str(after["message"]))
    for name in names:
        message = _painted(message, name, colour=colour)
    yield f"{paint('+', _GREEN, colour=colour)} {message}" + (f"  {left}" if left else "")


def _painted(message: str, name: str, *, colour: bool) -> str:
    """`message` with the marks of a rule in colour."""
    parts = message.split(f"[{name}")
    painted = [parts[0]]
    for part in parts[1:]:
        detail, bracket, rest = part.partition("]")
        painted.append(paint(f"[{name}{detail}{bracket}", _GREEN, colour=colour) + rest)
    return "".join(painted)
