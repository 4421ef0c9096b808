"""Accounts: people, keys and streams in one database; the side that asks and changes. The hot path has `Gate`."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select

from logstream.auth import schema
from logstream.auth.api_keys import ApiKey, ApiKeys, CreatedKey, insert_key
from logstream.auth.database import Database
from logstream.auth.keys import make_key, new_id
from logstream.auth.logins import Logins
from logstream.auth.passwords import Passwords
from logstream.auth.principal import Quota, Scope
from logstream.auth.roles import Role
from logstream.auth.streams import StreamHook, StreamInfo, Streams
from logstream.auth.users import User, Users, insert_user
from logstream.clock import Clock, SystemClock
from logstream.settings import AuthSettings
from logstream.stream import Stream

FIRST_EMAIL = "admin@localhost"


@dataclass(frozen=True, slots=True)
class FirstLogin:
    """What the very first start makes. The secrets are here and nowhere else."""

    email: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


class Accounts:
    """One accounts database.

    `keys`, `users`, `logins`, `streams`: what can be asked and changed, by subject; the methods here are what
    other parts need most.
    """

    def __init__(
        self, database: Database, settings: AuthSettings, clock: Clock, *, passwords: Passwords | None = None
    ) -> None:
        self.database = database
        self.settings = settings
        self.clock = clock
        self._passwords = passwords or Passwords()
        self.keys = ApiKeys(database, clock)
        self.users = Users(database, self._passwords, clock)
        self.logins = Logins(database, self.users, self._passwords, clock, session_seconds=settings.session_seconds)
        self.streams = Streams(database, clock)

    @classmethod
    async def open(
        cls, settings: AuthSettings, clock: Clock | None = None, *, passwords: Passwords | None = None
    ) -> "Accounts":
        """Connect to `settings.url`, creating or migrating it. Raises StartupError with one sentence."""
        return cls(await Database.open(settings.url), settings, clock or SystemClock(), passwords=passwords)

    async def bootstrap(self, *, stream: str = "default") -> FirstLogin | None:
        """On a database that never had a user: the first admin, and a key to send to and read `stream`.

        None afterwards. Both are made in one transaction, by one process. Raises Unavailable.
        """
        count = select(func.count()).select_from(schema.users)
        async with self.database.read() as connection:
            if (await connection.execute(count)).scalar_one():
                return None
        password, made, now = secrets.token_urlsafe(15), make_key(), self.clock.now_ns()
        password_hash = await self._passwords.hash(password)
        user = User(new_id(), FIRST_EMAIL, Role.ADMIN, now)
        key = ApiKey(
            id=made.id,
            name="first key",
            stream=stream,
            scopes=frozenset({Scope.INGEST, Scope.READ}),
            owner_id=None,
            created_at=now,
        )
        async with self.database.write() as (connection, revision):
            if (await connection.execute(count)).scalar_one():
                return None
            await insert_user(connection, user, password_hash, revision)
            await insert_key(connection, key, made.digest, revision)
        return FirstLogin(FIRST_EMAIL, password, made.text)

    async def create_key(
        self,
        name: str,
        *,
        scopes: Iterable[Scope],
        stream: str | None = "default",
        owner_id: str | None = None,
        expires_at: int | None = None,
        quota: Quota | None = None,
    ) -> CreatedKey:
        """As `ApiKeys.create`: the clear key is in `.text` of the result, once."""
        return await self.keys.create(
            name, scopes=scopes, stream=stream, owner_id=owner_id, expires_at=expires_at, quota=quota
        )

    async def ensure_stream(self, stream: Stream, *, retention_days: int = 30) -> StreamInfo:
        """As `Streams.ensure`."""
        return await self.streams.ensure(stream, retention_days=retention_days)

    async def update_stream(
        self, name: str, *, retention_days: int | None = None, anonymous_reads: bool | None = None
    ) -> StreamInfo:
        """As `Streams.update`."""
        return await self.streams.update(name, retention_days=retention_days, anonymous_reads=anonymous_reads)

    def on_stream_update(self, hook: StreamHook) -> None:
        """As `Streams.on_update`; how the store learns of a new retention."""
        self.streams.on_update(hook)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._passwords.close()
        await self.database.close()
