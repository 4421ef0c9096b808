"""The patient way: one record of any shape, to a `Record` or to a reason why not.

Rules, in order (docs/ingest.md has them with examples):

- The record is a JSON object. Nested objects are flattened with dots; what lies deeper than
  `max_metadata_depth`, and every array, keeps its JSON text, as do numbers, booleans and nulls.
- `timestamp`, `service`, `level`, `message`, `trace_id`, `span_id` are looked for under the names of
  `ALIASES`, in that order, in any case; null counts as absent. The first found is taken.
- The members of `metadata` are metadata. Every other field goes there too, under its own name; when that is
  taken, with `_2`, `_3` … behind it.
- Of two members of one object with the same name the last one counts.
- Bytes that are not UTF-8 and lone surrogates become U+FFFD, with a mark.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from logstream.collector.decode import timestamps
from logstream.collector.decode.typed import DEFAULT_SERVICE, MARK_PREFIX
from logstream.record import Level, Record, parse_level
from logstream.settings import MIB, IngestLimits

ALIASES: dict[str, tuple[str, ...]] = {
    "timestamp": ("timestamp", "@timestamp", "time", "ts", "datetime", "@t"),
    "service": (
        "service", "service.name", "service_name", "servicename", "app", "app_name", "appname", "application",
    ),
    "level": (
        "level", "severity", "lvl", "loglevel", "log_level", "log.level", "levelname", "severity_text",
        "severitytext", "@l",
    ),
    "message": ("message", "msg", "log", "body", "text", "event", "@message", "@m"),
    "trace_id": ("trace_id", "traceid", "trace.id"),
    "span_id": ("span_id", "spanid", "span.id"),
}  # fmt: skip
"""Names of each field in order of preference, compared without case; dotted ones may be nested objects."""

TRUNCATED = MARK_PREFIX + "truncated"
"""Names the fields that were cut, comma-separated: `message`, `metadata.<key>`."""
UNKNOWN_LEVEL = MARK_PREFIX + "level"
"""Keeps a level that is none of the known names; the record itself gets `info`."""
REPAIRED = MARK_PREFIX + "repaired"
"""`utf8` and/or `surrogates`: what was replaced by U+FFFD."""

_RANK: dict[str, tuple[str, int]] = {
    alias: (field, rank) for field, names in ALIASES.items() for rank, alias in enumerate(names)
}
_SEVERITY_NUMBER = frozenset({"severity_number", "severitynumber"})
_MESSAGES = frozenset({"message", "msg"})
"""These keep their JSON text also when they are objects: the record would have no message otherwise."""
_BRACE, _BRACKET, _QUOTE = b'{["'
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()
# One JSON escape: a whole surrogate pair, a lone surrogate, or any other.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_MAX_SHOWN_FIELDS = 16
_MAX_REPAIRED_BYTES = 16 * MIB
"""A longer record is not repaired: that takes a dozen times its size of memory."""


class Refused(Exception):
    """The record is not accepted. `code` is stable, `reason` a sentence that names field and limit."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record, and whether a value of it was cut to its limit."""

    record: Record
    truncated: bool


@dataclass(slots=True)
class _Field:
    """One flattened member: its name as sent, its text, whether it was a JSON string or null."""

    name: str
    text: str
    is_null: bool = False


def decode(value: bytes, *, now: int, latest: int, limits: IngestLimits) -> Accepted:
    """One record from its JSON text.

    now: what a record without a timestamp gets. latest: the last timestamp allowed, ns. Raises Refused.
    """
    repaired = ""
    try:
        try:
            fields, metadata = _flatten(value, limits)
        except ValueError:
            value, repaired = _repair(value)
            if not repaired:
                raise
            fields, metadata = _flatten(value, limits)
    except ValueError as error:
        raise _malformed(error) from None
    except RecursionError:
        raise Refused("nesting_too_deep", "the record is nested too deeply to be read") from None
    return _assemble(fields, metadata, repaired, now=now, latest=latest, limits=limits)


