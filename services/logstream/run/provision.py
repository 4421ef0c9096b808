"""What a stream needs outside the accounts, made where it is missing: topics and tables."""

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import func, select

from logstream.auth.accounts import Accounts
from logstream.auth.streams import StreamInfo
from logstream.bus.protocol import Bus
from logstream.errors import StoreUnavailable
from logstream.storage.store import Store

_TURN = "300s"
"""How long a migration may take before another process may begin one."""
_MIGRATION_LOCK = 0x6C6F_6773_7472  # "logstr": of ours among the advisory locks of one database


class Provisioner:
    """Of one process. accounts: None where there is no database of them."""

    def __init__(self, bus: Bus, store: Store, accounts: Accounts | None) -> None:
        self._bus = bus
        self._store = store
        self._accounts = accounts

    async def make(self, info: StreamInfo) -> None:
        """Make the topics and tables of a stream, or bring them up to date. Idempotent.

        Raises BusUnavailable, StoreUnavailable, Unavailable: try again.
        """
        topic = await self._bus.create_topic(info.stream.topic)
        await self._bus.create_topic(info.stream.dead_letter_topic, partitions=topic.partitions)
        async with migration_turn(self._accounts):
            await self._store.migrate(info.stream, retention_days=info.retention_days)


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
