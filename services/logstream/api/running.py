"""Reads under way: each waits for its turn, can be seen and cancelled, and ends when its client leaves."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logstream.api.read_options import chosen_id, timeout
from logstream.api.turns import Turns
from logstream.auth.principal import Principal
from logstream.clock import Clock
from logstream.errors import Conflict, LogStreamError, ReadCancelled, TooExpensive
from logstream.logs import get_logger
from logstream.storage.progress import COST, Cost, Progress
from logstream.storage.store import Store

_T = TypeVar("_T")
_log = get_logger("api")
_FRESH_SECONDS = 0.25
_SCOPE = "logstream.read"


@dataclass(slots=True, eq=False)
class Read:
    """One read under way.

    key: whose it is. caller: their name, for people. started_ns: when it was asked for, ns since the epoch. began: the
    same on the monotonic clock, seconds. cost: what its statements have cost.
    """

    id: str
    kind: str
    stream: str
    principal: Principal
    started_ns: int
    began: float
    task: asyncio.Task[object] | None
    cost: Cost = field(default_factory=Cost)
    running: bool = False
    cancelled: bool = False

    @property
    def key(self) -> str:
        return _key(self.principal)

    def cancel(self) -> None:
        """End it; its client is told."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


def _key(principal: Principal) -> str:
    return f"{principal.kind}:{principal.id}"


class Reads:
    """Every read of the store goes through here.

    seconds: how long one may run, its turn to come not counted.
    """

    def __init__(self, store: Store, turns: Turns, clock: Clock, *, seconds: float) -> None:
        self._store = store
        self._turns = turns
        self._clock = clock
        self._seconds = seconds
        self._reads: dict[tuple[str, str], Read] = {}
        self._progress: dict[str, Progress] = {}
        self._progress_at = -math.inf
        self._asking = asyncio.Lock()
        self._killing: set[asyncio.Task[None]] = set()

    async def run(self, request: Request, principal: Principal, kind: str, read: Callable[[], Awaitable[_T]]) -> _T:
        """What `read()` gives, when its turn comes; ended in the engine, too, when the client leaves.

        kind: what is read, for people ("search", "histogram"). The client may lower the time with `timeout=` (seconds)
        and name the read with `X-Query-Id`.
        Raises TooMany, TooExpensive (out of time), ReadCancelled, InvalidValue, Conflict, and what `read` raises.
        """
        seconds = min(self._seconds, timeout(request) or math.inf)

        async def work() -> _T:
            async with self.turn(request, principal, kind):
                try:
                    async with asyncio.timeout(seconds) as time:
                        return await read()
                except TimeoutError as error:
                    if not time.expired():
                        raise
                    raise TooExpensive(
                        f"the read takes longer than {seconds:g} s: narrow the time range or the filter",
                        field="timeout",
                        limit=seconds,
                    ) from error

        return await _while_connected(request, work())

    @asynccontextmanager
    async def turn(self, request: Request, principal: Principal, kind: str) -> AsyncIterator[Read]:
        """Runs the block as a read when its turn comes: for answers that are sent while they are read.

        Enter and leave it in one task. Raises TooMany, ReadCancelled, InvalidValue, Conflict.
        """
        read = self._begin(request, principal, kind)
        try:
            async with self._turns.turn(read.key):
                read.running = True
                token = COST.set(read.cost)
                try:
                    yield read
                finally:
                    COST.reset(token)
                    if read.cost.abandoned:
                        # Also when the caller is cancelled once more.
                        killing = asyncio.create_task(self._kill(read))
                        self._killing.add(killing)
                        killing.add_done_callback(self._killing.discard)
                        await asyncio.shield(killing)
        except asyncio.CancelledError:
            if not read.cancelled or (read.task is not None and read.task.uncancel()):
                raise
            raise ReadCancelled(f"the read '{read.id}' was cancelled") from None
        finally:
            del self._reads[read.key, read.id]

    def _begin(self, request: Request, principal: Principal, kind: str) -> Read:
        identity = chosen_id(request) or secrets.token_hex(16)
        if (_key(principal), identity) in self._reads:
            raise Conflict(f"a read of yours with the id '{identity}' is running", field="X-Query-Id")
        read = Read(
            identity,
            kind,
            request.query_params.get("stream") or principal.stream or "default",
            principal,
            self._clock.now_ns(),
            self._clock.monotonic(),
            asyncio.current_task(),
        )
        self._reads[read.key, identity] = read
        request.scope.get(_SCOPE, []).append(read)
        return read

    async def _kill(self, read: Read) -> None:
        try:
            await self._store.kill(read.cost.tag)
        except (LogStreamError, TimeoutError) as error:
            # It ends by itself when its time is over.
            _log.warning("could not end a read in the store", id=read.id, reason=str(error))

    def of(self, principal: Principal) -> list[Read]:
        """Reads of one caller, oldest first."""
        return [read for read in self._reads.values() if read.key == _key(principal)]

    def all(self) -> list[Read]:
        """Everybody's reads, oldest first."""
        return list(self._reads.values())

    def named(self, identity: str, principal: Principal) -> list[Read]:
        """Reads with this id, which every caller may use: the caller's own first, then others', oldest first."""
        found = [read for read in self._reads.values() if read.id == identity]
        return sorted(found, key=lambda read: read.key != _key(principal))

    def elapsed(self, read: Read) -> float:
        """Seconds since it was asked for."""
        return self._clock.monotonic() - read.began

    async def progress(self) -> dict[str, Progress]:
        """What runs in the engine, by the tag of a read's cost; at most a quarter of a second old.

        Raises StoreUnavailable.
        """
        async with self._asking:
            if self._clock.monotonic() - self._progress_at > _FRESH_SECONDS:
                self._progress = await self._store.progress()
                self._progress_at = self._clock.monotonic()
            return self._progress


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


class ReadHeaders:
    """Says on the answer of a read which id it had, and what it has cost where the engine told. Raw ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reads: list[Read] = []
        scope[_SCOPE] = reads

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start" and reads:
                read = reads[0]
                headers = [(b"x-query-id", read.id.encode())]
                # Of an explanation it would be taken for what the query reads.
                if read.cost.rows_read and read.kind != "explain":
                    headers.append((b"x-rows-read", b"%d" % read.cost.rows_read))
                    headers.append((b"x-bytes-read", b"%d" % read.cost.bytes_read))
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await self.app(scope, receive, named)
