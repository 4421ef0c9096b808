"""The connections: two lanes, so that reads never hold up inserts; one thread per connection."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.connection import Connection
from logstream.standalone.engine.exceptions import EngineError

_T = TypeVar("_T")


class Lease:
    """A connection for one statement, with the thread its blocking calls run on."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=connection.name)
        self._running: asyncio.Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is still running, also when nobody waits for it any more."""
        return self._running is not None and not self._running.done()

    async def call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a blocking function on the connection's thread. Being cancelled does not stop it."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        self._running = future
        return await asyncio.shield(future)

    async def idle(self, timeout: float | None = None) -> None:
        """Wait until the call under way has ended, at most `timeout` seconds; its result does not matter."""
        if self._running is not None:
            done, _ = await asyncio.wait({self._running}, timeout=timeout)
            for future in done:
                if not future.cancelled():
                    future.exception()

    def close(self) -> None:
        self._thread.submit(self.connection.close)
        self._thread.shutdown(wait=True)


class Lane:
    """Connections of one purpose, handed out in the order asked for; who waits is bounded."""

    def __init__(self, leases: Sequence[Lease], *, max_waiting: int) -> None:
        self._all = tuple(leases)
        self._free = deque(leases)
        self._waiting: deque[asyncio.Future[Lease]] = deque()
        self._max_waiting = max_waiting

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """A connection of one's own. Raises EngineError 202 when too many wait already."""
        lease = await self._acquire()
        try:
            yield lease
        finally:
            self._release(lease)

    async def _acquire(self) -> Lease:
        if self._free:
            return self._free.popleft()
        if len(self._waiting) >= self._max_waiting:
            raise EngineError(
                exceptions.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries. Maximum: {len(self._all)} running and {self._max_waiting} waiting",
                "TOO_MANY_SIMULTANEOUS_QUERIES",
            )
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release(future.result())
            raise

    def _release(self, lease: Lease) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(lease)
                return
        self._free.append(lease)

    @property
    def leases(self) -> Sequence[Lease]:
        """All of them, free or not."""
        return self._all
