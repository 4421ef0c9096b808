"""Who may read now: a bounded number side by side, and callers in turn."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from logstream.errors import TooMany


class Turns:
    """`running` altogether, `running_per_key` of one caller. Of those who wait the caller with the fewest running
    goes first, among equals the one whose last turn is longest ago.

    waiting, waiting_per_key: how many may wait; the next is refused.
    """

    def __init__(self, *, running: int, running_per_key: int, waiting: int, waiting_per_key: int) -> None:
        self._free = running
        self._per_key = running_per_key
        self._max_waiting = waiting
        self._max_waiting_per_key = waiting_per_key
        self._running: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._waiting_count = 0

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Runs the block when the turn of `key` has come. Raises TooMany."""
        await self._acquire(key)
        try:
            yield
        finally:
            self._release(key)

    async def _acquire(self, key: str) -> None:
        if self._free and self._running.get(key, 0) < self._per_key:
            self._start(key)
            return
        if len(self._waiting.get(key, ())) >= self._max_waiting_per_key:
            limit = self._per_key + self._max_waiting_per_key
            raise TooMany(f"{limit} reads of this caller run or wait already", field="reads_per_key", limit=limit)
        if self._waiting_count >= self._max_waiting:
            raise TooMany(f"{self._max_waiting} reads are waiting already", field="reads", limit=self._max_waiting)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._waiting_count += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(key)  # it came at the same moment
            else:
                self._leave(key, turn)
                self._next()
            raise

    def _start(self, key: str) -> None:
        self._free -= 1
        self._running[key] = self._running.get(key, 0) + 1

    def _release(self, key: str) -> None:
        self._free += 1
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._next()

    def _leave(self, key: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting[key]
        line.remove(turn)
        self._waiting_count -= 1
        if not line:
            del self._waiting[key]

    def _next(self) -> None:
        """Give what is free to those who wait."""
        while self._free:
            ready = [key for key in self._waiting if self._running.get(key, 0) < self._per_key]
            if not ready:
                return
            key = min(ready, key=lambda waiting: self._running.get(waiting, 0))
            line = self._waiting[key]
            turn = next((one for one in line if not one.done()), None)
            if turn is None:  # all were cancelled, and leave when their tasks run
                return
            self._leave(key, turn)
            if key in self._waiting:
                self._waiting.move_to_end(key)
            self._start(key)
            turn.set_result(None)
