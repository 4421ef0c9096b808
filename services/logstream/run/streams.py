"""Streams of a processor: which there are, and that their topics and tables are there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from logstream import logs
from logstream.auth.accounts import Accounts
from logstream.auth.streams import StreamInfo
from logstream.bus.protocol import Bus
from logstream.errors import LogStreamError, StoreUnavailable
from logstream.storage.store import Store
from logstream.stream import Stream

Infos = Callable[[], Sequence[StreamInfo]]
"""The streams there are now, such as `Gate.streams`."""

_LOOK_SECONDS = 1.0
_LONGEST_PAUSE = 30.0
_TURN = "300s"
"""How long a migration may take before another process may begin one."""
_MIGRATION_LOCK = 0x6C6F_6773_7472  # "logstr": of ours among the advisory locks of one database

_log = logs.get_logger("streams")


@contextlib.asynccontextmanager
async def migration_turn(accounts: Accounts | None) -> AsyncIterator[None]:
    """One process at a time changes tables, where the accounts are on Postgres, which has locks for that.

    Elsewhere several may change them at once: every statement of a migration can be run twice, also at the same time.
    Raises Unavailable when the database is away, StoreUnavailable when it is another's turn.
    """
    if accounts is None or accounts.database.signals is None:
        yield
        return
    async with accounts.database.read() as connection:
        # Ends with the transaction, and so with this process, however it ends.
        await connection.execute(select(func.set_config("idle_in_transaction_session_timeout", _TURN, True)))
        if not (await connection.execute(select(func.pg_try_advisory_xact_lock(_MIGRATION_LOCK)))).scalar_one():
            raise StoreUnavailable("another process is changing tables")
        yield


@dataclass(slots=True)
class _Unprepared:
    reason: str
    next_try: float
    pause: float


class PreparedStreams:
    """`logstream.processor`'s StreamSource: of the streams there are, those whose topics and tables are there.

    Without its table the store would refuse what it should be asked to wait for.
    create: make what is missing; else wait until somebody has.
    """

    def __init__(self, infos: Infos, bus: Bus, store: Store, *, accounts: Accounts | None, create: bool) -> None:
        self._infos = infos
        self._bus = bus
        self._store = store
        self._accounts = accounts
        self._create = create
        self._ready: dict[Stream, int] = {}
        self._unprepared: dict[Stream, _Unprepared] = {}

    def current(self) -> Sequence[Stream]:
        there = {info.stream for info in self._infos()}
        return [stream for stream in self._ready if stream in there]

    async def run(self, stop: asyncio.Event) -> None:
        """Prepare new streams and follow retention until `stop` is set; what fails is tried again."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            infos = self._infos()
            for gone in (self._ready.keys() | self._unprepared.keys()) - {info.stream for info in infos}:
                self._ready.pop(gone, None)
                self._unprepared.pop(gone, None)
            for info in infos:
                waiting = self._unprepared.get(info.stream)
                due = waiting is None or waiting.next_try <= loop.time()
                if self._ready.get(info.stream) != info.retention_days and due and not stop.is_set():
                    await self._try(info)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await stop.wait()

    async def _try(self, info: StreamInfo) -> None:
        try:
            await self._prepare(info)
        except LogStreamError as error:
            known = self._unprepared.get(info.stream)
            pause = min(_LONGEST_PAUSE, known.pause * 2) if known else 0.25
            if known is None or known.reason != error.message:
                _log.warning("stream is not ready", stream=info.stream.name, reason=error.message)
            now = asyncio.get_running_loop().time()
            self._unprepared[info.stream] = _Unprepared(error.message, now + pause, pause)
            return
        self._ready[info.stream] = info.retention_days
        self._unprepared.pop(info.stream, None)
        _log.info("stream is ready", stream=info.stream.name)

    async def _prepare(self, info: StreamInfo) -> None:
        if not self._create:
            await self._store.check([info.stream])
            return
        await self._bus.create_topic(info.stream.topic)
        await self._bus.create_topic(info.stream.dead_letter_topic)
        async with migration_turn(self._accounts):
            await self._store.migrate(info.stream, retention_days=info.retention_days)

    async def check(self) -> None:
        """Raises StoreUnavailable with the first reason why a stream is not ready; `schema` in /readyz."""
        for info in self._infos():
            if info.stream not in self._ready:
                waiting = self._unprepared.get(info.stream)
                raise StoreUnavailable(f"stream {info.stream.name}: {waiting.reason if waiting else 'not yet made'}")
