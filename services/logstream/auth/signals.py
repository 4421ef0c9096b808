"""Messages between the processes that share a Postgres: LISTEN and NOTIFY on one connection of its own."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from logstream.errors import Unavailable
from logstream.logs import get_logger

if TYPE_CHECKING:
    import asyncpg

MAX_PAYLOAD = 7_900
"""Bytes of one message; Postgres takes less than 8,000."""
KEEPALIVE_SECONDS = 5.0
REPLY_SECONDS = 3.0
"""A server that has not answered by then hangs: the connection is given up and made anew."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

_log = get_logger("auth")

Hear = Callable[[str], None]


class Signals:
    """At most once and in order of commit: what is sent while a process is not connected never reaches it.

    So who listens must look for itself after each `on_connected`. A sender hears its own messages, which proves that
    the way there and back works.
    """

    def __init__(self, connect: Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]) -> None:
        self._connect = connect
        self._listeners: dict[str, list[Hear]] = defaultdict(list)
        self._on_connected: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        # asyncpg runs one statement at a time.
        self._busy = asyncio.Lock()

    def listen(self, channel: str, hear: Hear) -> None:
        """Call `hear` with each payload on `channel`. To be called before `run`."""
        self._listeners[channel].append(hear)

    def on_connected(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever listening has begun (again)."""
        self._on_connected.append(tell)

    def on_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever the connection was lost."""
        self._on_lost.append(tell)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def send(self, channel: str, payload: str) -> None:
        """Raises Unavailable when there is no connection or it hangs; the message may then have been sent or not."""
        connection = self._connection
        if connection is None:
            raise Unavailable("the accounts database is away: no message can be sent")
        try:
            await self._execute(connection, "SELECT pg_notify($1, $2)", channel, payload)
        except Exception as error:
            connection.terminate()
            raise Unavailable("a message could not be sent through the accounts database") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected and listen until `stop` is set."""
        listening = asyncio.create_task(self._listen())
        try:
            await stop.wait()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen_once()
                pause = _FIRST_PAUSE
            except Exception as error:
                # Whatever it was (refused, hung, restarted), polling goes on and the next attempt may succeed.
                _log.debug("no word of changes from the accounts database", reason=str(error))
                pause = min(_LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)

    async def _listen_once(self) -> None:
        """From connecting to losing the connection."""
        connection = await self._connect()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            for channel, listeners in self._listeners.items():
                await connection.add_listener(channel, _deliver(listeners))
            self._connection = connection
            for tell in self._on_connected:
                tell()
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), KEEPALIVE_SECONDS)
                    return
                await self._execute(connection, "SELECT 1")
        finally:
            was_connected, self._connection = self._connection is not None, None
            # Not closed politely: that would wait for a server that may hang.
            connection.terminate()
            for tell in self._on_lost if was_connected else ():
                tell()

    async def _execute(self, connection: "asyncpg.Connection[asyncpg.Record]", statement: str, *values: str) -> None:
        async with asyncio.timeout(REPLY_SECONDS), self._busy:
            await connection.execute(statement, *values)


def _deliver(listeners: list[Hear]) -> Callable[..., None]:
    def deliver(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        for hear in listeners:
            hear(str(payload))

    return deliver
