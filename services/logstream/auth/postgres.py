"""Connections to Postgres by asyncpg: for SQLAlchemy's pool, and one that listens."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from logstream.errors import StartupError

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 5.0
MIGRATION_SECONDS = 120.0
_SERVER_SETTINGS = {
    "application_name": "logstream",
    "statement_timeout": "5s",
    # Writers come one after another; who waits longer is answered 503, as on SQLite.
    "lock_timeout": "4s",
    # A process that was stopped in a transaction must not keep the writers' lock.
    "idle_in_transaction_session_timeout": "10s",
}

Connect = Callable[..., Awaitable["asyncpg.Connection[asyncpg.Record]"]]


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a Postgres is. dsn: libpq's form, so `sslmode`, `sslrootcert`, several hosts and
    `target_session_attrs` mean what they mean there; it holds no password."""

    dsn: str
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: URL, password: str | None = None) -> "PostgresAddress":
        """password: used instead of the one in `url`, when not empty."""
        bare = URL.create(
            "postgresql", url.username, None, url.host, url.port, url.database, dict(url.query)
        ).render_as_string(hide_password=False)
        return cls(bare, password or (str(url.password) if url.password is not None else None))

    async def connect(self, *, migrating: bool = False) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection with bounded statements. Raises what asyncpg raises, OSError, TimeoutError."""
        import asyncpg

        settings = dict(_SERVER_SETTINGS)
        if migrating:
            limit = f"{MIGRATION_SECONDS:g}s"
            settings |= dict.fromkeys(("statement_timeout", "lock_timeout"), limit)
        try:
            return await asyncpg.connect(
                self.dsn,
                password=self.password,
                timeout=CONNECT_SECONDS,
                # A server that hangs sends no timeout of its own.
                command_timeout=(MIGRATION_SECONDS if migrating else STATEMENT_SECONDS) + 1,
                server_settings=settings,
            )
        except (ValueError, asyncpg.ClientConfigurationError, ssl.SSLError) as error:
            raise StartupError(f"LOGSTREAM_AUTH_URL cannot be used: {error}") from error


def is_refusal(error: BaseException) -> bool:
    """Whether the server is there and will not let us in, which waiting does not change."""
    import asyncpg

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(
            cause,
            asyncpg.InvalidAuthorizationSpecificationError
            | asyncpg.InvalidCatalogNameError
            | asyncpg.InsufficientPrivilegeError,
        ):
            return True
        cause = getattr(cause, "orig", None) or cause.__cause__
    return False
