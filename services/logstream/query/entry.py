"""A line as the API answers it: JSON made by msgspec, once per line however many clients read it."""

from collections.abc import Iterable

import msgspec

from logstream.query.time import format_time
from logstream.record import LEVEL_LABELS, Batch, Record

_ENCODER = msgspec.json.Encoder()


class Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """`{timestamp, service, level, message, metadata}`, and the trace's ids where the line has them.

    timestamp: RFC 3339, UTC, up to nine digits.
    """

    timestamp: str
    service: str
    level: str
    message: str
    metadata: dict[str, str]
    trace_id: str = ""
    span_id: str = ""


def render(batch: Batch, row: int) -> bytes:
    """Row `row` of `batch` as a JSON object, without line breaks."""
    return _ENCODER.encode(
        Entry(
            format_time(batch.timestamps[row]),
            batch.services[row],
            LEVEL_LABELS[batch.levels[row] - 1],
            batch.messages[row],
            batch.metadata[row],
            batch.trace_ids[row],
            batch.span_ids[row],
        )
    )


def render_all(records: Iterable[Record]) -> bytes:
    """`records` as one JSON array."""
    return _ENCODER.encode([
        Entry(
            format_time(r.timestamp), r.service, LEVEL_LABELS[r.level - 1], r.message, r.metadata, r.trace_id, r.span_id
        )
        for r in records
    ])  # fmt: skip
