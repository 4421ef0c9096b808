"""Lines of a log file as records of requests, in the format that its beginning shows. No network."""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import msgspec

from logstream.cli.failure import Failure
from logstream.cli.follow import MAX_LINE_BYTES, Chunk
from logstream.cli.lines import guess_level
from logstream.cli.source import open_source
from logstream.clock import NS_PER_SECOND
from logstream.errors import InvalidValue
from logstream.formats import Format, Parsed, Reading, detect, events, named
from logstream.formats.model import MAX_LINE_CHARS
from logstream.record import LEVEL_LABELS

SAMPLE_BYTES = 256 * 1024
_SURE_NS = 10**18
"""Times from here on (2001) are nanoseconds without doubt; earlier ones are written out."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE = re.compile(r"[0-9a-f]{32}")
_SPAN = re.compile(r"[0-9a-f]{16}")
_BINARY = (
    (codecs.BOM_UTF32_LE, "UTF-32, not UTF-8", "iconv -f UTF-32 -t UTF-8 FILE"),
    (codecs.BOM_UTF32_BE, "UTF-32, not UTF-8", "iconv -f UTF-32 -t UTF-8 FILE"),
    (codecs.BOM_UTF16_LE, "UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8 FILE"),
    (codecs.BOM_UTF16_BE, "UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\x1f\x8b", "compressed (gzip), not text", "gzip -dc FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd), not text", "zstd -dc FILE"),
    (b"BZh", "compressed (bzip2), not text", "bzip2 -dc FILE"),
    (b"\xfd7zXZ\0", "compressed (xz), not text", "xz -dc FILE"),
    (b"\x04\x22\x4d\x18", "compressed (lz4), not text", "lz4 -dc FILE"),
    (b"PK\x03\x04", "an archive (zip), not text", "unzip -p FILE"),
    (b"\x7fELF", "a program, not text", ""),
    (b"\x89PNG\r\n\x1a\n", "an image, not text", ""),
)
"""First bytes of files that are no text, what they are, and the command that makes text of them."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user gave: "" and None mean that the file decides.

    service: of every line. metadata: added to every record.
    """

    form: str = ""
    zone: tzinfo = UTC
    year: int | None = None
    day_first: bool | None = None
    service: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one file is read. changed_ns: when it was last changed, the time of lines before any other."""

    form: Format
    name: str
    changed_ns: int
    wishes: Wishes

    def records(self, lines: Iterable[bytes], before: int | None) -> tuple[list[bytes], int | None]:
        """The JSON of the events of these lines, and the time of the last one. The same lines and time before always
        give the same bytes.
        """
        made = []
        for event in self.events(lines, before):
            made.append(self._record(event))
            before = event.timestamp
        return made, before

    def events(self, lines: Iterable[bytes], before: int | None = None) -> Iterator[Parsed]:
        """What these lines tell. Bytes that are not UTF-8 are kept as \\xNN. before: the time of the event before."""
        return events(map(_text, lines), self.form, before)

    def whole(self, chunk: Chunk) -> Chunk:
        """`chunk` without its last event, which may go on behind it; unless it is the only one."""
        if not self.form.parsers:
            return chunk
        lines = chunk.lines()
        end = len(chunk.data)
        for index in range(len(lines) - 1, 0, -1):
            end -= len(lines[index]) + (1 if index < len(lines) - 1 or chunk.data.endswith(b"\n") else 0)
            if self.form.parse(_text(lines[index])) is not None:
                return Chunk(chunk.data[:end], replace(chunk.position, planned=chunk.position.offset + end))
        return chunk

    def preview(self, event: Parsed) -> dict[str, object]:
        """What an event becomes, for a person."""
        made: dict[str, object] = msgspec.json.decode(self._record(event))
        metadata = dict(event.metadata)
        made["timestamp"] = "none: the file's last change" if event.timestamp is None else _written(event.timestamp)
        made["component"] = metadata.pop("component", "")
        made["metadata"] = {**metadata, **self.wishes.metadata}
        return made

    def _record(self, event: Parsed) -> bytes:
        metadata = {**event.metadata, **self.wishes.metadata}
        made: dict[str, object] = {
            "timestamp": _time(self.changed_ns if event.timestamp is None else event.timestamp),
            "service": self.wishes.service or event.service or self.name,
            "message": event.message or "(empty)",
        }
        level = LEVEL_LABELS[event.level - 1] if event.level is not None else guess_level(event.message)
        if level:
            made["level"] = level
        for key, form in (("trace_id", _TRACE), ("span_id", _SPAN)):
            if form.fullmatch(metadata.get(key, "")):
                made[key] = metadata.pop(key)
        if metadata:
            made["metadata"] = metadata
        return msgspec.json.encode(made)


