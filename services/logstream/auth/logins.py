"""Sign up, log in, log out, change the own password: what strangers can call, and therefore throttled."""

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth import schema, validation
from logstream.auth.database import Database
from logstream.auth.keys import SESSION_PREFIX, MalformedCredential, make_token, parse_token
from logstream.auth.passwords import Passwords
from logstream.auth.roles import Role
from logstream.auth.throttle import Throttle, address_subject
from logstream.auth.users import User, Users, end_sessions, set_password
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import InvalidValue, LogStreamError, Unauthenticated
from logstream.metrics import AUTH_FAILURES

MAX_SESSIONS = 20
"""Sessions of one person; the next login ends the oldest."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `token` is shown once; `expires_at`: nanoseconds since the epoch."""

    token: str = field(repr=False)
    expires_at: int
    user: User


class Logins:
    """Every method may raise Unavailable, and TooMany with the time to wait.

    Failures are counted per account (5 free, then 1, 2, 4 … 60 s: an attacker gets 1,500 guesses a day, and
    whom they lock out waits a minute) and per address (20 free, then up to 15 minutes). Sign-ups count per
    address (10 free). An unknown address counts, answers and takes time like a wrong password.
    """

    def __init__(
        self, database: Database, users: Users, passwords: Passwords, clock: Clock, *, session_seconds: float
    ) -> None:
        self._database = database
        self._users = users
        self._passwords = passwords
        self._clock = clock
        self._session_ns = int(session_seconds * NS_PER_SECOND)
        self._by_account = Throttle(clock, free=5, longest=60)
        self._by_address = Throttle(clock, free=20, longest=900)
        self._sign_ups = Throttle(clock, free=10, longest=900)

    async def sign_up(self, email: str, password: str, *, address: str | None = None) -> Session:
        """A new account with the role member, logged in. Raises InvalidValue, Conflict."""
        subject = address_subject(address)
        self._sign_ups.check(subject)
        self._sign_ups.failed(subject)
        return await self._begin(await self._users.create(email, password, role=Role.MEMBER))

    async def log_in(self, email: str, password: str, *, address: str | None = None) -> Session:
        """A new session. Raises Unauthenticated, the same for an unknown address and a wrong password."""
        user, password_hash = await self._proven(email, password, address)
        return await self._begin(user, password_hash)

    async def change_password(
        self, user: User, current: str, new: str, *, token: str | None = None, address: str | None = None
    ) -> None:
        """Replace the own password and end the person's other sessions (than `token`).

        Raises Unauthenticated when `current` is wrong, InvalidValue for a bad `new` one.
        """
        wanted = validation.password(new, email=user.email, field="new_password")
        _, old_hash = await self._proven(user.email, current, address)
        if wanted == validation.typed_password(current):
            raise InvalidValue("new_password must differ from the current one", field="new_password")
        new_hash = await self._passwords.hash(wanted)
        async with self._database.write() as (connection, revision):
            await _still(connection, user.id, old_hash)
            await set_password(connection, user.id, new_hash, revision)
            await end_sessions(connection, user.id, self._clock.now_ns(), revision, but=_digest(token))

    async def log_out(self, token: str) -> None:
        """End the session of `token`; a second time changes nothing."""
        digest = _digest(token)
        if digest is None:
            return
        table = schema.sessions
        async with self._database.write() as (connection, revision):
            await connection.execute(
                update(table)
                .where(table.c.digest == digest, table.c.ended_at.is_(None))
                .values(ended_at=self._clock.now_ns(), revision=revision)
            )

    async def _proven(self, email: str, password: str, address: str | None) -> tuple[User, str]:
        """Who typed the right password, and the hash it matched."""
        subject, account = address_subject(address), _account(email)
        self._by_address.check(subject)
        self._by_account.check(account)
        from_address = self._by_address.failed(subject)
        on_account = self._by_account.failed(account)
        try:
            found = await self._matching(account, password)
        except LogStreamError:
            # Ours to blame, not the caller's guess.
            self._by_address.take_back(from_address)
            self._by_account.take_back(on_account)
            raise
        if found is None:
            AUTH_FAILURES.labels("password").inc()
            raise Unauthenticated("unknown e-mail address or wrong password")
        # The address keeps its earlier failures: an attacker with one account must not wipe them by logging in.
        self._by_address.take_back(from_address)
        self._by_account.succeeded(account)
        return found

    async def _matching(self, account: str, password: str) -> tuple[User, str] | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(schema.users).where(schema.users.c.email == account))).one_or_none()
        stored = row.password_hash if row is not None else None
        typed = validation.typed_password(password)
        if not await self._passwords.verify(stored, typed) or row is None:
            return None
        password_hash: str = row.password_hash
        if self._passwords.is_outdated(password_hash):
            renewed = await self._passwords.hash(typed)
            async with self._database.write() as (connection, revision):
                await _still(connection, row.id, password_hash)
                await set_password(connection, row.id, renewed, revision)
            password_hash = renewed
        return User(row.id, row.email, Role(row.role), row.created_at), password_hash

    async def _begin(self, user: User, password_hash: str | None = None) -> Session:
        token = make_token(SESSION_PREFIX)
        now = self._clock.now_ns()
        table = schema.sessions
        live = (
            select(table.c.digest)
            .where(table.c.user_id == user.id, table.c.ended_at.is_(None), table.c.expires_at > now)
            .order_by(table.c.created_at.desc(), table.c.digest)
        )
        async with self._database.write() as (connection, revision):
            if password_hash is not None:
                await _still(connection, user.id, password_hash)
            oldest = (await connection.execute(live.offset(MAX_SESSIONS - 1))).scalars().all()
            if oldest:
                await connection.execute(
                    update(table).where(table.c.digest.in_(oldest)).values(ended_at=now, revision=revision)
                )
            # Gates drop what has expired by themselves, so these rows tell nobody anything.
            await connection.execute(delete(table).where(table.c.expires_at <= now))
            await connection.execute(
                insert(table).values(
                    digest=token.digest,
                    user_id=user.id,
                    created_at=now,
                    expires_at=now + self._session_ns,
                    revision=revision,
                )
            )
        return Session(token.text, now + self._session_ns, user)


def _account(email: str) -> str:
    """What is looked up and throttled: one spelling per account; what is no address is cut, and unknown."""
    try:
        return validation.email(email)
    except InvalidValue:
        return email[:64].encode("utf-8", "replace").decode().replace("\0", "")


async def _still(connection: AsyncConnection, user_id: str, password_hash: str) -> None:
    # Between the proof and this transaction the password may have been reset: the old one must open nothing.
    query = select(schema.users.c.password_hash).where(schema.users.c.id == user_id)
    if (await connection.execute(query)).scalar_one_or_none() != password_hash:
        raise Unauthenticated("the password was changed meanwhile")


def _digest(token: str | None) -> bytes | None:
    try:
        return parse_token(token, SESSION_PREFIX) if token is not None else None
    except MalformedCredential:
        return None