def _malformed(error: ValueError) -> Refused:
    if isinstance(error, msgspec.ValidationError):
        return Refused("not_an_object", "the record is not a JSON object")
    return Refused("malformed_json", f"the record is not valid JSON: {error}"[:200])


def _flatten(value: bytes, limits: IngestLimits) -> tuple[list[_Field], list[_Field]]:
    """Top-level fields and the members of `metadata`, flattened. Raises ValueError, RecursionError, Refused."""
    fields: list[_Field] = []
    metadata: list[_Field] = []
    for name, raw in _OBJECT.decode(value).items():
        text = bytes(raw)
        is_object = text[0] == _BRACE
        if name != "metadata":
            if is_object and name not in _MESSAGES:
                fields.extend(_walk(name, text, limits.max_metadata_depth, limits))
            else:
                fields.append(_leaf(name, text))
        elif is_object:
            for key, inner in _OBJECT.decode(text).items():
                text = bytes(inner)
                if text[0] == _BRACE:
                    metadata.extend(_walk(key, text, limits.max_metadata_depth - 1, limits))
                else:
                    metadata.append(_leaf(key, text))
        elif text != b"null":
            metadata.append(_leaf("metadata", text))
    return fields, metadata


def _walk(name: str, text: bytes, depth: int, limits: IngestLimits) -> Iterator[_Field]:
    """The leaves below an object, in order, without recursion: depth is the sender's choice."""
    stack: list[tuple[str, bytes, int]] = [(name, text, depth)]
    while stack:
        name, text, depth = stack.pop()
        # Checked on the way down: each member below repeats the name, so a long one would multiply.
        _named(name, "metadata key", limits)
        if text[0] == _BRACE and depth > 0:
            members = _OBJECT.decode(text)
            if members:
                stack.extend((f"{name}.{key}", bytes(raw), depth - 1) for key, raw in reversed(members.items()))
                continue
        yield _leaf(name, text)


def _leaf(name: str, text: bytes) -> _Field:
    first = text[0]
    if first == _QUOTE:
        return _Field(name, _STRING.decode(text))
    if first in (_BRACE, _BRACKET):
        _ANY.decode(text)  # raw text was only skimmed: strings in it may be malformed
    return _Field(name, text.decode(), is_null=text == b"null")


def _repair(value: bytes) -> tuple[bytes, str]:
    """`value` without invalid UTF-8 and lone surrogates, and what was replaced ("" for nothing)."""
    if len(value) > _MAX_REPAIRED_BYTES:
        return value, ""
    done = []
    try:
        value.decode()
    except UnicodeDecodeError:
        value = value.decode("utf-8", "replace").encode()
        done.append("utf8")
    fixed = _ESCAPE.sub(lambda m: b"\\ufffd" if m.group(1) else m.group(), value)
    if fixed != value:
        done.append("surrogates")
    return fixed, ",".join(done)


