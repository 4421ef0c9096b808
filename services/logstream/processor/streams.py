"""Which streams a processor serves; they come and go while it runs."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from logstream.stream import Stream


class StreamSource(Protocol):
    def current(self) -> Sequence[Stream]:
        """The streams to serve now. Looked at every second: answers from memory, and raises nothing."""
        ...


class FixedStreams:
    """The same streams all the time."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams = tuple(streams)

    def current(self) -> Sequence[Stream]:
        return self._streams
