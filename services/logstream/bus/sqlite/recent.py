"""The newest records in memory, so that the processor and tails usually read no file."""

from collections import OrderedDict
from collections.abc import Sequence

from logstream.bus.protocol import Message


class _Run:
    """Consecutive records of one lane, the last one being the lane's newest. `head` counts dropped ones."""

    __slots__ = ("head", "messages")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.head = 0

    def drop_oldest(self) -> int:
        """Bytes freed."""
        message = self.messages[self.head]
        self.head += 1
        if self.head > 1024 and self.head * 2 > len(self.messages):
            del self.messages[: self.head]
            self.head = 0
        else:
            self.messages[self.head - 1] = _DROPPED
        return len(message.value)


_DROPPED = Message(0, 0, b"")


class RecentRecords:
    """Up to `max_bytes` of values over all lanes; the lane not written to for longest gives way first.

    Used from one thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._runs: OrderedDict[int, _Run] = OrderedDict()

    def add(self, lane: int, messages: Sequence[Message]) -> None:
        """The records that were just appended to `lane`, in order."""
        if self._max_bytes <= 0:
            return
        run = self._runs.pop(lane, None) or _Run()
        if run.head < len(run.messages) and messages and run.messages[-1].offset + 1 != messages[0].offset:
            # Records in between were committed though the commit seemed to fail: readers find them in the file.
            self._bytes -= sum(len(message.value) for message in run.messages[run.head :])
            run = _Run()
        self._runs[lane] = run
        run.messages.extend(messages)
        self._bytes += sum(len(m.value) for m in messages)
        while self._bytes > self._max_bytes:
            first, oldest = next(iter(self._runs.items()))
            if oldest.head < len(oldest.messages):
                self._bytes -= oldest.drop_oldest()
            else:
                del self._runs[first]

    def forget(self, lane: int) -> None:
        run = self._runs.pop(lane, None)
        if run is not None:
            self._bytes -= sum(len(message.value) for message in run.messages[run.head :])

    def read(self, lane: int, offset: int, max_bytes: int) -> Sequence[Message] | None:
        """As `Bus.read` from memory; None when the record at `offset` is not there."""
        run = self._runs.get(lane)
        if run is None or run.head == len(run.messages):
            return None
        at = run.head + offset - run.messages[run.head].offset
        if not run.head <= at < len(run.messages):
            return None
        end, size = at, 0
        while end < len(run.messages):
            size += len(run.messages[end].value)
            if size > max_bytes and end > at:
                break
            end += 1
        return run.messages[at:end]
