"""Lines that name their fields: JSON objects and logfmt."""

import re
from collections.abc import Mapping

import msgspec

from logstream.clock import NS_PER_SECOND
from logstream.formats.model import Parsed, Reading
from logstream.formats.times import GRAMMARS, MAX_TIMESTAMP, TimeReader, day_order
from logstream.record import parse_level

MESSAGE = ("message", "msg", "log", "text", "body", "event", "short_message", "@message", "MESSAGE")
TIME = (
    "timestamp",
    "@timestamp",
    "time",
    "ts",
    "t",
    "datetime",
    "date",
    "asctime",
    "eventTime",
    "__REALTIME_TIMESTAMP",
)
LEVEL = ("level", "severity", "lvl", "loglevel", "log.level", "log_level", "levelname", "severity_text", "PRIORITY")
SERVICE = ("service", "service_name", "service.name", "app", "application", "SYSLOG_IDENTIFIER")
COMPONENT = ("component", "logger", "logger_name", "log.logger", "name", "module", "caller")
MAX_KEYS = 256
"""Fields of one line that are kept."""
_DEPTH = 6

_KEY = r"[A-Za-z_@][\w.@/-]{0,200}+"
_PAIR = re.compile(rf'({_KEY})=(?:"((?:[^"\\]|\\.)*+)"|([^\s"]*+))(?=\s|$)', re.ASCII | re.DOTALL)
_SPACE = re.compile(r"\s*+")
_FLOAT = re.compile(r"[0-9]{10}\.[0-9]{1,30}")
_ESCAPE = re.compile(r'\\(["\\])')


class Moments:
    """Times in any grammar, as values of fields."""

    def __init__(self, reading: Reading, texts: tuple[str, ...] = ()) -> None:
        self._readers = [
            (re.compile(g.fragment(), re.ASCII), TimeReader(g, reading, day_order(texts, reading))) for g in GRAMMARS
        ]

    def read(self, text: str) -> int | None:
        text = text.strip()
        if _FLOAT.fullmatch(text) is not None:
            # A float of seconds: its digits, not its value in binary.
            seconds, _, fraction = text.partition(".")
            ns = int(seconds) * NS_PER_SECOND + int(fraction[:9].ljust(9, "0"))
            return ns if ns <= MAX_TIMESTAMP else None
        for number, (regex, reader) in enumerate(self._readers):
            if (found := regex.fullmatch(text)) is not None:
                if number:
                    self._readers.insert(0, self._readers.pop(number))
                return reader.read(found["t"], found["f"], found["z"])
        return None


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line as LogStream's API and its exports write it."""

    timestamp: str
    service: str
    level: str
    message: str
    metadata: dict[str, str]
    trace_id: str = ""
    span_id: str = ""
    id: str = ""


class JsonFormat:
    """One JSON object a line; nested keys are joined with dots. LogStream's own lines come back as they were."""

    name = "json"

    def __init__(self, reading: Reading, moments: Moments | None = None) -> None:
        self._moments = moments or Moments(reading)
        self._decoder = msgspec.json.Decoder(dict[str, object])
        self._lines = msgspec.json.Decoder(_Line)

    def parse(self, line: str) -> Parsed | None:
        if line.lstrip()[:1] != "{":
            return None
        return self._own(line) or self._any(line)

    def _own(self, line: str) -> Parsed | None:
        try:
            own = self._lines.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
            return None
        timestamp, level = self._moments.read(own.timestamp), parse_level(own.level)
        if timestamp is None or level is None:
            return None
        ids = {name: text for name, text in (("trace_id", own.trace_id), ("span_id", own.span_id)) if text}
        return Parsed(timestamp, int(level), own.service, own.message, own.metadata | ids)

    def _any(self, line: str) -> Parsed | None:
        try:
            document = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
            return None
        fields: dict[str, str] = {}
        _flatten(document, "", fields, 0)
        return _assemble(fields, self._moments, line)


def _flatten(document: Mapping[str, object], prefix: str, fields: dict[str, str], depth: int) -> None:
    for name, value in document.items():
        if len(fields) >= MAX_KEYS:
            return
        if isinstance(value, dict) and depth < _DEPTH:
            _flatten(value, f"{prefix}{name}.", fields, depth + 1)
        elif isinstance(value, str):
            fields[prefix + name] = value
        elif value is not None:
            fields[prefix + name] = msgspec.json.encode(value).decode()


class LogfmtFormat:
    """key=value pairs, values with spaces in double quotes."""

    name = "logfmt"

    def __init__(self, reading: Reading, moments: Moments | None = None) -> None:
        self._moments = moments or Moments(reading)

    def parse(self, line: str) -> Parsed | None:
        fields: dict[str, str] = {}
        at, end = _SPACE.match(line).end(), len(line)  # type: ignore[union-attr]
        while at < end:
            pair = _PAIR.match(line, at)
            if pair is None or len(fields) >= MAX_KEYS:
                return None
            quoted = pair[2]
            fields[pair[1]] = pair[3] if quoted is None else _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted
            at = _SPACE.match(line, pair.end()).end()  # type: ignore[union-attr]
        return _assemble(fields, self._moments, line) if len(fields) >= 2 else None


def _assemble(fields: dict[str, str], moments: Moments, line: str) -> Parsed:
    timestamp = None
    for name in TIME:
        if name in fields and (timestamp := moments.read(fields[name])) is not None:
            del fields[name]
            break
    level = None
    for name in LEVEL:
        if name in fields and (level := parse_level(fields[name])) is not None:
            del fields[name]
            break
    service = _take(fields, SERVICE)
    message = _take(fields, MESSAGE)
    for name in COMPONENT:
        if name in fields:
            fields["component"] = fields.pop(name)
            break
    return Parsed(timestamp, None if level is None else int(level), service, message or line, fields)


def _take(fields: dict[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if fields.get(name):
            return fields.pop(name)
    return ""
