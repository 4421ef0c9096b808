"""API keys: made, listed, changed, revoked. Only the SHA-256 of a secret is stored."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth import schema, validation
from logstream.auth.database import Database
from logstream.auth.keys import make_key, same
from logstream.auth.principal import Quota, Scope
from logstream.clock import Clock
from logstream.errors import Conflict, InvalidValue, NotFound

MAX_NS = 2**63 - 1


class Unset:
    """Marks "leave as it is" where None means "no limit" or "never"."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown. Times: nanoseconds since the epoch. stream None: all streams."""

    id: str
    name: str
    stream: str | None
    scopes: frozenset[Scope]
    owner_id: str | None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; `text` is shown once and kept nowhere."""

    key: ApiKey
    text: str = field(repr=False)


def api_key(row: Row[Any]) -> ApiKey:
    """A row of `schema.api_keys`."""
    return ApiKey(
        id=row.id,
        name=row.name,
        stream=row.stream,
        scopes=frozenset(Scope(scope) for scope in row.scopes.split(",")),
        owner_id=row.owner_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        quota=Quota(row.records_per_second, row.bytes_per_second),
    )


class ApiKeys:
    """Every method may raise Unavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        name: str,
        *,
        scopes: Iterable[Scope],
        stream: str | None = "default",
        owner_id: str | None = None,
        expires_at: int | None = None,
        quota: Quota | None = None,
    ) -> CreatedKey:
        """A new key. owner_id: whose rights bound it, None for nobody's. Raises InvalidValue."""
        granted = frozenset(scopes)
        if not granted:
            raise InvalidValue("scopes must name at least one of ingest, read, admin", field="scopes")
        made = make_key()
        key = ApiKey(
            id=made.id,
            name=validation.name(name),
            stream=stream,
            scopes=granted,
            owner_id=owner_id,
            created_at=self._clock.now_ns(),
            expires_at=self._check_expiry(expires_at),
            quota=validation.quota(quota or Quota()),
        )
        async with self._database.write() as (connection, revision):
            await insert_key(connection, key, made.digest, revision)
        return CreatedKey(key, made.text)

    async def register(
        self,
        key_id: str,
        digest: bytes,
        name: str,
        *,
        scopes: Iterable[Scope],
        stream: str | None,
        expires_at: int | None = None,
        quota: Quota | None = None,
    ) -> ApiKey:
        """Let a key in that was made elsewhere (`logstream.auth.keys.make_key`): its secret never comes here.

        A second time changes nothing. Raises InvalidValue, Conflict when the id belongs to another secret.
        """
        granted = frozenset(scopes)
        if not granted:
            raise InvalidValue("scopes must name at least one of ingest, read, admin", field="scopes")
        key = ApiKey(
            id=key_id,
            name=validation.name(name),
            stream=stream,
            scopes=granted,
            owner_id=None,
            created_at=self._clock.now_ns(),
            expires_at=self._check_expiry(expires_at),
            quota=validation.quota(quota or Quota()),
        )
        table = schema.api_keys
        async with self._database.write() as (connection, revision):
            # Under the writers' lock, so that two who register it at once do not meet.
            found = (await connection.execute(select(table).where(table.c.id == key_id))).one_or_none()
            if found is None:
                await insert_key(connection, key, digest, revision)
                return key
        if not same(found.digest, digest):
            raise Conflict(f"there is another key with the id {key_id}", field="key_id")
        return api_key(found)

    async def list(
        self, *, owner_id: str | None = None, stream: str | None = None, revoked: bool = False
    ) -> Sequence[ApiKey]:
        """Keys, newest first; of one owner or stream when given; with the revoked ones when asked."""
        table = schema.api_keys
        query = select(table).order_by(table.c.created_at.desc(), table.c.id)
        if owner_id is not None:
            query = query.where(table.c.owner_id == owner_id)
        if stream is not None:
            query = query.where(table.c.stream == stream)
        if not revoked:
            query = query.where(table.c.revoked_at.is_(None))
        async with self._database.read() as connection:
            return [api_key(row) for row in await connection.execute(query)]

    async def get(self, key_id: str) -> ApiKey:
        """Raises NotFound."""
        async with self._database.read() as connection:
            row = (
                await connection.execute(select(schema.api_keys).where(schema.api_keys.c.id == key_id))
            ).one_or_none()
        if row is None:
            raise NotFound("there is no such key", field="key_id")
        return api_key(row)

    async def digests(self, stream: str) -> Mapping[str, bytes]:
        """By id, the SHA-256 of the secrets of a stream's keys, those that were revoked included."""
        table = schema.api_keys
        query = select(table.c.id, table.c.digest).where(table.c.stream == stream)
        async with self._database.read() as connection:
            return {row.id: row.digest for row in await connection.execute(query)}

    async def update(
        self,
        key_id: str,
        *,
        name: str | Unset = UNSET,
        expires_at: int | Unset | None = UNSET,
        quota: Quota | Unset = UNSET,
    ) -> ApiKey:
        """Change what is given; scopes and stream never change.

        Raises NotFound, InvalidValue, Conflict when the key was revoked.
        """
        values: dict[str, object] = {}
        if not isinstance(name, Unset):
            values["name"] = validation.name(name)
        if not isinstance(expires_at, Unset):
            values["expires_at"] = self._check_expiry(expires_at)
        if not isinstance(quota, Unset):
            validation.quota(quota)
            values |= {
                "records_per_second": quota.records_per_second,
                "bytes_per_second": quota.bytes_per_second,
            }
        async with self._database.write() as (connection, revision):
            await connection.execute(
                update(schema.api_keys)
                .where(schema.api_keys.c.id == key_id, schema.api_keys.c.revoked_at.is_(None))
                .values(**values, revision=revision)
            )
        key = await self.get(key_id)
        if key.revoked_at is not None:
            raise Conflict("this key was revoked, which is for good", field="key_id")
        return key

    async def revoke(self, key_id: str) -> ApiKey:
        """End a key for good; a second time changes nothing. Raises NotFound."""
        async with self._database.write() as (connection, revision):
            await connection.execute(
                update(schema.api_keys)
                .where(schema.api_keys.c.id == key_id, schema.api_keys.c.revoked_at.is_(None))
                .values(revoked_at=self._clock.now_ns(), revision=revision)
            )
        return await self.get(key_id)

    async def note_use(self, last_used: Mapping[str, int]) -> None:
        """Store times of last use (nanoseconds) by key id, in one transaction; a time never goes back."""
        table = schema.api_keys
        is_later = or_(table.c.last_used_at.is_(None), table.c.last_used_at < bindparam("at"))
        statement = update(table).where(table.c.id == bindparam("of"), is_later).values(last_used_at=bindparam("at"))
        async with self._database.note() as connection:
            await connection.execute(statement, [{"of": key_id, "at": at} for key_id, at in last_used.items()])

    def _check_expiry(self, expires_at: int | None) -> int | None:
        if expires_at is not None and not self._clock.now_ns() < expires_at <= MAX_NS:
            raise InvalidValue("expires_at must lie in the future, before the year 2262", field="expires_at")
        return expires_at


async def insert_key(connection: AsyncConnection, key: ApiKey, digest: bytes, revision: int) -> None:
    await connection.execute(
        insert(schema.api_keys).values(
            id=key.id,
            digest=digest,
            name=key.name,
            stream=key.stream,
            scopes=",".join(sorted(key.scopes)),
            owner_id=key.owner_id,
            created_at=key.created_at,
            expires_at=key.expires_at,
            records_per_second=key.quota.records_per_second,
            bytes_per_second=key.quota.bytes_per_second,
            revision=revision,
        )
    )
