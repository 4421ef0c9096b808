"""How many bytes of requests the collector holds at once: the bound on its memory."""

from logstream.errors import Unavailable
from logstream.metrics import INGEST_PENDING_BYTES


class Budget:
    """Bytes of all requests being read, decoded or waiting for the log."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        INGEST_PENDING_BYTES.set_function(lambda: self._used)

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> None:
        """Raises Unavailable when `size` more bytes would exceed the limit."""
        if self._used + size > self._limit:
            raise Unavailable(
                f"the collector holds {self._used} bytes of requests and takes no more than {self._limit}",
                field="max_pending_bytes",
                limit=self._limit,
            )
        self._used += size

    def give_back(self, size: int) -> None:
        self._used -= size


class Hold:
    """What one request has taken from a budget; released as a whole."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Raises Unavailable when the budget is used up."""
        self._budget.take(size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Give back `size` bytes that are not held any more."""
        self._budget.give_back(size)
        self.size -= size

    def release(self) -> None:
        self._budget.give_back(self.size)
        self.size = 0