def _assemble(
    fields: list[_Field], metadata: list[_Field], repaired: str, *, now: int, latest: int, limits: IngestLimits
) -> Accepted:
    claimed = _claim(fields)
    cut: list[str] = []
    kept = _metadata(fields, metadata, claimed, cut, limits)

    message = claimed.get("message")
    if message is None:
        raise Refused("missing_message", f"the record has no message (any of {', '.join(ALIASES['message'])})")
    text = _truncated(message.text, limits.max_message_bytes, "message", cut)

    timestamp = now
    if (stamp := claimed.get("timestamp")) is not None:
        try:
            timestamp = timestamps.parse(stamp.text)
            timestamps.check_future(timestamp, latest, limits.max_future_seconds)
        except timestamps.TimestampError as error:
            raise Refused(error.code, error.reason) from None

    names = {}
    for field in ("service", "trace_id", "span_id"):
        found = claimed.get(field)
        names[field] = _named(found.text, field, limits) if found is not None else ""

    level: Level | None = Level.INFO
    if (sent := claimed.get("level")) is not None and sent.text:
        level = _level(sent)
        if level is None:
            kept[UNKNOWN_LEVEL] = _truncated(sent.text, limits.max_metadata_value_bytes, "level", cut)
    if repaired:
        kept[REPAIRED] = repaired
    if cut:
        shown = cut[:_MAX_SHOWN_FIELDS]
        kept[TRUNCATED] = ",".join(shown) + (f",+{len(cut) - len(shown)}" if len(cut) > len(shown) else "")
    record = Record(
        timestamp=timestamp,
        service=names["service"] or DEFAULT_SERVICE,
        level=level or Level.INFO,
        message=text,
        metadata=kept,
        trace_id=names["trace_id"],
        span_id=names["span_id"],
    )
    return Accepted(record, truncated=bool(cut))


def _claim(fields: list[_Field]) -> dict[str, _Field]:
    """Which member is which field: the first of the aliases that is there and not null."""
    claimed: dict[str, _Field] = {}
    ranks: dict[str, int] = {}
    severity_number: _Field | None = None
    for member in fields:
        folded = member.name.lower()
        known = _RANK.get(folded)
        if known is None:
            if folded in _SEVERITY_NUMBER and not member.is_null:
                severity_number = member
            continue
        field, rank = known
        if not member.is_null and rank < ranks.get(field, len(_RANK)):
            claimed[field] = member
            ranks[field] = rank
    if "level" not in claimed and severity_number is not None:
        claimed["level"] = severity_number
    return claimed


def _level(member: _Field) -> Level | None:
    if member.name.lower() in _SEVERITY_NUMBER:
        # OpenTelemetry, "Logs Data Model", SeverityNumber: four numbers for each of six severities.
        return Level((int(member.text) + 3) // 4) if member.text in _OTEL_NUMBERS else None
    return parse_level(member.text)


_OTEL_NUMBERS = frozenset(map(str, range(1, 25)))


def _metadata(
    fields: list[_Field], metadata: list[_Field], claimed: dict[str, _Field], cut: list[str], limits: IngestLimits
) -> dict[str, str]:
    """What becomes metadata. A null under the name of a known field is absent, not metadata."""
    taken = {id(member) for member in claimed.values()}
    kept: dict[str, str] = {}
    others = (m for m in fields if id(m) not in taken and not (m.is_null and m.name.lower() in _RANK))
    for members in (metadata, others):
        for member in members:
            key = _free(_named(member.name, "metadata key", limits), kept)
            if len(kept) >= limits.max_metadata_keys:
                raise Refused(
                    "too_many_metadata_keys",
                    f"the record has more than {limits.max_metadata_keys} metadata keys (max_metadata_keys)",
                )
            kept[key] = _truncated(member.text, limits.max_metadata_value_bytes, f"metadata.{key}", cut)
    return kept


def _free(key: str, taken: dict[str, str]) -> str:
    if key not in taken:
        return key
    number = 2
    while f"{key}_{number}" in taken:
        number += 1
    return f"{key}_{number}"


def _named(text: str, field: str, limits: IngestLimits) -> str:
    size = len(text) if text.isascii() else len(text.encode())
    if size > limits.max_name_bytes:
        raise Refused(
            "name_too_long", f"{field} has {size} bytes, more than {limits.max_name_bytes} (max_name_bytes): "
            f"{text[:32]!a}...",
        )  # fmt: skip
    return text


def _truncated(text: str, limit: int, field: str, cut: list[str]) -> str:
    """`text` within `limit` bytes of UTF-8, ending on a whole character."""
    if len(text) * 4 <= limit or (len(text) <= limit and text.isascii()):
        return text
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    cut.append(field)
    return encoded[:limit].decode("utf-8", "ignore")
