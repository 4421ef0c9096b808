"""A line of a log file as one record of a request. Pure, and the same line always gives the same bytes: the
idempotency of a repeated request rests on that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

MESSAGE_NAMES = ("message", "msg", "log", "text", "body", "event", "short_message", "@message")
"""A JSON line with one of these is a record; other JSON is text like any other line."""
SERVICE_NAMES = ("service", "service_name", "service.name", "app", "application")
LEVEL_NAMES = ("level", "severity", "lvl", "loglevel", "log.level", "log_level")
_LOOK_AT = 300
"""Characters at the beginning of a line where its level is looked for."""

_LABELLED = re.compile(
    r"""(?:\b(?:level|lvl|severity)["']?\s*[=:]\s*["']?|[\[<(|])"""
    r"(trace|debug|info|notice|warn|warning|error|err|fatal|crit|critical|alert|emerg|panic|severe)\b",
    re.IGNORECASE,
)
_SHOUTED = re.compile(r"\b(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|FATAL|CRITICAL|ALERT|EMERG|PANIC|SEVERE)\b")
_WORDS = re.compile(r"\b(error|fatal|panic|critical|warning|exception)\b", re.IGNORECASE)
_AS = {
    "trace": "trace", "debug": "debug", "info": "info", "notice": "info", "warn": "warn", "warning": "warn",
    "error": "error", "err": "error", "severe": "error", "exception": "error", "fatal": "fatal", "crit": "fatal",
    "critical": "fatal", "alert": "fatal", "emerg": "fatal", "panic": "fatal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a line gets when it does not say itself. `metadata` is added to every record."""

    service: str
    level: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def guess_level(line: str) -> str:
    """The level that the beginning of a line names: labelled or in brackets, in capitals, or as a plain word;
    "" when it names none."""
    head = line[:_LOOK_AT]
    for pattern in (_LABELLED, _SHOUTED, _WORDS):
        if found := pattern.search(head):
            return _AS[found[1].lower()]
    return ""


def record_of(line: bytes, defaults: Defaults) -> bytes | None:
    """The JSON of one record, without a newline; None for a blank line.

    A JSON object with a message is passed on as it is (numbers keep their digits) with what it lacks added.
    Anything else is a message. Bytes that are not UTF-8 are kept as \\xNN.
    """
    line = line.strip(b"\r\n")
    if not line.strip():
        return None
    if line.lstrip()[:1] == b"{" and (record := _json_record(line, defaults)) is not None:
        return record
    text = line.decode(errors="backslashreplace")
    made: dict[str, object] = {"service": defaults.service, "message": text}
    if level := defaults.level or guess_level(text):
        made["level"] = level
    if defaults.metadata:
        made["metadata"] = dict(defaults.metadata)
    return msgspec.json.encode(made)


def _json_record(line: bytes, defaults: Defaults) -> bytes | None:
    try:
        record = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        # Raw is not checked for UTF-8; the whole line is, here.
        line.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not any(name in record for name in MESSAGE_NAMES):
        return None
    added: dict[str, object] = {}
    if not any(name in record for name in SERVICE_NAMES):
        added["service"] = defaults.service
    if defaults.level and not any(name in record for name in LEVEL_NAMES):
        added["level"] = defaults.level
    if defaults.metadata and not _has_object(record, "metadata"):
        added["metadata"] = dict(defaults.metadata)
    elif defaults.metadata:
        own = msgspec.json.decode(record["metadata"], type=dict[str, msgspec.Raw])
        record["metadata"] = msgspec.Raw(msgspec.json.encode({**defaults.metadata, **own}))
        return msgspec.json.encode({**record, **added})
    if "metadata" in added and "metadata" in record:
        return msgspec.json.encode({**record, **added})
    if not added:
        return line
    return line.rstrip()[:-1] + b"," + msgspec.json.encode(added)[1:]


def _has_object(record: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in record and bytes(record[name]).lstrip()[:1] == b"{"
