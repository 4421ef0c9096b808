"""Reads under way: each waits for its turn, a turn for every caller in turn, and ends when its client leaves."""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from logstream.auth.principal import Principal
from logstream.errors import ReadCancelled, TooMany

_T = TypeVar("_T")


class Turns:
    """Who may run now: `running` altogether, `running_per_key` of one key; of those who wait, the key that has the
    fewest running goes first, and the one that waits longest among equals.

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
        line = self._waiting.get(key, ())
        if len(line) >= self._max_waiting_per_key:
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
                self._release(key)
            else:
                self._leave(key, turn)
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
        while self._free:
            ready = [key for key in self._waiting if self._running.get(key, 0) < self._per_key]
            if not ready:
                return
            key = min(ready, key=lambda waiting: self._running.get(waiting, 0))
            turn = self._waiting[key][0]
            self._leave(key, turn)
            if key in self._waiting:
                self._waiting.move_to_end(key)
            self._start(key)
            turn.set_result(None)


class Reads:
    """Every read of the store goes through here."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def run(self, request: Request, principal: Principal, kind: str, read: Callable[[], Awaitable[_T]]) -> _T:
        """What `read()` gives, when its turn comes; cancelled when the client leaves.

        kind: what is read, for people ("search", "histogram"). Raises TooMany, ReadCancelled, and what `read` raises.
        """
        key = f"{principal.kind}:{principal.id}"

        async def work() -> _T:
            async with self._turns.turn(key):
                return await read()

        return await _while_connected(request, work())


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _while_connected(request: Request, read: Awaitable[_T]) -> _T:
    reading = asyncio.ensure_future(read)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise ReadCancelled("the client left")
        return reading.result()
    finally:
        for task in (reading, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
