"""The gate: who is calling, answered from memory. Nothing here waits for the database."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from logstream.auth.accounts import Accounts
from logstream.auth.database import CHANGES
from logstream.auth.keys import SESSION_PREFIX, MalformedCredential, credential_of, parse_key, parse_token, same
from logstream.auth.principal import Principal, Scope
from logstream.auth.snapshot import Snapshot
from logstream.auth.streams import StreamInfo
from logstream.auth.tickets import Tickets
from logstream.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from logstream.logs import get_logger
from logstream.metrics import AUTH_AWAY, AUTH_FAILURES
from logstream.stream import Stream

_FLUSH_SECONDS = 5.0
_REFRESH_TIMEOUT = 4.0
_SLOW_SECONDS = 1.0
_HEAL_SECONDS = 5.0

_log = get_logger("auth")


class Gate:
    """Authenticates from a snapshot of the accounts database.

    The snapshot is brought up to date at once when this process changes something and, on Postgres, when another
    one does; and every `refresh_seconds` otherwise. While the database is away, what is known goes on for
    `stale_seconds`; an unknown credential is answered Unavailable (503) instead of Unauthenticated (401), because
    it may be newer than the snapshot.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._clock = accounts.clock
        self._snapshot = Snapshot()
        self._tickets = Tickets(accounts.clock, accounts.settings.ticket_seconds)
        self._away = True
        self._looked = accounts.clock.monotonic()
        self._looking_since: float | None = None
        self._used: dict[str, int] = {}
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        accounts.database.on_change(self.refresh)
        signals = accounts.database.signals
        if signals is not None:
            signals.listen(CHANGES, self._heard)
            # What was said while nobody listened is lost; and why it was lost, a look will tell.
            signals.on_connected(self._changed.set)
            signals.on_lost(self._changed.set)

    @classmethod
    async def open(cls, accounts: Accounts) -> "Gate":
        """A gate with its first snapshot, when the database can be reached."""
        gate = cls(accounts)
        await gate.refresh()
        return gate

    def authenticate(self, authorization: str | bytes | None, *, ticket: str | None = None) -> Principal:
        """The caller that a credential proves: the value of an Authorization header, or else a ticket.

        authorization: `Bearer X` or a bare X, X an API key or a session token. A ticket is used up and gives
        the scope `read` only. Raises Unauthenticated, or Unavailable (see the class).
        """
        if authorization is None:
            return self._redeem(ticket)
        if self._away:
            self._require_recent()
        credential = authorization if isinstance(authorization, str) else str(authorization, "latin-1")
        if credential[:7] == "Bearer ":
            credential = credential[7:]
        try:
            key_id, digest = parse_key(credential)
        except MalformedCredential:
            return self._authenticate_other(credential)
        return self._authenticate_key(key_id, digest)

    def _authenticate_key(self, key_id: str, digest: bytes) -> Principal:
        entry = self._snapshot.keys.get(key_id)
        if entry is None:
            self._refuse_unknown("key")
        if not same(entry.digest, digest):
            _refuse("unknown", "this key is not known")
        if entry.revoked:
            _refuse("revoked", "this key was revoked")
        now = self._clock.now_ns()
        if entry.expires_at is not None and entry.expires_at <= now:
            _refuse("expired", "this key has expired")
        self._used[key_id] = now
        return entry.principal

    def _authenticate_other(self, credential: str) -> Principal:
        """A session, or a key in an unusual wrapping; says what is wrong with anything else."""
        credential = credential_of(credential)
        if not credential:
            _refuse("missing", "the Authorization header is empty")
        try:
            if not credential.startswith(SESSION_PREFIX):
                return self._authenticate_key(*parse_key(credential))
            digest = parse_token(credential, SESSION_PREFIX)
        except MalformedCredential as error:
            _refuse("malformed", f"the Authorization header has no key or session of LogStream: {error}")
        session = self._snapshot.sessions.get(digest)
        if session is None:
            self._refuse_unknown("session")
        if session.expires_at <= self._clock.now_ns():
            _refuse("expired", "this session has expired: log in again")
        person = self._snapshot.users.get(session.user_id)
        if person is None:
            _refuse("unknown", "this account was deleted")
        return replace(person, session=digest)

    def issue_ticket(self, principal: Principal) -> str:
        """A single-use ticket for a browser's next WebSocket or SSE connection, good for `ticket_seconds`.

        Raises Forbidden without the scope `read`, TooMany when too many wait to be used.
        """
        if principal.kind == "anonymous":
            raise Forbidden("an anonymous caller needs no ticket", field="scope")
        principal.require(Scope.READ)
        return self._tickets.issue(principal)

    def _redeem(self, ticket: str | None) -> Principal:
        if ticket is None:
            _refuse("missing", "a key or a login is needed: send 'Authorization: Bearer KEY'")
        issued_to = self._tickets.redeem(ticket)
        if issued_to is None or not self.is_active(issued_to):
            _refuse("ticket", "this ticket is unknown, expired or already used: get another one")
        return Principal(
            kind=issued_to.kind,
            id=issued_to.id,
            name=issued_to.name,
            scopes=issued_to.scopes & {Scope.READ},
            stream=issued_to.stream,
            quota=issued_to.quota,
            role=None,  # a role would bring back the rights that a ticket is not to have
            session=issued_to.session,
        )

    def is_active(self, principal: Principal) -> bool:
        """Whether the key, or the account and its login, still exists and may read; for what lives long."""
        if self._away and self.age > self._accounts.settings.stale_seconds:
            return False
        if principal.kind == "anonymous":
            info = self._snapshot.streams.get(principal.stream or "")
            return info is not None and info.anonymous_reads
        if principal.kind == "user":
            return principal.id in self._snapshot.users and self._is_open(principal.session)
        entry = self._snapshot.keys.get(principal.id)
        return (
            entry is not None
            and not entry.revoked
            and (entry.expires_at is None or entry.expires_at > self._clock.now_ns())
            and Scope.READ in entry.principal.scopes
        )

    def _is_open(self, session: bytes | None) -> bool:
        if session is None:
            return True
        found = self._snapshot.sessions.get(session)
        return found is not None and found.expires_at > self._clock.now_ns()

    def stream(self, name: str) -> StreamInfo:
        """A stream to send to or to read. Raises as `info`, and Unavailable while it is being made."""
        info = self.info(name)
        if not info.ready:
            raise Unavailable(f"the stream '{name}' is still being made", field="stream", retry_after=2)
        return info

    def info(self, name: str) -> StreamInfo:
        """Raises NotFound; Unavailable before the first snapshot."""
        info = self._snapshot.streams.get(name)
        if info is None:
            if self._snapshot.revision < 0:
                raise Unavailable("the accounts database was not reached yet", retry_after=2)
            raise NotFound(f"there is no stream '{name}'", field="stream")
        return info

    def streams(self) -> list[StreamInfo]:
        """All streams, without those that were deleted."""
        return list(self._snapshot.streams.values())

    def current(self) -> Sequence[Stream]:
        """The streams that a processor serves: all, also while their topics and tables are still being made."""
        return [info.stream for info in self._snapshot.streams.values()]

    def anonymous(self, stream: str) -> Principal:
        """Nobody, reading a stream that allows it. Raises Unauthenticated when it does not, NotFound, Unavailable."""
        if self._away:
            self._require_recent()
        if not self.stream(stream).anonymous_reads:
            _refuse("missing", "a key or a login is needed: send 'Authorization: Bearer KEY'")
        return Principal(
            kind="anonymous", id="anonymous", name="anonymous", scopes=frozenset({Scope.READ}), stream=stream
        )

    @property
    def away(self) -> bool:
        """Whether the last look at the database failed."""
        return self._away

    @property
    def age(self) -> float:
        """Seconds since the last look that succeeded."""
        return self._clock.monotonic() - self._looked

    def _require_recent(self) -> None:
        limit = self._accounts.settings.stale_seconds
        if self.age > limit and self._snapshot.revision >= 0:
            AUTH_FAILURES.labels("stale").inc()
            raise Unavailable(
                f"the accounts database has been away for more than {limit:g} seconds: what was known of keys and "
                "logins is too old",
                retry_after=5,
                limit=limit,
            )

    def last_used(self, key_id: str) -> int | None:
        """Time of last use not yet written down, nanoseconds since the epoch."""
        return self._used.get(key_id)

    async def refresh(self) -> None:
        """Bring the snapshot up to date. A database that is away is noted, not raised."""
        async with self._refreshing:
            self._looking_since = began = self._clock.monotonic()
            try:
                async with asyncio.timeout(_REFRESH_TIMEOUT):
                    await self._snapshot.load(self._accounts.database, self._clock)
            except (Unavailable, TimeoutError) as error:
                if not self._away or self._snapshot.revision < 0:
                    reason = str(error) or f"no answer within {_REFRESH_TIMEOUT:g} seconds"
                    _log.warning("accounts database away, going on with what is known", reason=reason)
                self._away = True
                AUTH_AWAY.set(1)
                return
            finally:
                self._looking_since = None
            self._looked = began
            if self._away and self._snapshot.revision >= 0:
                self._away = False
            AUTH_AWAY.set(self._away)
            self._snapshot.drop_expired_sessions(self._clock.now_ns())

    async def flush_last_use(self) -> None:
        """Write the times of last use in one transaction; kept for the next time while the database is away."""
        if not self._used or self._away:
            return
        used, self._used = self._used, {}
        try:
            await self._accounts.keys.note_use(used)
        except Unavailable:
            self._used = used | self._used

    async def run(self, stop: asyncio.Event) -> None:
        """Listen, refresh, finish what streams need and flush until `stop` is set; then flush once more."""
        signals = self._accounts.database.signals
        async with asyncio.TaskGroup() as tasks:
            if signals is not None:
                tasks.create_task(signals.run(stop))
            tasks.create_task(self._wake_at(stop))
            healing = tasks.create_task(self._heal())
            await self._look_again(stop)
            # It can be done again, by whoever is next.
            healing.cancel()
        await self.flush_last_use()

    async def _heal(self) -> None:
        """Finish what streams that were made or deleted need outside the database."""
        while True:
            try:
                await self._accounts.streams.heal()
            except Unavailable as error:
                _log.debug("streams not looked at", reason=error.message)
            await asyncio.sleep(_HEAL_SECONDS)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _look_again(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        flushed = loop.time()
        while not stop.is_set():
            self._changed.clear()
            await self.refresh()
            if loop.time() - flushed >= _FLUSH_SECONDS:
                await self.flush_last_use()
                flushed = loop.time()
            if stop.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._accounts.settings.refresh_seconds)

    def _heard(self, revision: str) -> None:
        if revision != str(self._snapshot.revision):
            self._changed.set()

    def _refuse_unknown(self, what: str) -> NoReturn:
        # A look that takes long is likely one that will fail.
        began = self._looking_since
        if self._away or (began is not None and self._clock.monotonic() - began > _SLOW_SECONDS):
            AUTH_FAILURES.labels("away").inc()
            raise Unavailable(f"this {what} is not known yet and the accounts database is away", retry_after=2)
        _refuse("unknown", f"this {what} is not known")


def _refuse(reason: str, message: str) -> NoReturn:
    AUTH_FAILURES.labels(reason).inc()
    raise Unauthenticated(message)
