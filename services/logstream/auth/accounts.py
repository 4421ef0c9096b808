"""Accounts: people, keys and streams in one database; the side that asks and changes. The hot path has `Gate`."""

from collections.abc import Iterable

from logstream.auth.api_keys import ApiKeys, CreatedKey
from logstream.auth.database import Database
from logstream.auth.logins import Logins
from logstream.auth.passwords import Passwords
from logstream.auth.principal import Quota, Scope
from logstream.auth.saved import SavedViews
from logstream.auth.streams import CreatedHook, DeletedHook, RetentionHook, StreamInfo, Streams
from logstream.auth.users import Users
from logstream.clock import Clock, SystemClock
from logstream.settings import AuthSettings
from logstream.stream import Stream


class Accounts:
    """One accounts database.

    `keys`, `users`, `logins`, `streams`, `saved`: what can be asked and changed, by subject; the methods here are what
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
        self.saved = SavedViews(database, clock)

    @classmethod
    async def open(
        cls, settings: AuthSettings, clock: Clock | None = None, *, passwords: Passwords | None = None
    ) -> "Accounts":
        """Connect to `settings.url`, creating or migrating it. Raises StartupError with one sentence."""
        database = await Database.open(
            settings.url, password=settings.password.get_secret_value(), connect_seconds=settings.connect_seconds
        )
        return cls(database, settings, clock or SystemClock(), passwords=passwords)

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

    async def ensure_stream(
        self, stream: Stream, *, retention_days: int = 30, dead_letter_days: int = 30
    ) -> StreamInfo:
        """As `Streams.ensure`."""
        return await self.streams.ensure(stream, retention_days=retention_days, dead_letter_days=dead_letter_days)

    async def update_stream(
        self,
        name: str,
        *,
        retention_days: int | None = None,
        anonymous_reads: bool | None = None,
        dead_letter_days: int | None = None,
        quota: Quota | None = None,
    ) -> StreamInfo:
        """As `Streams.update`."""
        return await self.streams.update(
            name,
            retention_days=retention_days,
            anonymous_reads=anonymous_reads,
            dead_letter_days=dead_letter_days,
            quota=quota,
        )

    def on_retention_change(self, hook: RetentionHook) -> None:
        """As `Streams.on_retention_change`: `accounts.on_retention_change(store.set_retention)`."""
        self.streams.on_retention_change(hook)

    def on_dead_letter_retention_change(self, hook: RetentionHook) -> None:
        """As `Streams.on_dead_letter_retention_change`."""
        self.streams.on_dead_letter_retention_change(hook)

    def on_stream_created(self, hook: CreatedHook) -> None:
        """As `Streams.on_created`."""
        self.streams.on_created(hook)

    def on_stream_deleted(self, hook: DeletedHook) -> None:
        """As `Streams.on_deleted`."""
        self.streams.on_deleted(hook)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._passwords.close()
        await self.database.close()
