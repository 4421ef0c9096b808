"""What travels: records, batches of records in columns, and the names of severities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """Severities in ascending order; the number is what ClickHouse's Enum8 stores."""

    TRACE = 1
    DEBUG = 2
    INFO = 3
    WARN = 4
    ERROR = 5
    FATAL = 6

    @property
    def label(self) -> str:
        return self.name.lower()


LEVEL_LABELS: tuple[str, ...] = tuple(level.label for level in Level)

LEVEL_ALIASES: dict[str, Level] = {
    "trace": Level.TRACE, "trc": Level.TRACE, "verbose": Level.TRACE, "finest": Level.TRACE,
    "finer": Level.TRACE, "t": Level.TRACE,
    "debug": Level.DEBUG, "dbg": Level.DEBUG, "fine": Level.DEBUG, "d": Level.DEBUG,
    "info": Level.INFO, "information": Level.INFO, "informational": Level.INFO, "inf": Level.INFO,
    "notice": Level.INFO, "config": Level.INFO, "log": Level.INFO, "i": Level.INFO,
    "warn": Level.WARN, "warning": Level.WARN, "wrn": Level.WARN, "w": Level.WARN,
    "error": Level.ERROR, "err": Level.ERROR, "severe": Level.ERROR, "failure": Level.ERROR,
    "e": Level.ERROR,
    "fatal": Level.FATAL, "critical": Level.FATAL, "crit": Level.FATAL, "alert": Level.FATAL,
    "emerg": Level.FATAL, "emergency": Level.FATAL, "panic": Level.FATAL, "f": Level.FATAL,
    # RFC 5424, table 2: numerical severities of syslog.
    "0": Level.FATAL, "1": Level.FATAL, "2": Level.FATAL, "3": Level.ERROR, "4": Level.WARN,
    "5": Level.INFO, "6": Level.INFO, "7": Level.DEBUG,
    # What pino and bunyan send.
    "10": Level.TRACE, "20": Level.DEBUG, "30": Level.INFO, "40": Level.WARN, "50": Level.ERROR,
    "60": Level.FATAL,
}  # fmt: skip
"""Lower-case names and numbers of levels as people send them."""


def parse_level(text: str) -> Level | None:
    """The level that `text` names (case-insensitive aliases and syslog numbers), None when unknown."""
    return LEVEL_ALIASES.get(text) or LEVEL_ALIASES.get(text.strip().lower())


@dataclass(frozen=True, slots=True)
class Record:
    """One log line where one is looked at: decoding, tail, bisecting. Elsewhere batches travel.

    timestamp: nanoseconds since the Unix epoch, UTC, within 1900-01-01 … 2262-04-11 (ClickHouse DateTime64(9)).
    level: a `Level` number, 1–6.
    """

    timestamp: int
    service: str
    level: int
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    trace_id: str = ""
    span_id: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was not accepted and stays the sender's.

    index: position in the request, from 0. code: stable, snake_case. reason: a sentence that names the
    field and the limit.
    """

    index: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as columns of equal length; the unit between decoder and encoder. Never changed once made."""

    timestamps: Sequence[int]
    services: Sequence[str]
    levels: Sequence[int]
    messages: Sequence[str]
    metadata: Sequence[dict[str, str]]
    trace_ids: Sequence[str]
    span_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.timestamps)

    def __iter__(self) -> Iterator[Record]:
        columns = (
            self.timestamps, self.services, self.levels, self.messages,
            self.metadata, self.trace_ids, self.span_ids,
        )  # fmt: skip
        for values in zip(*columns, strict=True):
            yield Record(*values)

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Batch":
        return cls(
            timestamps=[r.timestamp for r in records],
            services=[r.service for r in records],
            levels=[r.level for r in records],
            messages=[r.message for r in records],
            metadata=[r.metadata for r in records],
            trace_ids=[r.trace_id for r in records],
            span_ids=[r.span_id for r in records],
        )

    @classmethod
    def join(cls, batches: Sequence["Batch"]) -> "Batch":
        """The rows of `batches`, one after another."""
        if len(batches) == 1:
            return batches[0]
        return cls(
            timestamps=[x for b in batches for x in b.timestamps],
            services=[x for b in batches for x in b.services],
            levels=[x for b in batches for x in b.levels],
            messages=[x for b in batches for x in b.messages],
            metadata=[x for b in batches for x in b.metadata],
            trace_ids=[x for b in batches for x in b.trace_ids],
            span_ids=[x for b in batches for x in b.span_ids],
        )


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder makes of one request body: the good rows, and the bad ones by index."""

    batch: Batch
    rejections: Sequence[Rejection] = ()
    truncated: int = 0
    """How many records had a value cut to its limit (each carries a mark in its metadata)."""
