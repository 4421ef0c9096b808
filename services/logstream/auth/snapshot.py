"""What the gate keeps in memory: keys, sessions, people and streams, with the rows that changed merged in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, Table, or_, select

from logstream.auth import schema
from logstream.auth.api_keys import ApiKey, api_key
from logstream.auth.database import Database
from logstream.auth.principal import Principal
from logstream.auth.roles import ROLE_SCOPES, Role
from logstream.auth.streams import StreamInfo, stream_info
from logstream.clock import Clock


@dataclass(slots=True)
class KeyEntry:
    """A key with what authenticating needs. expires_at: nanoseconds since the epoch."""

    digest: bytes
    principal: Principal
    expires_at: int | None
    revoked: bool
    key: ApiKey


@dataclass(frozen=True, slots=True)
class SessionEntry:
    user_id: str
    expires_at: int


class Snapshot:
    """The known state of the database at `revision` (-1: nothing was loaded yet).

    Memory grows with the number of keys, of people and of sessions that have not expired, all of them bounded
    by what the database holds.
    """

    def __init__(self) -> None:
        self.revision = -1
        self.keys: dict[str, KeyEntry] = {}
        self.sessions: dict[bytes, SessionEntry] = {}
        self.users: dict[str, Principal] = {}
        self.streams: dict[str, StreamInfo] = {}

    async def load(self, database: Database, clock: Clock) -> bool:
        """Merge the rows that changed since `revision`; True when there were any. Raises Unavailable."""
        async with database.read() as connection:
            revision = (await connection.execute(select(schema.state.c.revision))).scalar_one()
            if revision == self.revision:
                return False
            if revision < self.revision:
                # An older copy of the database was put in place: nothing known can be trusted.
                return await self._start_again(database, clock)
            now = clock.now_ns()
            streams = (await connection.execute(self._changed(schema.streams))).all()
            users = (await connection.execute(self._changed(schema.users))).all()
            keys = (await connection.execute(self._changed(schema.api_keys))).all()
            sessions = (
                await connection.execute(
                    self._changed(schema.sessions).where(
                        or_(schema.sessions.c.expires_at > now, schema.sessions.c.ended_at.is_not(None))
                    )
                )
            ).all()
        for row in streams:
            if row.deleted_at is None:
                self.streams[row.name] = stream_info(row)
            else:
                self.streams.pop(row.name, None)
        self._merge_people(users, keys)
        for row in sessions:
            if row.ended_at is None:
                self.sessions[row.digest] = SessionEntry(row.user_id, row.expires_at)
            else:
                self.sessions.pop(row.digest, None)
        self.revision = revision
        return True

    def _merge_people(self, users: Sequence[Row[Any]], keys: Sequence[Row[Any]]) -> None:
        changed_users = set()
        for row in users:
            changed_users.add(row.id)
            if row.deleted_at is None:
                self.users[row.id] = _person(row.id, row.email, Role(row.role))
            else:
                self.users.pop(row.id, None)
        for row in keys:
            key = api_key(row)
            self.keys[key.id] = KeyEntry(
                row.digest, self._key_principal(key), key.expires_at, key.revoked_at is not None, key
            )
        if changed_users:
            for entry in self.keys.values():
                if entry.key.owner_id in changed_users:
                    entry.principal = self._key_principal(entry.key)

    def drop_expired_sessions(self, now_ns: int) -> None:
        for digest in [digest for digest, session in self.sessions.items() if session.expires_at <= now_ns]:
            del self.sessions[digest]

    async def _start_again(self, database: Database, clock: Clock) -> bool:
        fresh = Snapshot()
        await fresh.load(database, clock)
        self.revision, self.keys, self.sessions = fresh.revision, fresh.keys, fresh.sessions
        self.users, self.streams = fresh.users, fresh.streams
        return True

    def _changed(self, table: Table) -> Select[tuple[object, ...]]:
        return select(table).where(table.c.revision > self.revision)

    def _key_principal(self, key: ApiKey) -> Principal:
        scopes = key.scopes
        if key.owner_id is not None:
            # A key never does more than its owner may now.
            owner = self.users.get(key.owner_id)
            scopes &= owner.scopes if owner is not None else frozenset()
        return Principal(kind="key", id=key.id, name=key.name, scopes=scopes, stream=key.stream, quota=key.quota)


def _person(user_id: str, email: str, role: Role) -> Principal:
    return Principal(kind="user", id=user_id, name=email, scopes=ROLE_SCOPES[role], role=role.value)
