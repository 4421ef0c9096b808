"""Bodies of `/api/v1/deadletters`: what is asked and answered, and letters as JSON."""

import base64
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from logstream.bus.header import MalformedRecord
from logstream.letters.box import Found
from logstream.letters.edit import Changes, shown
from logstream.letters.format import raw_of
from logstream.query.time import MAX_NS, MIN_NS, format_time, parse_time
from logstream.record import Record

MAX_PAGE = 100
MAX_LETTERS = 1_000


class DispositionBody(BaseModel):
    action: str = Field(description="replaying, replayed or discarded.", examples=["replayed"])
    by: str = Field(description="Who.", examples=["user admin@logstream.local"])
    at: str = Field(examples=["2026-01-31T12:05:00Z"])
    changes: dict[str, Any] | None = Field(None, description="What a replay changed.")
    offset: int | None = Field(None, description="Of the replayed line's record in the stream's topic.")


class DeadLetter(BaseModel):
    id: str = Field(examples=["0-17"])
    state: str = Field(description="waiting, replaying, replayed, discarded or expired.", examples=["waiting"])
    stream: str = Field(examples=["default"])
    key_id: str = Field(description="The API key it was sent with.", examples=["k7f3q"])
    incarnation: int = Field(description="Of the log it stood in.")
    partition: int
    offset: int
    row: int | None = Field(description="Its row in the log's record; null when the whole record cannot be read.")
    rows: int = Field(description="How many lines it is.", examples=[1])
    received_at: str = Field(examples=["2026-01-31T12:00:00.5Z"])
    died_at: str = Field(examples=["2026-01-31T12:00:01Z"])
    reason: str = Field(description="What ClickHouse said.")
    clickhouse_code: int = Field(description="ClickHouse's exception code; 0 when it was not asked.", examples=[117])
    record: dict[str, Any] | None = Field(description="The line, where it can be read.")
    attempt: int = Field(description="2 and more: it was replayed and refused again.", examples=[1])
    previous: str | None = Field(None, description="The letter whose replay it is.")
    first: str | None = Field(None, description="The letter where that began.")
    disposition: DispositionBody | None = Field(None, description="What was done last; only of a single letter.")
    raw: str | None = Field(None, description="The bytes in base64; only of a single letter, not in the list.")
    raw_text: str | None = Field(None, description="The bytes as text, where they are text; only of a single letter.")


class DeadLetterPage(BaseModel):
    deadletters: list[DeadLetter] = Field(description="Newest first.")
    next: str | None = Field(
        description="For the parameter `cursor`: the next page; null on the last one. A page may have fewer letters "
        "than asked for, and yet a next one."
    )
    scanned: int = Field(description="How many letters were looked at for this page.")


class FilterBody(BaseModel):
    """Letters that match all that is given."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field("", max_length=1_024, description="Text in message or reason, whatever the case.")
    service: list[str] = Field(default_factory=list, max_length=100, description="Service names.")
    key: str = Field("", max_length=255, description="The API key's id.")
    code: int | None = Field(None, description="ClickHouse's exception code.", examples=[469])
    state: list[str] = Field(default_factory=list, max_length=10, description="Default: waiting, replaying.")
    start_time: str | None = Field(None, max_length=64, description="Died no earlier: RFC 3339 or the epoch.")
    end_time: str | None = Field(None, max_length=64, description="Died no later: RFC 3339 or the epoch.")


class Selection(BaseModel):
    """Which letters: by `ids`, or by `filter`, the newest first and at most `limit`."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] | None = Field(None, max_length=MAX_LETTERS, examples=[["0-17", "0-18"]])
    filter: FilterBody | None = None
    limit: int = Field(100, ge=1, le=MAX_LETTERS, description="Of a filter.")
    cursor: str | None = Field(
        None, max_length=16_384, description="The `next` of the request before: go on with older letters."
    )
    dry_run: bool = Field(False, description="Only say what would be done.")
    force: bool = Field(False, description="Also where an earlier replay may have arrived: a line may then be doubled.")


