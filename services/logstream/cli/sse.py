"""Server-Sent Events from bytes. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines end
with LF, CR or CRLF only: JSON may hold other characters that `str.splitlines` would break at.
"""

from dataclasses import dataclass

from logstream.cli.failure import Failure

MAX_EVENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last one seen, also by an earlier event."""

    data: str
    kind: str = "message"
    id: str = ""


class Parser:
    """Feed it what arrives; it answers with the events that are complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._size = 0
        self._data: list[str] = []
        self._kind = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises Failure for an event larger than MAX_EVENT_BYTES."""
        self._rest += chunk
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise Failure("the server sent an event larger than 64 MiB; is this the LogStream API?")
        # A CR at the very end may be half of a CRLF: wait for the next byte.
        held = b"\r" if self._rest.endswith(b"\r") else b""
        text = (self._rest[:-1] if held else self._rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            event = Event("\n".join(self._data), self._kind or "message", self._id) if self._data else None
            self._data, self._kind, self._size = [], "", 0
            return event
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
