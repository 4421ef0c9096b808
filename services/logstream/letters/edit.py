"""What is changed in a letter's rows before they are sent again, and the rows themselves. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from logstream.bus import header
from logstream.bus.header import Kind, MalformedRecord, Segment
from logstream.errors import InvalidValue, LogStreamError
from logstream.letters.format import Fields, raw_of
from logstream.record import Batch, Level, Record, parse_level
from logstream.settings import IngestLimits
from logstream.storage.block import MalformedBlock, decode, encode

_MIN_NS = -2_208_988_800_000_000_000  # 1900-01-01, where DateTime64 begins
_MAX_NS = 2**63 - 1


class Unreplayable(LogStreamError):
    """The letter's rows cannot be told: it can be downloaded and discarded."""

    code = "unreplayable"


@dataclass(frozen=True, slots=True)
class Changes:
    """The same for every row; None leaves a field as it is. timestamp: ns. metadata: set; drop_metadata: removed."""

    timestamp: int | None = None
    service: str | None = None
    level: str | None = None
    message: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    drop_metadata: Sequence[str] = ()

    def dump(self) -> dict[str, Any] | None:
        """As a disposition keeps it: what is changed, None when nothing is."""
        fields: dict[str, Any] = {}
        for name in ("timestamp", "service", "level", "message", "trace_id", "span_id"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        if self.metadata:
            fields["metadata"] = dict(self.metadata)
        if self.drop_metadata:
            fields["drop_metadata"] = sorted(set(self.drop_metadata))
        return fields or None

    @classmethod
    def load(cls, fields: Mapping[str, Any] | None) -> "Changes":
        """The inverse of `dump`. Raises MalformedRecord."""
        try:
            return cls(**(fields or {}))
        except TypeError as error:
            raise MalformedRecord(f"changes of a later version of LogStream: {error}") from error

    def check(self, limits: IngestLimits) -> None:
        """Raises InvalidValue naming the field and the limit that ingestion has, too."""
        if self.timestamp is not None and not _MIN_NS <= self.timestamp <= _MAX_NS:
            raise InvalidValue(
                "set.timestamp must lie between 1900-01-01 and 2262-04-11",
                field="set.timestamp", limit="1900-01-01/2262-04-11",
            )  # fmt: skip
        if self.level is not None and parse_level(self.level) is None:
            raise InvalidValue(
                f"set.level must be trace, debug, info, warn, error or fatal: {self.level[:32]!r}", field="set.level"
            )
        if self.service == "":
            raise InvalidValue("set.service must not be empty", field="set.service")
        _bounded("set.message", self.message, limits.max_message_bytes)
        for name in ("service", "trace_id", "span_id"):
            _bounded(f"set.{name}", getattr(self, name), limits.max_name_bytes)
        for key, value in self.metadata.items():
            if not key:
                raise InvalidValue("set.metadata has an empty key", field="set.metadata")
            _bounded("set.metadata", key, limits.max_name_bytes)
            _bounded(f"set.metadata.{key}", value, limits.max_metadata_value_bytes)
        for what, count in (("set.metadata", len(self.metadata)), ("drop_metadata", len(self.drop_metadata))):
            if count > limits.max_metadata_keys:
                raise InvalidValue(
                    f"{what} has {count} keys, more than {limits.max_metadata_keys}",
                    field=what, limit=limits.max_metadata_keys,
                )  # fmt: skip

    def apply(self, record: Record) -> Record:
        """The record as it is sent."""
        given: dict[str, Any] = {
            name: value
            for name in ("timestamp", "service", "message", "trace_id", "span_id")
            if (value := getattr(self, name)) is not None
        }
        level = parse_level(self.level) if self.level is not None else None
        if level is not None:
            given["level"] = int(level)
        if self.metadata or self.drop_metadata:
            dropped = set(self.drop_metadata)
            kept = {key: value for key, value in record.metadata.items() if key not in dropped}
            given["metadata"] = kept | dict(self.metadata)
        return replace(record, **given)


def _bounded(what: str, value: str | None, limit: int) -> None:
    if value is None:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{what} is no valid Unicode: {error.reason}", field=what) from error
    if size > limit:
        raise InvalidValue(f"{what} has {size} bytes, more than {limit}", field=what, limit=limit)


@dataclass(frozen=True, slots=True)
class Material:
    """What is published in a letter's place. Times in ns."""

    payload: bytes
    rows: int
    segments: tuple[Segment, ...]
    min_timestamp: int
    max_timestamp: int
    preview: Record
    """The first row."""


def material(fields: Fields, value: bytes, changes: Changes, limits: IngestLimits) -> Material:
    """The rows of the letter, whose record on the dead-letter topic is `value`, changed.

    Raises Unreplayable, and InvalidValue when a changed row has more metadata than ingestion takes.
    """
    try:
        raw = raw_of(value)
        if fields.row is None:
            head, body = header.decode(raw)
            if head.kind is not Kind.BLOCK or not head.rows:
                raise MalformedRecord("it is no block of rows")
            segments, rows = head.segments, head.rows
        else:
            segments, rows, body = (Segment(fields.key_id, fields.rows),), fields.rows, memoryview(raw)
        batch = decode(body, rows)
    except (MalformedRecord, MalformedBlock) as error:
        raise Unreplayable(
            f"its rows cannot be told apart ({error.message}); download its bytes, then discard it"
        ) from error
    payload = bytes(body)
    if changes != Changes():
        batch = Batch.of([changes.apply(record) for record in batch])
        most = max(map(len, batch.metadata))
        if most > limits.max_metadata_keys:
            raise InvalidValue(
                f"with set.metadata a row has {most} metadata keys, more than {limits.max_metadata_keys}",
                field="set.metadata", limit=limits.max_metadata_keys,
            )  # fmt: skip
        payload = encode(batch)
    return Material(payload, rows, segments, min(batch.timestamps), max(batch.timestamps), next(iter(batch)))


def shown(record: Record) -> dict[str, Any]:
    """A row as letters show it, timestamp in ns."""
    return {
        "timestamp": record.timestamp,
        "service": record.service,
        "level": Level(record.level).label,
        "message": record.message,
        "metadata": record.metadata,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
    }
