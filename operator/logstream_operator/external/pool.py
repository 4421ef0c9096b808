"""Clients of backends, one for each set of settings, opened when they are needed and closed when they were not used.

A backend that did not answer is not asked again for a moment: with hundreds of resources on it, each would hold a
worker until its own question has timed out. One that answers, but not to this question, goes on for all others.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from logstream.clock import Clock
from logstream.errors import Unavailable
from logstream.logs import get_logger

REST_SECONDS = 3.0
IDLE_SECONDS = 300.0

_log = get_logger("operator")


class Closing(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


@dataclass(slots=True)
class _Client(Generic[C]):
    opened: C | None = None
    users: int = 0
    used_at: float = 0.0
    away: Unavailable | None = None
    away_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool(Generic[C]):
    """most: clients kept open though nobody uses them. reach: raises when the backend does not answer at all; None: any
    Unavailable is taken to say so."""

    def __init__(self, clock: Clock, *, most: int = 16, reach: Callable[[C], Awaitable[None]] | None = None) -> None:
        self._reach = reach
        self._clock = clock
        self._most = most
        self._clients: OrderedDict[Hashable, _Client[C]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def use(self, key: Hashable, make: Callable[[], Awaitable[C]]) -> AsyncIterator[C]:
        """The client of `key`. Raises what `make` raises; and at once the Unavailable of a moment ago, when
        the backend was away."""
        client = self._clients.setdefault(key, _Client())
        self._clients.move_to_end(key)
        if client.away is not None and self._is_resting(client):
            raise type(client.away)(client.away.message, retry_after=client.away.retry_after)
        client.users += 1
        try:
            async with client.lock:
                if client.opened is None:
                    client.opened = await make()
            yield client.opened
            client.away = None
        except Unavailable as error:
            if await self._is_away(client):
                client.away, client.away_at = error, self._clock.monotonic()
            raise
        finally:
            client.users -= 1
            client.used_at = self._clock.monotonic()
            await self._sweep()

    def _is_resting(self, client: _Client[C]) -> bool:
        return client.away is not None and self._clock.monotonic() - client.away_at < REST_SECONDS

    async def _is_away(self, client: _Client[C]) -> bool:
        """After an Unavailable: it may have been about one question only, e.g. while somebody else changes a table."""
        if client.opened is None or self._reach is None:
            return True
        # Of all whose questions failed together one asks.
        async with client.asking:
            if self._is_resting(client):
                return True
            try:
                await self._reach(client.opened)
            except Exception:
                return True
            return False

    async def drop(self, key: Hashable) -> None:
        """Open it anew next time, e.g. since its credentials were changed."""
        client = self._clients.pop(key, None)
        if client is not None and client.opened is not None and not client.users:
            await self._close(client.opened)

    async def _sweep(self) -> None:
        now = self._clock.monotonic()
        for key, client in list(self._clients.items()):
            if client.users:
                continue
            if len(self._clients) > self._most or now - client.used_at > IDLE_SECONDS:
                del self._clients[key]
                if client.opened is not None:
                    await self._close(client.opened)

    @staticmethod
    async def _close(client: Any) -> None:
        try:
            await client.close()
        except Exception as error:
            # What it held is gone either way.
            _log.warning("client_not_closed", error=repr(error))

    async def close(self) -> None:
        """Idempotent."""
        clients, self._clients = self._clients, OrderedDict()
        for client in clients.values():
            if client.opened is not None:
                await self._close(client.opened)
