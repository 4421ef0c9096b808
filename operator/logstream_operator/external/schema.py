"""A stream's tables in ClickHouse: brought to this release's schema before the pods of this release come."""

from sqlalchemy import func, select

from logstream.auth.accounts import Accounts
from logstream.errors import Conflict, InvalidValue, LogStreamError, StoreRefused, StoreUnavailable
from logstream.storage.store import Store
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.metrics import EXTERNAL_CHANGES

_TURN = "300s"
_MIGRATION_LOCK = 0x6C6F_6773_7472
"""The processes' own (`logstream.run.provision`): whoever changes tables of a data plane has it."""


async def ensure_schema(store: Store, accounts: Accounts | None, stream: Stream, *, retention_days: int) -> None:
    """Migrate the stream's database and set its retention, one process at a time. Nothing is written where it is so
    already. accounts: the data plane's; its Postgres has the lock.

    Raises StoreUnavailable, Unavailable: later; Refused.
    """
    try:
        if accounts is None:
            await store.migrate(stream, retention_days=retention_days)
            return
        async with accounts.database.read() as connection:
            # Ends with the transaction, and so with this process, however it ends.
            await connection.execute(select(func.set_config("idle_in_transaction_session_timeout", _TURN, True)))
            turn = select(func.pg_try_advisory_xact_lock(_MIGRATION_LOCK))
            if not (await connection.execute(turn)).scalar_one():
                raise StoreUnavailable("another process is changing tables")
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
