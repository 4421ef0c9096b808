"""People: made, listed, promoted, removed; the last admin stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth import schema, validation
from logstream.auth.database import Database
from logstream.auth.keys import new_id
from logstream.auth.passwords import Passwords
from logstream.auth.roles import Role
from logstream.auth.saved import delete_private
from logstream.clock import Clock
from logstream.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class User:
    """An account as it may be shown. created_at: nanoseconds since the epoch."""

    id: str
    email: str
    role: Role
    created_at: int


def _user(row: Row[Any]) -> User:
    return User(row.id, row.email, Role(row.role), row.created_at)


class Users:
    """Every method may raise Unavailable."""

    def __init__(self, database: Database, passwords: Passwords, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock

    async def create(self, email: str, password: str, *, role: Role = Role.MEMBER) -> User:
        """A new account. Raises InvalidValue, Conflict when the address has one."""
        address = validation.email(email)
        password_hash = await self._passwords.hash(validation.password(password, email=address))
        user = User(new_id(), address, role, self._clock.now_ns())
        try:
            async with self._database.write() as (connection, revision):
                await insert_user(connection, user, password_hash, revision)
        except IntegrityError as error:
            raise Conflict("this e-mail address already has an account", field="email") from error
        return user

    async def list(self) -> Sequence[User]:
        """All accounts by address."""
        query = select(schema.users).where(schema.users.c.deleted_at.is_(None)).order_by(schema.users.c.email)
        async with self._database.read() as connection:
            return [_user(row) for row in await connection.execute(query)]

    async def get(self, user_id: str) -> User:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await _find(connection, user_id)

    async def set_role(self, user_id: str, role: Role) -> User:
        """Raises NotFound, Conflict for the last admin."""
        async with self._database.write() as (connection, revision):
            user = await _find(connection, user_id)
            if role is not Role.ADMIN:
                await _keep_an_admin(connection, user)
            await connection.execute(
                update(schema.users).where(schema.users.c.id == user_id).values(role=role.value, revision=revision)
            )
        return User(user.id, user.email, role, user.created_at)

    async def delete(self, user_id: str) -> None:
        """Remove an account, end its sessions, revoke its keys and delete its private views; shared ones stay.

        Raises NotFound, Conflict for the last admin.
        """
        now = self._clock.now_ns()
        async with self._database.write() as (connection, revision):
            await _keep_an_admin(connection, await _find(connection, user_id))
            await connection.execute(
                update(schema.users)
                .where(schema.users.c.id == user_id)
                .values(email=None, password_hash="", deleted_at=now, revision=revision)
            )
            await end_sessions(connection, user_id, now, revision)
            await delete_private(connection, user_id)
            await connection.execute(
                update(schema.api_keys)
                .where(schema.api_keys.c.owner_id == user_id, schema.api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now, revision=revision)
            )

    async def reset_password(self, user_id: str, password: str) -> None:
        """Set another's password and end the person's sessions. Raises NotFound, InvalidValue."""
        user = await self.get(user_id)
        password_hash = await self._passwords.hash(validation.password(password, email=user.email))
        async with self._database.write() as (connection, revision):
            await _find(connection, user_id)
            await set_password(connection, user_id, password_hash, revision)
            await end_sessions(connection, user_id, self._clock.now_ns(), revision)


async def insert_user(connection: AsyncConnection, user: User, password_hash: str, revision: int) -> None:
    await connection.execute(
        insert(schema.users).values(
            id=user.id,
            email=user.email,
            password_hash=password_hash,
            role=user.role.value,
            created_at=user.created_at,
            revision=revision,
        )
    )


async def set_password(connection: AsyncConnection, user_id: str, password_hash: str, revision: int) -> None:
    await connection.execute(
        update(schema.users).where(schema.users.c.id == user_id).values(password_hash=password_hash, revision=revision)
    )


async def end_sessions(
    connection: AsyncConnection, user_id: str, now_ns: int, revision: int, *, but: bytes | None = None
) -> None:
    """End all sessions of a person, except the one with the digest `but`."""
    table = schema.sessions
    statement = update(table).where(table.c.user_id == user_id, table.c.ended_at.is_(None))
    if but is not None:
        statement = statement.where(table.c.digest != but)
    await connection.execute(statement.values(ended_at=now_ns, revision=revision))


async def _find(connection: AsyncConnection, user_id: str) -> User:
    query = select(schema.users).where(schema.users.c.id == user_id, schema.users.c.deleted_at.is_(None))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("there is no such user", field="user_id")
    return _user(row)


async def _keep_an_admin(connection: AsyncConnection, user: User) -> None:
    # Within the writing transaction, and writers come one after another: two admins cannot remove each other.
    if user.role is not Role.ADMIN:
        return
    query = (
        select(func.count())
        .select_from(schema.users)
        .where(schema.users.c.role == Role.ADMIN.value, schema.users.c.deleted_at.is_(None))
    )
    if (await connection.execute(query)).scalar_one() <= 1:
        raise Conflict("this is the last admin: make somebody else an admin first", field="role")
