"""Several lines of one event: stack traces and other text behind a first line. Bounded in lines and characters."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from logstream.formats.detect import Format
from logstream.formats.model import MAX_LINE_CHARS, Parsed

MAX_LINES = 1000
MAX_CHARS = 256 * 1024
"""Where an event with more lines or characters than this is split; the parts after the first have `continued`."""

_HANGING = re.compile(r"\s|Caused by: |Suppressed: |Traceback \(|\}|\]|\)")
"""How a line begins that goes on with the one before, in files where not every line has a timestamp."""


class Joiner:
    """Feed it lines in order; it gives each event once the line after it is known. `flush` gives the last one.

    An event whose lines have no timestamp gets that of the event before it, `before` at the beginning.
    """

    def __init__(self, form: Format, before: int | None = None) -> None:
        self._form = form
        self._open: Parsed | None = None
        self._more: list[str] = []
        self._chars = 0
        self._blank = 0
        self._time = before

    def feed(self, line: str) -> Parsed | None:
        """`line` without its line end. Blank lines are kept only between the lines of an event."""
        if not line or line.isspace():
            self._blank += self._open is not None
            return None
        parsed = self._form.parse(line)
        if parsed is None:
            marks = {"truncated": "true"} if len(line) > MAX_LINE_CHARS else {}
            line = line[:MAX_LINE_CHARS].rstrip()
            if self._open is not None and self._continues(line):
                return self._append(line, marks)
            parsed = Parsed(None, None, "", line, marks)
        finished = self.flush()
        if parsed.timestamp is None:
            parsed.timestamp = self._time
        else:
            self._time = parsed.timestamp
        self._open, self._chars = parsed, len(parsed.message)
        return finished

    def flush(self) -> Parsed | None:
        """The event that was being gathered, if any."""
        event = self._open
        if event is not None and self._more:
            event.message = "\n".join((event.message, *self._more)) if event.message else "\n".join(self._more)
            self._more = []
        self._open, self._blank = None, 0
        return event

    def _continues(self, line: str) -> bool:
        if self._form.times:
            return True
        return _HANGING.match(line) is not None

    def _append(self, line: str, marks: dict[str, str]) -> Parsed | None:
        blank = min(self._blank, MAX_LINES)
        self._blank = 0
        if len(self._more) + blank >= MAX_LINES or self._chars + len(line) + blank > MAX_CHARS:
            full = self.flush()
            assert full is not None
            self._open = replace(full, message=line, metadata={**full.metadata, "continued": "true", **marks})
            self._chars = len(line)
            return full
        self._more += [""] * blank
        self._more.append(line)
        self._chars += len(line) + blank + 1
        return None


def events(lines: Iterable[str], form: Format, before: int | None = None) -> Iterator[Parsed]:
    """The events of `lines`, one after another; memory is bounded by one event.

    before: time of the event before them (nanoseconds since the epoch), for those without one.
    """
    joiner = Joiner(form, before)
    for line in lines:
        if (event := joiner.feed(line)) is not None:
            yield event
    if (event := joiner.flush()) is not None:
        yield event