class SetBody(BaseModel):
    """Fields of the lines to replace; all others stay."""

    model_config = ConfigDict(extra="forbid")

    timestamp: str | None = Field(None, max_length=64, description="RFC 3339 or the epoch.")
    service: str | None = None
    level: str | None = None
    message: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict, description="Keys to set.")


class ReplayRequest(Selection):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"ids": ["0-17"], "set": {"level": "info"}, "drop_metadata": ["blob"]}},
    )
    set: SetBody = Field(default_factory=SetBody)
    drop_metadata: list[str] = Field(default_factory=list, description="Keys to remove.")


class DiscardRequest(Selection):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"filter": {"service": ["payment"]}}})


class Outcome(BaseModel):
    id: str = Field(examples=["0-17"])
    outcome: str = Field(
        description="replayed, discarded; already_replayed, already_discarded, expired, missing; busy: being replayed "
        "now; unreplayable, invalid: see detail; unknown: whether an earlier replay arrived cannot be told; failed: "
        "try again.",
        examples=["replayed"],
    )
    detail: str = ""
    offset: int | None = Field(None, description="Of the line's record in the stream's topic.")


class Disposed(BaseModel):
    stream: str = Field(examples=["default"])
    dry_run: bool
    counts: dict[str, int] = Field(description="Letters by outcome.", examples=[{"replayed": 2}])
    results: list[Outcome]
    records: dict[str, dict[str, Any]] | None = Field(
        None, description="Of a dry run: the lines as they would be sent."
    )
    next: str | None = Field(
        None, description="For `cursor`: there are older letters that match; null: all were taken."
    )


def changes_of(body: ReplayRequest) -> Changes:
    """Raises InvalidValue for a timestamp that is none."""
    given = body.set
    return Changes(
        None if given.timestamp is None else parse_time(given.timestamp, "set.timestamp"),
        given.service, given.level, given.message, given.trace_id, given.span_id, given.metadata, body.drop_metadata,
    )  # fmt: skip


def _time(ns: int) -> str:
    return format_time(min(max(ns, MIN_NS), MAX_NS))


def _with_time(record: Mapping[str, Any]) -> dict[str, Any]:
    timestamp = record.get("timestamp")
    return {**record, "timestamp": _time(timestamp) if isinstance(timestamp, int) else timestamp}


def render_record(record: Record) -> dict[str, Any]:
    """A row that a replay would send."""
    return _with_time(shown(record))


def render(found: Found, *, raw: bool = False) -> dict[str, Any]:
    """A letter as JSON has it. raw: with its bytes and its last disposition."""
    fields = found.fields
    answer: dict[str, Any] = {
        "id": str(found.id),
        "state": found.label,
        "stream": fields.stream,
        "key_id": fields.key_id,
        "incarnation": fields.incarnation,
        "partition": fields.partition,
        "offset": fields.offset,
        "row": fields.row,
        "rows": fields.rows,
        "received_at": _time(fields.received_at),
        "died_at": _time(fields.died_at),
        "reason": fields.reason,
        "clickhouse_code": fields.clickhouse_code,
        "record": _with_time(fields.record) if fields.record else None,
        "attempt": found.attempt,
        "previous": str(found.previous) if found.previous else None,
        "first": str(found.first) if found.first else None,
    }
    if raw:
        answer |= _raw(found) | {"disposition": _disposition(found)}
    return answer


def _raw(found: Found) -> dict[str, Any]:
    try:
        data = raw_of(found.message.value)
    except MalformedRecord:
        return {"raw": None, "raw_text": None}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    readable = bool(text) and all(character.isprintable() or character in "\t\r\n" for character in text)
    return {"raw": base64.b64encode(data).decode(), "raw_text": text if readable else None}


def _disposition(found: Found) -> dict[str, Any] | None:
    last = found.disposition
    if last is None:
        return None
    return {
        "action": last.action,
        "by": last.by,
        "at": _time(last.at),
        "changes": last.changes,
        "offset": dict(last.letters).get(found.id.offset) if last.action == "replayed" else None,
    }
