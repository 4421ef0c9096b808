"""What the partitions of all streams share: memory for records, and the right to have an INSERT under way."""

import asyncio
from collections import Counter, OrderedDict, deque

from logstream.processor.retry import Stopped


class Budget:
    """Bytes of records in memory, shared out evenly: to streams first, then to each stream's partitions.

    Only those that hold something count. An account may always take one record, so that nobody stands still: the
    bytes held are at most `total` and one record a partition.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self.held = 0
        self._accounts: dict[str, set[Account]] = {}

    def open(self, stream: str) -> "Account":
        """An account of one of the stream's partitions."""
        return Account(self, stream)

    def room(self, account: "Account") -> int:
        """Bytes that `account` may take now; none when this is not positive."""
        active = self._accounts.get(account.stream, set()) | {account}
        streams = len(self._accounts.keys() | {account.stream})
        share = self._total // (streams * len(active))
        return min(self._total - self.held, share - account.held)

    def change(self, account: "Account", size: int) -> None:
        self.held += size
        account.held += size
        active = self._accounts.setdefault(account.stream, set())
        if account.held:
            active.add(account)
        else:
            active.discard(account)
        if not active:
            del self._accounts[account.stream]


class Account:
    """What one partition holds."""

    __slots__ = ("_budget", "held", "stream")

    def __init__(self, budget: Budget, stream: str) -> None:
        self._budget = budget
        self.stream = stream
        self.held = 0

    @property
    def room(self) -> int:
        """Bytes that it may take now; none when this is not positive."""
        return self._budget.room(self)

    def take(self, size: int) -> None:
        """`size` bytes came in; asked for or not."""
        self._budget.change(self, size)

    def give(self, size: int) -> None:
        self._budget.change(self, -size)

    def close(self) -> None:
        """Give back everything. Idempotent."""
        if self.held:
            self.give(self.held)


class Slots:
    """INSERTs under way: at most `count`, handed out to streams in turn.

    As long as another stream is about, one of several is kept free of any one stream: its INSERTs may all hang.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._members: Counter[str] = Counter()

    def join(self, stream: str) -> None:
        """`stream` is served by this process."""
        self._members[stream] += 1

    def leave(self, stream: str) -> None:
        self._members[stream] -= 1
        if self._members[stream] <= 0:
            del self._members[stream]
        self._hand_out()

    async def acquire(self, stream: str, stop: asyncio.Event) -> None:
        """Wait for a turn; `release` ends it. Raises Stopped when `stop` is set before."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, deque()).append(turn)
        self._hand_out()
        if turn.done():
            return
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((turn, stopping), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                self.release(stream)
            raise
        finally:
            stopping.cancel()
            self._forget(stream, turn)
        if not turn.done():
            raise Stopped

    def release(self, stream: str) -> None:
        self._held[stream] -= 1
        if not self._held[stream]:
            del self._held[stream]
        self._hand_out()

    def _forget(self, stream: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(stream)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[stream]

    def _limit(self, stream: str) -> int:
        others = len(self._members.keys() - {stream})
        return max(1, self._count - 1) if others else self._count

    def _hand_out(self) -> None:
        while self._held.total() < self._count:
            stream = next((s for s in self._waiting if self._held[s] < self._limit(s)), None)
            if stream is None:
                return
            queue = self._waiting.pop(stream)
            turn = queue.popleft()
            if queue:
                # Behind all others that wait.
                self._waiting[stream] = queue
            self._held[stream] += 1
            turn.set_result(None)
