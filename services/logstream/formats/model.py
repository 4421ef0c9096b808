"""What a format makes of lines, and what it is told beforehand. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, tzinfo

MAX_LINE_CHARS = 1024 * 1024
"""Characters of a line that are looked at and kept; what stands behind is cut, with `truncated` in the metadata."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What lines do not say themselves.

    reference_ns: a time (nanoseconds since the epoch) that no line is later than, give or take a day: when the
    file was last changed, or now. It settles missing years and dates.
    zone: of local times without an offset.
    day_first: 04/05 is 4 May (True) or April 5 (False); None: what the sample shows, otherwise month first.
    year: of dates without one; None: the latest one that does not lie after the reference.
    """

    reference_ns: int
    zone: tzinfo = UTC
    day_first: bool | None = None
    year: int | None = None


@dataclass(slots=True)
class Parsed:
    """One event as its lines tell it.

    timestamp: nanoseconds since the epoch, None where the line has none that can be read.
    level: a `logstream.record.Level` number, None where the line names none.
    service: "" where the line names none. message: without what became the other fields.
    metadata: `component` is the logger, module or program as written; others by what they are (pid, thread, host …).
    """

    timestamp: int | None
    level: int | None
    service: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
