"""A stream's tables in ClickHouse: brought to this release's schema before the pods of this release come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth.accounts import Accounts
from logstream.errors import Conflict, InvalidValue, LogStreamError, StoreRefused, StoreUnavailable
from logstream.storage.store import Store
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.metrics import EXTERNAL_CHANGES

_TURN = "300s"
_MIGRATION_LOCK = 0x6C6F_6773_7472
"""The processes' own (`logstream.run.provision`): whoever changes tables of a data plane has it."""


class Turn:
    """The right to change tables of one data plane, which its Postgres gives to one process at a time.

    Who works in this process shares it: each stream has tables of its own, and waiting for one another would hold
    workers that others need.
    """

    def __init__(self) -> None:
        self._changing = asyncio.Lock()
        self._users = 0
        self._transaction = AsyncExitStack()
        self._connection: AsyncConnection | None = None

    @asynccontextmanager
    async def held(self, accounts: Accounts) -> AsyncIterator[None]:
        """accounts: the data plane's. Raises StoreUnavailable while another process has the turn, Unavailable."""
        async with self._changing:
            if self._connection is None:
                await self._take(accounts)
            else:
                await self._check(self._connection)
            self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            # Given back before anybody takes it anew, which would be refused.
            async with self._changing:
                if not self._users and self._connection is not None:
                    self._connection = None
                    await self._transaction.aclose()

    @staticmethod
    async def _check(connection: AsyncConnection) -> None:
        """Whether it is ours still; and it must not seem idle."""
        try:
            await connection.execute(select(1))
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable("the connection to Postgres was lost while tables were changed") from error

    async def _take(self, accounts: Accounts) -> None:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(accounts.database.read())
            # Ends with the transaction, and so with this process, however it ends.
            await connection.execute(select(func.set_config("idle_in_transaction_session_timeout", _TURN, True)))
            turn = select(func.pg_try_advisory_xact_lock(_MIGRATION_LOCK))
            if not (await connection.execute(turn)).scalar_one():
                raise StoreUnavailable("another process is changing tables")
            self._connection, self._transaction = connection, stack.pop_all()


async def ensure_schema(store: Store, accounts: Accounts, turn: Turn, stream: Stream, *, retention_days: int) -> None:
    """Migrate the stream's database and set its retention, one process at a time. Nothing is written where it is so
    already. accounts, turn: the data plane's.

    Raises StoreUnavailable, Unavailable: later; Refused.
    """
    try:
        async with turn.held(accounts):
            await store.migrate(stream, retention_days=retention_days)
    except (Conflict, InvalidValue, StoreRefused) as error:
        raise _refused(error) from error


async def drop_schema(store: Store, stream: Stream) -> None:
    """Remove the stream's tables, for good. Idempotent. Raises StoreUnavailable, Refused."""
    try:
        await store.drop(stream)
        # Of a replay that broke off.
        await store.drop(stream.beside())
    except (Conflict, InvalidValue, StoreRefused) as error:
        raise _refused(error) from error
    EXTERNAL_CHANGES.labels("schema_dropped").inc()


def _refused(error: LogStreamError) -> Refused:
    reason = {Conflict: "TablesInAnotherForm", InvalidValue: "ClickHouseSettingsWrong"}.get(type(error))
    return Refused(reason or "ClickHouseRefused", error.message, field="spec.connections.clickhouse")
