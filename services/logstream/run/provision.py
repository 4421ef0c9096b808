"""What a stream needs outside the accounts: topics and tables, made where they are missing, removed with it."""

import contextlib
from collections.abc import AsyncIterator, Collection

from sqlalchemy import func, select

from logstream.auth.accounts import Accounts
from logstream.auth.streams import StreamInfo
from logstream.bus.protocol import Bus
from logstream.errors import Conflict, NotFound, StoreUnavailable, Unavailable
from logstream.storage.store import Store
from logstream.stream import Stream

_TURN = "300s"
"""How long a migration may take before another process may begin one."""
_MIGRATION_LOCK = 0x6C6F_6773_7472  # "logstr": of ours among the advisory locks of one database


class Provisioner:
    """Of one process. accounts: None where there is no database of them. served: streams of which something still
    runs in this process, such as a processor's."""

    def __init__(
        self, bus: Bus, store: Store, accounts: Accounts | None, *, served: Collection[Stream] = frozenset()
    ) -> None:
        self._bus = bus
        self._store = store
        self._accounts = accounts
        self._served = served

    def register(self, accounts: Accounts) -> None:
        """Make, change and remove what streams of `accounts` have outside of it."""
        accounts.on_stream_created(self.make)
        accounts.on_dead_letter_retention_change(self.keep_dead_letters)
        accounts.on_stream_deleted(self.remove)

    async def make(self, info: StreamInfo) -> None:
        """Make the topics and tables of a stream, or bring them up to date. Idempotent.

        Raises BusUnavailable, StoreUnavailable, Unavailable: try again; NotFound: the stream was deleted.
        """
        await self._require(info.stream)
        topic = await self._bus.create_topic(info.stream.topic)
        await self._bus.create_topic(
            info.stream.dead_letter_topic, partitions=topic.partitions, retention_days=info.dead_letter_days
        )
        async with migration_turn(self._accounts):
            await self._store.migrate(info.stream, retention_days=info.retention_days)
        try:
            await self._require(info.stream)
        except NotFound:
            # Whoever removed it may have been here before us.
            await self._remove(info.stream)
            raise

    async def keep_dead_letters(self, stream: Stream, days: int) -> None:
        """Raises BusUnavailable: then the change is refused."""
        await self._bus.set_retention(stream.dead_letter_topic, days)

    async def remove(self, stream: Stream) -> None:
        """Remove the topics and tables of a deleted stream, for good: those named after its id, and no others.
        Idempotent.

        Raises BusUnavailable, StoreUnavailable, Unavailable: try again; Conflict for a stream that was not deleted.
        """
        if self._accounts is not None and await self._accounts.streams.there(stream):
            raise Conflict(f"stream '{stream.name}' is not deleted", field="stream")
        if stream in self._served:
            raise Unavailable(f"what stream '{stream.name}' has in the log is still being stored")
        await self._remove(stream)

    async def _remove(self, stream: Stream) -> None:
        # The topics first: whoever has not heard of it is told so by the log, and stores nothing more.
        await self._bus.delete_topic(stream.topic)
        await self._bus.delete_topic(stream.dead_letter_topic)
        await self._store.drop(stream)
        # Of a replay that broke off.
        await self._store.drop(stream.beside())

    async def _require(self, stream: Stream) -> None:
        if self._accounts is not None and not await self._accounts.streams.there(stream):
            raise NotFound(f"stream '{stream.name}' was deleted", field="stream")


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