class LongLines:
    """Counts the lines that were cut at MAX_LINE_BYTES. Feed it what was read, in order: whole lines or one piece."""

    def __init__(self) -> None:
        self.lines = 0
        self.pieces = 0
        self._open = 0

    def feed(self, data: bytes) -> None:
        if self._open and data and not data.startswith(b"\n"):
            self._open += 1
        if len(data) < MAX_LINE_BYTES or data.endswith(b"\n"):
            self.end()
        elif not self._open:
            self._open = 1

    @property
    def cut(self) -> bool:
        """Whether what was fed last ends within a line."""
        return self._open > 0

    def end(self) -> None:
        """Of a file."""
        if self._open > 1:
            self.lines += 1
            self.pieces += self._open
        self._open = 0

    def sentence(self) -> str:
        """For a person; "" when there was none."""
        if not self.lines:
            return ""
        what = "1 line was" if self.lines == 1 else f"{self.lines:,} lines were"
        verb = "is" if self.lines == 1 else "are"
        return (
            f"{what} longer than {MAX_LINE_BYTES // 2**20} MiB and {verb} stored in {self.pieces:,} pieces,"
            f" of each the first {MAX_LINE_CHARS:,} characters"
        )


def long_lines(path: Path, counted: LongLines, limit: int) -> None:
    """Counts those that begin in the first `limit` bytes of `path`. Raises Failure for what cannot be read."""
    try:
        source = open_source(path)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or error}") from error
    try:
        at = 0
        while (at < limit or counted.cut) and (data := source.read_at(at, MAX_LINE_BYTES)):
            # As sending reads: up to the last line end, or a piece.
            piece = data[: data.rfind(b"\n") + 1] or data
            counted.feed(piece)
            at += len(piece)
        counted.end()
    finally:
        source.close()


def _text(line: bytes) -> str:
    # Editors and Windows begin files with a byte order mark.
    return line.decode(errors="backslashreplace").removesuffix("\r").removeprefix("\ufeff")


def _time(ns: int) -> int | str:
    return ns if ns >= _SURE_NS else _written(ns)


def _written(ns: int) -> str:
    seconds, fraction = divmod(ns, NS_PER_SECOND)
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]}.{fraction:09d}Z"


def make_plan(path: Path, wishes: Wishes) -> tuple[Plan, list[bytes]]:
    """How to read `path`, and the lines at its beginning. Raises Failure for what cannot be read as text."""
    try:
        source = open_source(path)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or error}") from error
    try:
        head = source.read_at(0, SAMPLE_BYTES)
        changed = source.stat().st_mtime_ns
    finally:
        source.close()
    if not wishes.form:
        check_text(head, str(path))
    return plan_for(head, path.name.partition(".")[0] or path.name, changed, wishes)


def check_text(head: bytes, name: str) -> None:
    """Raises Failure for a beginning that no text file has, saying what it is and what helps where that is known."""
    for magic, what, helps in _BINARY:
        # Text may begin with letters that such a file begins with.
        if head.startswith(magic) and (b"\0" in head or not magic.isascii()):
            raise Failure(f"{name} is {what}{helps and f'; try: {helps} | logstream import -'}", status=2)
    if b"\0" in head:
        raise Failure(f"{name} is not text (it has zero bytes); --format plain sends it all the same", status=2)


def plan_for(head: bytes, name: str, changed_ns: int, wishes: Wishes) -> tuple[Plan, list[bytes]]:
    """As `make_plan`, for a beginning that is in memory."""
    lines: Sequence[bytes] = head.split(b"\n")
    if len(lines) > 1 and (len(head) >= SAMPLE_BYTES or not lines[-1]):
        # It may be cut, or is what stands behind the last line end: nothing.
        lines = lines[:-1]
    sample = [_text(line) for line in lines]
    reading = Reading(changed_ns, zone=wishes.zone, day_first=wishes.day_first, year=wishes.year)
    try:
        form = named(wishes.form, sample, reading) if wishes.form else detect(sample, reading)
    except InvalidValue as error:
        known = f"; known formats: {error.limit}" if error.limit else ""
        raise Failure(f"{name}: {error.message}{known}", status=2) from error
    return Plan(form, name, changed_ns, wishes), list(lines)
