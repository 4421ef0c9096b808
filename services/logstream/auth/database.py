"""Connections to the accounts database: reading and writing transactions, and word of each change."""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event, func, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from logstream.auth import postgres, schema
from logstream.auth.migrate import migrate
from logstream.auth.signals import Signals
from logstream.errors import InvalidValue, LogStreamError, StartupError, Unavailable

Listener = Callable[[], Awaitable[None]]
CHANGES = "logstream_accounts"
"""The channel on which Postgres tells all processes of each change; the payload is its revision."""


class Database:
    """One accounts database, SQLite or Postgres.

    `read` and `write` raise Unavailable when it cannot be reached, hangs, is full or is locked too long, and
    InvalidValue for a text that it cannot hold. `signals`: messages between processes, None on SQLite.
    """

    def __init__(self, engine: AsyncEngine, *, signals: Signals | None = None) -> None:
        self._engine = engine
        self.signals = signals
        self._listeners: list[Listener] = []
        self._closed = False
        self._failures = _failures(is_postgres=signals is not None)
        # One state of the database for all statements of a reading transaction.
        self._reading: Mapping[str, Any] = (
            {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if signals is not None else {}
        )

    @classmethod
    async def open(cls, url: str, *, password: str | None = None, connect_seconds: float = 0.0) -> "Database":
        """Connect, create or migrate.

        password: of Postgres, before the one in `url`. connect_seconds: how long to try again while Postgres is not
        there; wrong credentials end it at once. Raises StartupError with one sentence.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            # The message would repeat the address, password included.
            raise StartupError("LOGSTREAM_AUTH_URL is no address like postgresql://user@host/database") from None
        match parsed.get_backend_name():
            case "sqlite":
                return cls(await _open_sqlite(parsed))
            case "postgresql" | "postgres":
                address = postgres.PostgresAddress.of(parsed, password)
                return cls(await _open_postgres(parsed, address, connect_seconds), signals=Signals(address.connect))
        raise StartupError("LOGSTREAM_AUTH_URL must begin with sqlite+aiosqlite:// or postgresql://")

    def on_change(self, listener: Listener) -> None:
        """Await `listener` after each transaction of this process that changed something."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: one state of the database for all its statements."""
        try:
            async with self._connect() as connection:
                if self._reading:
                    await connection.execution_options(**self._reading)
                async with connection.begin():
                    yield connection
        except self._failures as error:
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
                if self.signals is not None:
                    await connection.execute(select(func.pg_notify(CHANGES, str(revision))))
        except IntegrityError:
            raise
        except self._failures as error:
            raise _away(error) from error
        for listener in self._listeners:
            await listener()

    @asynccontextmanager
    async def note(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for what nobody needs to hear of, such as times of last use."""
        try:
            async with self._writing() as connection:
                yield connection
        except self._failures as error:
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


def _failures(*, is_postgres: bool) -> tuple[type[BaseException], ...]:
    """What means that the database is away, or cannot hold a value (`_away` tells).

    asyncpg's own come from connecting, before SQLAlchemy has a say.
    """
    always = (DBAPIError, PoolTimeout, OSError, UnicodeEncodeError, OverflowError)
    if not is_postgres:
        return always
    import asyncpg

    return (*always, asyncpg.PostgresError, asyncpg.InterfaceError)


async def _open_sqlite(url: URL) -> AsyncEngine:
    _prepare_file(url)
    # Bound values are hashes and addresses: neither SQLAlchemy's errors nor the driver's log may repeat them.
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    engine = create_async_engine(url, hide_parameters=True, pool_size=4, max_overflow=0, pool_timeout=5)
    _configure_sqlite(engine)
    try:
        await _migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        raise StartupError(f"the accounts database at {url.render_as_string()} cannot be opened: "
                           f"{_reason(error)}") from error  # fmt: skip
    except BaseException:
        await engine.dispose()
        raise
    return engine


async def _open_postgres(url: URL, address: postgres.PostgresAddress, connect_seconds: float) -> AsyncEngine:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + connect_seconds
    failures: tuple[type[BaseException], ...] = (SQLAlchemyError, *_failures(is_postgres=True))
    where = f"{url.host or 'localhost'}/{url.database or ''}"
    while True:
        migrating = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: address.connect(migrating=True),
            poolclass=NullPool,
            hide_parameters=True,
        )
        try:
            await _migrate(migrating)
            break
        except failures as error:
            if postgres.is_refusal(error):
                raise StartupError(
                    f"the accounts database at {where} refuses us: {_reason(error)}; "
                    "check LOGSTREAM_AUTH_URL and LOGSTREAM_AUTH_PASSWORD"
                ) from error
            if loop.time() >= give_up:
                raise StartupError(f"the accounts database at {where} cannot be opened: {_reason(error)}") from error
        finally:
            await migrating.dispose()
        await asyncio.sleep(random.uniform(0.2, 1.0))
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=address.connect,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        pool_size=4,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
    )


_MIGRATION_SECONDS = 120.0
_migrating: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def _migrate(engine: AsyncEngine) -> None:
    """Raises Unavailable when the database stands still meanwhile."""
    # Alembic's context is one for the whole process: who opens several databases at once takes turns.
    turn = _migrating.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with engine.connect() as connection:
        await connection.execution_options(logstream_write=True)
        async with turn:
            try:
                async with asyncio.timeout(_MIGRATION_SECONDS), connection.begin():
                    await connection.run_sync(migrate)
            except TimeoutError:
                raise Unavailable("the accounts database took too long to be brought up to date") from None


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
    """The driver's own words, on one line: SQLAlchemy's message and Postgres' details would repeat values."""
    said = str(getattr(error, "orig", None) or error) or type(error).__name__
    return said.splitlines()[0].removeprefix("<class 'asyncpg.exceptions.").replace("'>: ", ": ")


def _away(error: BaseException) -> LogStreamError:
    if _cannot_hold(error):
        return InvalidValue("a text has NUL or lone surrogates, or a number is too large, which nothing here has")
    return Unavailable(f"the accounts database cannot be used now: {_reason(error)}", retry_after=2)


def _cannot_hold(error: BaseException) -> bool:
    """Whether there is no place for a value."""
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return True
    # Class 22 of SQL's states: data exceptions.
    state = getattr(getattr(getattr(error, "orig", None), "__cause__", None), "sqlstate", None)
    return isinstance(state, str) and state.startswith("22")
