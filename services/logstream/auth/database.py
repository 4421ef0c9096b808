"""Connections to the accounts database: reading and writing transactions, and word of each change."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from logstream.auth import schema
from logstream.errors import StartupError, Unavailable

Listener = Callable[[], Awaitable[None]]


class Database:
    """One accounts database.

    `read` and `write` raise Unavailable when it cannot be reached, is full or is locked too long.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._listeners: list[Listener] = []
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Connect, create or migrate. Raises StartupError with one sentence."""
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite:
            _prepare_file(parsed)
        # Bound values are hashes and addresses: neither SQLAlchemy's errors nor the driver's log may repeat them.
        logging.getLogger("aiosqlite").setLevel(logging.INFO)
        engine = create_async_engine(
            parsed,
            hide_parameters=True,
            pool_size=4,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=not is_sqlite,
        )
        if is_sqlite:
            _configure_sqlite(engine)
        try:
            async with engine.connect() as connection:
                await connection.execution_options(logstream_write=True)
                async with connection.begin():
                    await connection.run_sync(schema.migrate)
        except (SQLAlchemyError, OSError) as error:
            await engine.dispose()
            raise StartupError(f"the accounts database at {parsed.render_as_string()} cannot be opened: "
                               f"{_reason(error)}") from error  # fmt: skip
        except BaseException:
            await engine.dispose()
            raise
        return cls(engine)

    def on_change(self, listener: Listener) -> None:
        """Await `listener` after each transaction of this process that changed something."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: one snapshot on SQLite."""
        try:
            async with self._connect() as connection, connection.begin():
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _away(error) from error

    @asynccontextmanager
    async def write(self) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A transaction that changes something, and its revision. Writers wait for one another.

        An IntegrityError passes through: only the caller knows what it means.
        """
        try:
            async with self._writing() as connection:
                counted = update(schema.state).values(revision=schema.state.c.revision + 1)
                revision = (await connection.execute(counted.returning(schema.state.c.revision))).scalar_one()
                yield connection, revision
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _away(error) from error
        for listener in self._listeners:
            await listener()

    @asynccontextmanager
    async def note(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for what nobody needs to hear of, such as times of last use."""
        try:
            async with self._writing() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _away(error) from error

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._connect() as connection:
            await connection.execution_options(logstream_write=True)
            async with connection.begin():
                yield connection

    def _connect(self) -> AsyncConnection:
        # A disposed engine would connect again, and the new connection's thread would keep the process alive.
        if self._closed:
            raise Unavailable("the accounts database was closed")
        return self._engine.connect()

    async def close(self) -> None:
        """Close all connections; whoever asks afterwards gets Unavailable. Idempotent."""
        self._closed = True
        # Shielded: an aiosqlite connection left open keeps a thread, and with it the process.
        await asyncio.shield(self._engine.dispose())


def _prepare_file(url: URL) -> None:
    if not url.database or url.database == ":memory:":
        raise StartupError("the accounts database must be a file: sqlite+aiosqlite:///path/to/auth.db")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made by us and not by SQLite, so that password hashes are never readable by others.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StartupError(f"cannot write the accounts database {path}: {error.strerror or error}") from error


def _configure_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        # The driver begins no transactions of its own: `begin` below does, so that reads are one snapshot
        # and a writer takes the lock before it reads.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=4000", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("logstream_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)


def _away(error: BaseException) -> Unavailable:
    # The driver's own words only: SQLAlchemy's message would repeat bound values.
    return Unavailable(f"the accounts database cannot be used now: {_reason(error)}", retry_after=2)
