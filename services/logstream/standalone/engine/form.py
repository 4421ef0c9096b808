"""Fields of a multipart/form-data body (RFC 7578): how clickhouse-connect sends parameters too long for a URL."""

import re
from collections.abc import Sequence

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.exceptions import EngineError

_BOUNDARY = re.compile(rb'boundary="?([^";,]+)"?')
_NAME = re.compile(rb'[;\s]name="?([^";]*)"?')


def is_form(content_type: bytes) -> bool:
    return content_type.lower().startswith(b"multipart/form-data")


def fields(content_type: bytes, body: Sequence[bytes]) -> dict[str, str]:
    """Name → text. Raises EngineError: 400 for a malformed body, 501 for a file (external data)."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _malformed("it names no boundary")
    pieces = (b"\r\n" + b"".join(body)).split(b"\r\n--" + found[1].strip())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise _malformed("it ends too early")
    values: dict[str, str] = {}
    for piece in pieces[1:-1]:
        head, separator, value = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not separator or name is None:
            raise _malformed("a part has no name")
        if b"filename=" in head:
            raise EngineError(exceptions.NOT_IMPLEMENTED, "external data are not supported", "NOT_IMPLEMENTED")
        try:
            values[name[1].decode()] = value.decode()
        except UnicodeDecodeError:
            raise _malformed("a field is not UTF-8") from None
    return values


def _malformed(reason: str) -> EngineError:
    return EngineError(exceptions.BAD_ARGUMENTS, f"multipart body cannot be read: {reason}", "BAD_ARGUMENTS")
