"""One record as a line of JSON in the form that the collector decodes fastest: strings for metadata values."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

MAX_DEPTH = 8
"""Levels of mappings that are taken apart into dotted names; deeper ones keep their text."""

_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(
    *,
    timestamp: int,
    service: str,
    level: str,
    message: str,
    metadata: dict[str, str],
    trace_id: str = "",
    span_id: str = "",
) -> bytes:
    """A line without its end. timestamp: nanoseconds since the Unix epoch."""
    record: dict[str, Any] = {
        "timestamp": timestamp, "service": service, "level": level, "message": message, "metadata": metadata,
    }  # fmt: skip
    if trace_id:
        record["trace_id"] = trace_id
    if span_id:
        record["span_id"] = span_id
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:
        # Lone surrogates, as os.fsdecode makes them of bytes that are not UTF-8.
        return _encoder.encode({name: _repaired(value) for name, value in record.items()})


def flatten(values: Mapping[Any, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """Names and texts of `values`; nested mappings with dotted names, as the collector does it."""
    for key, value in values.items():
        name = prefix + (key if type(key) is str else text(key))
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
            yield from flatten(value, name + ".", depth + 1)
        else:
            yield name, text(value)


def text(value: object) -> str:
    """A string as it is, anything else as JSON where it has a JSON form; never raises."""
    if type(value) is str:
        return value
    try:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, float):
            return repr(value)  # JSON has no inf and nan
        if isinstance(value, (int, list, tuple, dict, type(None))):
            return _encoder.encode(value).decode()
        return str(value)
    except Exception:
        # Cycles, integers beyond 64 bits, and __str__ methods of others.
        try:
            return repr(value)
        except Exception:
            return f"<{type(value).__name__} without a text>"


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_repaired(name): _repaired(item) for name, item in value.items()}
    return value
