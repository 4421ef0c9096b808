"""What an accounts database does; one suite for SQLite and Postgres."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from logstream.auth import schema, streams
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.keys import make_key
from logstream.auth.passwords import Passwords
from logstream.auth.principal import Quota, Scope
from logstream.auth.roles import Role
from logstream.auth.saved import ViewContent
from logstream.auth.streams import StreamInfo
from logstream.clock import NS_PER_SECOND, ManualClock
from logstream.errors import (
    Conflict,
    Forbidden,
    InvalidValue,
    LogStreamError,
    NotFound,
    StoreUnavailable,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from logstream.settings import AuthSettings
from logstream.stream import Stream, make_stream

PASSWORD = "correct horse battery"


class CountingPasswords(Passwords):
    """The real thing with cheap parameters, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(memory_kib=8, passes=1)
        self.verified = 0
        self.after_verify: Callable[[], Awaitable[None]] | None = None

    async def verify(self, stored: str | None, password: str) -> bool:
        self.verified += 1
        matches = await super().verify(stored, password)
        if self.after_verify is not None:
            await self.after_verify()
        return matches


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/auth.db"
    return str(request.getfixturevalue("postgres").url())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def passwords() -> CountingPasswords:
    return CountingPasswords()


@pytest.fixture
async def accounts(url: str, clock: ManualClock, passwords: CountingPasswords) -> AsyncIterator[Accounts]:
    accounts = await Accounts.open(AuthSettings(url=url), clock, passwords=passwords)
    yield accounts
    await accounts.close()


@pytest.fixture
async def gate(accounts: Accounts) -> Gate:
    return await Gate.open(accounts)


@pytest.fixture
async def other(url: str, clock: ManualClock) -> AsyncIterator[Accounts]:
    """The same database, as another process has it."""
    other = await Accounts.open(AuthSettings(url=url), clock, passwords=CountingPasswords())
    yield other
    await other.close()


def bearer(text: str) -> str:
    return f"Bearer {text}"


async def test_a_new_key_works_at_once(accounts: Accounts, gate: Gate) -> None:
    made = await accounts.create_key(" app ", scopes=[Scope.INGEST], quota=Quota(10, None))
    for credential in (made.text, bearer(made.text), bearer(made.text).encode(), "BEARER  " + made.text):
        caller = gate.authenticate(credential)
        assert (caller.kind, caller.id, caller.name, caller.stream) == ("key", made.key.id, "app", "default")
        assert caller.scopes == {Scope.INGEST}
        assert caller.quota == Quota(10, None)


async def test_wrong_scope_and_other_stream(accounts: Accounts, gate: Gate) -> None:
    caller = gate.authenticate((await accounts.create_key("app", scopes=[Scope.INGEST])).text)
    caller.require(Scope.INGEST, stream="default")
    with pytest.raises(Forbidden):
        caller.require(Scope.READ)
    with pytest.raises(Forbidden):
        caller.require(Scope.INGEST, stream="other")


async def test_a_revoked_key_stops(accounts: Accounts, gate: Gate) -> None:
    made = await accounts.create_key("app", scopes=[Scope.INGEST])
    await accounts.keys.revoke(made.key.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        gate.authenticate(made.text)
    first = (await accounts.keys.get(made.key.id)).revoked_at
    assert (await accounts.keys.revoke(made.key.id)).revoked_at == first
    assert await accounts.keys.list() == []
    assert [key.id for key in await accounts.keys.list(revoked=True)] == [made.key.id]


async def test_a_key_expires(accounts: Accounts, gate: Gate, clock: ManualClock) -> None:
    made = await accounts.create_key("app", scopes=[Scope.INGEST], expires_at=clock.now_ns() + 10 * NS_PER_SECOND)
    clock.advance(9)
    gate.authenticate(made.text)
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired"):
        gate.authenticate(made.text)
    await accounts.keys.update(made.key.id, expires_at=None)
    gate.authenticate(made.text)


async def test_the_right_id_with_another_secret(accounts: Accounts, gate: Gate) -> None:
    mine, yours = [await accounts.create_key("app", scopes=[Scope.INGEST]) for _ in range(2)]
    _, _, secret, _ = yours.text.split("_")
    from logstream.auth.keys import _seal  # the only way to a well-formed forgery

    with pytest.raises(Unauthenticated, match="not known"):
        gate.authenticate(_seal(f"ls_{mine.key.id}_{secret}"))


async def test_keys_are_checked_when_made_and_changed(accounts: Accounts, clock: ManualClock) -> None:
    for wrong in (
        {"name": "", "scopes": [Scope.READ]},
        {"name": "x" * 101, "scopes": [Scope.READ]},
        {"name": "app", "scopes": []},
        {"name": "app", "scopes": [Scope.READ], "expires_at": clock.now_ns()},
        {"name": "app", "scopes": [Scope.READ], "expires_at": 2**63},
        {"name": "app", "scopes": [Scope.READ], "quota": Quota(0, None)},
    ):
        with pytest.raises(InvalidValue):
            await accounts.create_key(**wrong)  # type: ignore[arg-type]
    made = await accounts.create_key("app", scopes=[Scope.READ])
    with pytest.raises(InvalidValue):
        await accounts.keys.update(made.key.id, name="\0")
    changed = await accounts.keys.update(made.key.id, name="web", quota=Quota(1, 2))
    assert (changed.name, changed.quota, changed.scopes) == ("web", Quota(1, 2), {Scope.READ})
    await accounts.keys.revoke(made.key.id)
    with pytest.raises(Conflict):
        await accounts.keys.update(made.key.id, name="again")
    for call in (accounts.keys.get, accounts.keys.update, accounts.keys.revoke):
        with pytest.raises(NotFound):
            await call("nosuchkey")


async def test_last_use_is_written_in_one_go_and_never_goes_back(
    accounts: Accounts, gate: Gate, clock: ManualClock
) -> None:
    made = await accounts.create_key("app", scopes=[Scope.INGEST])
    unused = await accounts.create_key("unused", scopes=[Scope.INGEST])
    gate.authenticate(made.text)
    clock.advance(5)
    gate.authenticate(made.text)
    assert gate.last_used(made.key.id) == clock.now_ns()
    assert (await accounts.keys.get(made.key.id)).last_used_at is None
    await gate.flush_last_use()
    assert (await accounts.keys.get(made.key.id)).last_used_at == clock.now_ns()
    assert (await accounts.keys.get(unused.key.id)).last_used_at is None
    await accounts.keys.note_use({made.key.id: 1, "gone": 2})
    assert (await accounts.keys.get(made.key.id)).last_used_at == clock.now_ns()


async def test_another_process_learns_of_every_change(accounts: Accounts, other: Accounts, gate: Gate) -> None:
    there = await Gate.open(other)
    made = await accounts.create_key("app", scopes=[Scope.INGEST])
    await accounts.ensure_stream(make_stream("default"))
    session = await accounts.logins.sign_up("ada@example.com", PASSWORD)
    with pytest.raises(Unauthenticated):
        there.authenticate(made.text)
    await there.refresh()
    assert there.authenticate(made.text) == gate.authenticate(made.text)
    assert there.authenticate(session.token) == gate.authenticate(session.token)
    await accounts.update_stream("default", anonymous_reads=True)
    await accounts.keys.revoke(made.key.id)
    await accounts.logins.log_out(session.token)
    await there.refresh()
    assert there.stream("default") == gate.stream("default")
    assert there.stream("default").anonymous_reads
    for text in (made.text, session.token):
        with pytest.raises(Unauthenticated):
            there.authenticate(text)


async def test_the_refresh_loop_sees_a_revocation_elsewhere(url: str, accounts: Accounts) -> None:
    other = await Accounts.open(AuthSettings(url=url, refresh_seconds=0.01), passwords=CountingPasswords())
    made = await accounts.create_key("app", scopes=[Scope.INGEST])
    gate = await Gate.open(other)
    stop = asyncio.Event()
    loop = asyncio.create_task(gate.run(stop))
    gate.authenticate(made.text)
    await accounts.keys.revoke(made.key.id)
    async with asyncio.timeout(5):
        while True:
            try:
                gate.authenticate(made.text)
            except Unauthenticated:
                break
            await asyncio.sleep(0.005)
    stop.set()
    await loop
    assert (await accounts.keys.get(made.key.id)).last_used_at is not None, "flushed when it stops"
    await other.close()


async def test_a_session_logs_in_and_out(accounts: Accounts, gate: Gate, clock: ManualClock) -> None:
    await accounts.users.create("Ada@Example.com", PASSWORD)
    session = await accounts.logins.log_in(" ada@example.COM", PASSWORD)
    caller = gate.authenticate(bearer(session.token))
    assert (caller.kind, caller.name, caller.role) == ("user", "ada@example.com", "member")
    assert caller.stream is None
    await accounts.logins.log_out(session.token)
    await accounts.logins.log_out(session.token)
    await accounts.logins.log_out("nonsense")
    with pytest.raises(Unauthenticated):
        gate.authenticate(session.token)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    clock.advance(accounts.settings.session_seconds)
    with pytest.raises(Unauthenticated, match="expired"):
        gate.authenticate(session.token)


async def test_the_oldest_session_makes_room(accounts: Accounts, gate: Gate, clock: ManualClock) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    tokens = []
    for _ in range(21):
        tokens.append((await accounts.logins.log_in("ada@example.com", PASSWORD)).token)
        clock.advance(1)
    with pytest.raises(Unauthenticated):
        gate.authenticate(tokens[0])
    for token in tokens[1:]:
        gate.authenticate(token)


async def test_unknown_address_and_wrong_password_look_the_same(
    accounts: Accounts, passwords: CountingPasswords
) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    answers = []
    for email, password in (
        ("ada@example.com", "wrong password"),
        ("bob@example.com", "wrong password"),
        ("no address", PASSWORD),
        ("ada@example.com", "x" * 5000),
        ("ada@example.com", "\ud800"),
        ("nul\0@example.com", ""),
        ("\udfff", "\udfff"),
    ):
        before = passwords.verified
        with pytest.raises(LogStreamError) as caught:
            await accounts.logins.log_in(email, password)
        assert passwords.verified == before + 1, "the same work for each"
        answers.append((type(caught.value), caught.value.body()))
    assert answers == [answers[0]] * len(answers)
    assert answers[0][0] is Unauthenticated


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
async def test_brute_force_waits_longer_each_time(
    accounts: Accounts, clock: ManualClock, passwords: CountingPasswords, email: str
) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    waits = []
    for attempt in range(12):
        if attempt >= 5:
            asked = passwords.verified
            with pytest.raises(TooMany) as refused:
                # From another address each time, and in another spelling: it is the account that waits.
                await accounts.logins.log_in(email.upper(), PASSWORD, address=f"192.0.2.{attempt}")
            assert passwords.verified == asked, "a waiting attempt is not looked at"
            waits.append(refused.value.retry_after)
            clock.advance(refused.value.retry_after)
        with pytest.raises(Unauthenticated):
            await accounts.logins.log_in(email, "wrong password", address=f"198.51.100.{attempt}")
    assert waits == [1, 2, 4, 8, 16, 32, 60]
    clock.advance(60)
    if email == "ada@example.com":
        await accounts.logins.log_in(email, PASSWORD)
        with pytest.raises(Unauthenticated):
            await accounts.logins.log_in(email, "wrong password")
        await accounts.logins.log_in(email, PASSWORD)


async def test_attempts_at_once_get_no_more_guesses(accounts: Accounts, passwords: CountingPasswords) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    answers = await asyncio.gather(
        *(accounts.logins.log_in("ada@example.com", "wrong password") for _ in range(50)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["TooMany"] * 45 + ["Unauthenticated"] * 5
    assert passwords.verified == 5


async def test_an_address_waits_whatever_account_it_tries(accounts: Accounts, clock: ManualClock) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await accounts.logins.log_in(f"user{number}@example.com", PASSWORD, address="2001:db8::1")
    with pytest.raises(TooMany):
        await accounts.logins.log_in("ada@example.com", PASSWORD, address="2001:db8::2")
    await accounts.logins.log_in("ada@example.com", PASSWORD, address="2001:db8:0:1::1")
    clock.advance(1)
    await accounts.logins.log_in("ada@example.com", PASSWORD, address="2001:db8::2")
    with pytest.raises(Unauthenticated):
        await accounts.logins.log_in("bob@example.com", PASSWORD, address="2001:db8::2")
    with pytest.raises(TooMany) as refused:
        await accounts.logins.log_in("bob@example.com", PASSWORD, address="2001:db8::2")
    assert refused.value.retry_after == 2, "logging in with an own account wiped nothing"


async def test_sign_ups_are_counted_per_address(accounts: Accounts, clock: ManualClock) -> None:
    for number in range(10):
        await accounts.logins.sign_up(f"user{number}@example.com", PASSWORD, address="192.0.2.1")
    with pytest.raises(TooMany):
        await accounts.logins.sign_up("one.more@example.com", PASSWORD, address="192.0.2.1")
    clock.advance(1)
    await accounts.logins.sign_up("one.more@example.com", PASSWORD, address="192.0.2.1")


async def test_addresses_are_unique_and_free_again(accounts: Accounts) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    with pytest.raises(Conflict):
        await accounts.users.create("ADA@example.com", PASSWORD)
    await accounts.users.delete(ada.id)
    again = await accounts.users.create("ada@example.com", PASSWORD)
    assert again.id != ada.id
    assert [user.id for user in await accounts.users.list()] == [again.id]


async def test_changing_the_password_ends_other_sessions(accounts: Accounts, gate: Gate) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    here, there = [await accounts.logins.log_in("ada@example.com", PASSWORD) for _ in range(2)]
    with pytest.raises(Unauthenticated):
        await accounts.logins.change_password(ada, "not the password", "another one entirely")
    with pytest.raises(InvalidValue):
        await accounts.logins.change_password(ada, PASSWORD, PASSWORD)
    with pytest.raises(InvalidValue) as caught:
        await accounts.logins.change_password(ada, PASSWORD, "short")
    assert caught.value.field == "new_password"
    await accounts.logins.change_password(ada, PASSWORD, "another one entirely", token=here.token)
    gate.authenticate(here.token)
    with pytest.raises(Unauthenticated):
        gate.authenticate(there.token)
    with pytest.raises(Unauthenticated):
        await accounts.logins.log_in("ada@example.com", PASSWORD)
    await accounts.logins.log_in("ada@example.com", "another one entirely")


async def test_a_reset_ends_all_sessions(accounts: Accounts, gate: Gate) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    await accounts.users.reset_password(ada.id, "another one entirely")
    with pytest.raises(Unauthenticated):
        gate.authenticate(session.token)
    with pytest.raises(Unauthenticated):
        await accounts.logins.log_in("ada@example.com", PASSWORD)
    with pytest.raises(NotFound):
        await accounts.users.reset_password("nobody", PASSWORD)


async def test_a_login_under_way_does_not_survive_a_reset(accounts: Accounts, passwords: CountingPasswords) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)

    async def reset() -> None:
        await accounts.users.reset_password(ada.id, "another one entirely")

    passwords.after_verify = reset
    with pytest.raises(Unauthenticated):
        await accounts.logins.log_in("ada@example.com", PASSWORD)
    passwords.after_verify = None
    await accounts.logins.log_in("ada@example.com", "another one entirely")


async def test_a_hash_of_other_parameters_is_renewed(accounts: Accounts, url: str, clock: ManualClock) -> None:
    await accounts.users.create("ada@example.com", PASSWORD)
    stronger = await Accounts.open(AuthSettings(url=url), clock, passwords=Passwords(memory_kib=16, passes=1))
    await stronger.logins.log_in("ada@example.com", PASSWORD)
    async with stronger.database.read() as connection:
        stored = (await connection.execute(schema.users.select())).one().password_hash
    assert "m=16," in stored
    await stronger.logins.log_in("ada@example.com", PASSWORD)
    await stronger.close()


async def test_a_role_and_its_keys_change_together(accounts: Accounts, gate: Gate) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    made = await accounts.create_key("mine", scopes=[Scope.INGEST, Scope.READ], owner_id=ada.id)
    assert gate.authenticate(made.text).scopes == {Scope.INGEST, Scope.READ}
    await accounts.users.set_role(ada.id, Role.VIEWER)
    assert gate.authenticate(session.token).role == "viewer"
    assert gate.authenticate(made.text).scopes == {Scope.READ}
    await accounts.users.set_role(ada.id, Role.ADMIN)
    assert gate.authenticate(made.text).scopes == {Scope.INGEST, Scope.READ}


async def test_a_deleted_account_and_its_keys_stop(accounts: Accounts, gate: Gate) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    mine = await accounts.create_key("mine", scopes=[Scope.READ], owner_id=ada.id)
    shared = await accounts.create_key("shared", scopes=[Scope.READ])
    await accounts.users.delete(ada.id)
    for text in (session.token, mine.text):
        with pytest.raises(Unauthenticated):
            gate.authenticate(text)
    gate.authenticate(shared.text)
    with pytest.raises(NotFound):
        await accounts.users.get(ada.id)


async def test_the_last_admin_stays(accounts: Accounts, other: Accounts) -> None:
    ada = await accounts.users.create("ada@example.com", PASSWORD, role=Role.ADMIN)
    with pytest.raises(Conflict, match="last admin"):
        await accounts.users.delete(ada.id)
    with pytest.raises(Conflict, match="last admin"):
        await accounts.users.set_role(ada.id, Role.MEMBER)
    await accounts.users.set_role(ada.id, Role.ADMIN)
    bob = await accounts.users.create("bob@example.com", PASSWORD, role=Role.ADMIN)
    # Two admins remove each other at the same moment, from two processes: one of them stays.
    answers = await asyncio.gather(
        accounts.users.delete(ada.id), other.users.set_role(bob.id, Role.VIEWER), return_exceptions=True
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 1
    assert sum(user.role is Role.ADMIN for user in await accounts.users.list()) == 1


async def test_tickets_read_once(accounts: Accounts, gate: Gate) -> None:
    made = await accounts.create_key("both", scopes=[Scope.INGEST, Scope.READ])
    ticket = gate.issue_ticket(gate.authenticate(made.text))
    caller = gate.authenticate(None, ticket=ticket)
    assert (caller.id, caller.scopes, caller.stream) == (made.key.id, {Scope.READ}, "default")
    with pytest.raises(Unauthenticated):
        gate.authenticate(None, ticket=ticket)
    with pytest.raises(Unauthenticated):
        gate.authenticate(ticket)
    late = gate.issue_ticket(gate.authenticate(made.text))
    await accounts.keys.revoke(made.key.id)
    with pytest.raises(Unauthenticated):
        gate.authenticate(None, ticket=late)
    sender = gate.authenticate((await accounts.create_key("in", scopes=[Scope.INGEST])).text)
    with pytest.raises(Forbidden):
        gate.issue_ticket(sender)


async def test_an_admin_with_a_ticket_is_no_admin(accounts: Accounts, gate: Gate) -> None:
    await accounts.users.create("ada@example.com", PASSWORD, role=Role.ADMIN)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    caller = gate.authenticate(None, ticket=gate.issue_ticket(gate.authenticate(session.token)))
    assert (caller.role, caller.scopes) == (None, {Scope.READ})


async def test_long_connections_can_ask_again(accounts: Accounts, gate: Gate) -> None:
    await accounts.ensure_stream(make_stream("default"))
    await accounts.update_stream("default", anonymous_reads=True)
    ada = await accounts.users.create("ada@example.com", PASSWORD)
    session = await accounts.logins.log_in("ada@example.com", PASSWORD)
    made = await accounts.create_key("app", scopes=[Scope.READ])
    callers = [gate.authenticate(made.text), gate.authenticate(session.token), gate.anonymous("default")]
    assert all(map(gate.is_active, callers))
    await accounts.keys.revoke(made.key.id)
    await accounts.users.delete(ada.id)
    await accounts.update_stream("default", anonymous_reads=False)
    assert not any(map(gate.is_active, callers))


async def test_the_directory_of_streams(accounts: Accounts, gate: Gate) -> None:
    stream = make_stream("default")
    with pytest.raises(NotFound):
        gate.stream("default")
    made = await accounts.ensure_stream(stream)
    assert (made.stream, made.retention_days, made.anonymous_reads) == (stream, 30, False)
    assert gate.stream("default") == made
    assert await accounts.ensure_stream(stream, retention_days=7) == made, "there already: stays as it is"
    with pytest.raises(Conflict):
        await accounts.ensure_stream(make_stream("default", generation="2"))
    with pytest.raises(Unauthenticated):
        gate.anonymous("default")
    changed = await accounts.update_stream("default", retention_days=14, anonymous_reads=True)
    assert (changed.retention_days, changed.anonymous_reads) == (14, True)
    assert gate.stream("default") == changed == await accounts.streams.get("default")
    gate.anonymous("default").require(Scope.READ, stream="default")
    for days in (0, -1, 36_501, 2**70):
        with pytest.raises(InvalidValue):
            await accounts.update_stream("default", retention_days=days)
    with pytest.raises(NotFound):
        await accounts.update_stream("other", retention_days=1)
    await accounts.ensure_stream(make_stream("a"), retention_days=1)
    assert [info.stream.name for info in await accounts.streams.list()] == ["a", "default"]


async def test_a_stream_is_made_with_all_it_has(accounts: Accounts, gate: Gate) -> None:
    made = await accounts.streams.create(
        "payments", retention_days=90, dead_letter_days=7, anonymous_reads=True, quota=Quota(1000, None)
    )
    assert gate.stream("payments") == made == await accounts.streams.get("payments")
    assert (made.retention_days, made.dead_letter_days, made.anonymous_reads, made.quota, made.ready) == (
        90, 7, True, Quota(1000, None), True,
    )  # fmt: skip
    with pytest.raises(Conflict, match="'payments' already"):
        await accounts.streams.create("payments")
    changed = await accounts.update_stream("payments", dead_letter_days=14, quota=Quota(None, 5.5))
    assert gate.stream("payments") == changed
    assert (changed.retention_days, changed.dead_letter_days, changed.quota) == (90, 14, Quota(None, 5.5))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a" * 51}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "1st"}, "name"),
        ({"name": "a-"}, "name"),
        ({"name": "a_b"}, "name"),
        ({"name": "a", "retention_days": 0}, "retention_days"),
        ({"name": "a", "retention_days": 10_951}, "retention_days"),
        ({"name": "a", "dead_letter_days": 0}, "dead_letter_days"),
        ({"name": "a", "quota": Quota(0, None)}, "records_per_second"),
        ({"name": "a", "quota": Quota(None, -1)}, "bytes_per_second"),
    ],
)
async def test_what_is_wrong_with_a_stream_is_named(accounts: Accounts, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        await accounts.streams.create(**wrong)
    assert refused.value.field == field
    assert await accounts.streams.list() == []


async def test_there_are_so_many_streams(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    for name in "ab":
        await accounts.streams.create(name)
    with pytest.raises(Conflict) as refused:
        await accounts.streams.create("c")
    assert refused.value.limit == 2
    await accounts.streams.delete("a")
    await accounts.streams.create("c")


async def test_a_name_goes_to_one_of_two_at_once(accounts: Accounts, other: Accounts) -> None:
    answers = await asyncio.gather(
        *((accounts, other)[n % 2].streams.create("payments") for n in range(8)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict"] * 7 + ["StreamInfo"]


async def test_a_stream_is_ready_when_its_topics_are(accounts: Accounts, other: Accounts, gate: Gate) -> None:
    made: list[str] = []
    is_away = True

    async def make(info: StreamInfo) -> None:
        if is_away:
            raise StoreUnavailable("away")
        made.append(info.stream.stream_id)

    accounts.on_stream_created(make)
    other.on_stream_created(make)
    info = await accounts.streams.create("payments")
    assert not info.ready
    with pytest.raises(Unavailable, match="still being made"):
        gate.stream("payments")
    assert gate.current() == [info.stream], "a processor makes what is missing, too"
    await accounts.streams.heal()
    assert not gate.info("payments").ready
    is_away = False
    # The process that was asked has died meanwhile: another one finishes.
    await other.streams.heal()
    await gate.refresh()
    assert gate.stream("payments").stream == info.stream
    assert made == [info.stream.stream_id]
    await accounts.streams.heal()
    assert len(made) == 1


async def test_a_deleted_stream_and_what_belongs_to_it(accounts: Accounts, gate: Gate, clock: ManualClock) -> None:
    removed: list[str] = []
    is_away = True

    async def remove(stream: Stream) -> None:
        if is_away:
            raise StoreUnavailable("away")
        removed.append(stream.stream_id)

    accounts.on_stream_deleted(remove)
    await accounts.ensure_stream(make_stream("default"))
    with pytest.raises(Conflict, match="it stays"):
        await accounts.streams.delete("default")
    first = await accounts.streams.create("payments", anonymous_reads=True)
    mine = await accounts.create_key("mine", scopes=[Scope.INGEST], stream="payments")
    every = await accounts.create_key("every", scopes=[Scope.INGEST], stream=None)
    await accounts.saved.create("ada", ViewContent("view", "payments", shared=True))
    await accounts.streams.delete("payments")
    with pytest.raises(Unauthenticated, match="revoked"):
        gate.authenticate(mine.text)
    gate.authenticate(every.text)
    for look in (gate.stream, gate.anonymous):
        with pytest.raises(NotFound):
            look("payments")
    assert await accounts.saved.list(owner_id="ada", limit=10) == []
    for call in (accounts.streams.get, accounts.streams.delete, accounts.update_stream):
        with pytest.raises(NotFound):
            await call("payments")
    assert [info.stream.name for info in await accounts.streams.list()] == ["default"]
    for seconds in (0, 9, 1):
        clock.advance(seconds)
        await accounts.streams.heal()
        assert removed == [], "others may not have heard yet, and then the store is away"
        with pytest.raises(Conflict, match="still being removed"):
            await accounts.streams.create("payments")
    is_away = False
    await accounts.streams.heal()
    assert removed == [first.stream.stream_id]
    again = await accounts.streams.create("payments")
    assert again.stream.stream_id != first.stream.stream_id, "an id never returns"
    assert gate.stream("payments") == again
    with pytest.raises(Unauthenticated):
        gate.authenticate(mine.text)
    await accounts.streams.heal()
    assert len(removed) == 1


async def test_an_id_that_was_deleted_does_not_come_back(accounts: Accounts) -> None:
    stream = make_stream("team")
    await accounts.ensure_stream(stream)
    await accounts.streams.delete("team")
    with pytest.raises(Conflict, match="was deleted"):
        await accounts.ensure_stream(stream)
    new = make_stream("team", generation="2")
    made = await accounts.ensure_stream(new, retention_days=7, dead_letter_days=60)
    assert (made.stream, made.retention_days, made.dead_letter_days) == (new, 7, 60)
    assert await accounts.ensure_stream(new) == await accounts.streams.get("team") == made
    with pytest.raises(InvalidValue, match="dead_letter_days"):
        await accounts.ensure_stream(make_stream("third"), dead_letter_days=0)


async def test_a_key_of_a_deleted_stream_does_not_open_the_next_one_of_the_name(accounts: Accounts) -> None:
    gate = await Gate.open(accounts)
    await accounts.streams.create("team")
    await accounts.streams.delete("team")
    # By a process that had not heard of it.
    late = await accounts.create_key("late", scopes=[Scope.READ], stream="team")
    assert gate.authenticate(late.text).stream == "team"
    await accounts.streams.create("team")
    with pytest.raises(Unauthenticated, match="revoked"):
        gate.authenticate(late.text)
    mine = await accounts.create_key("mine", scopes=[Scope.READ], stream="team")
    assert gate.authenticate(mine.text).stream == "team"


async def test_what_is_known_is_good_for_a_stated_time(url: str, clock: ManualClock) -> None:
    accounts = await Accounts.open(AuthSettings(url=url, stale_seconds=60), clock, passwords=CountingPasswords())
    gate = await Gate.open(accounts)
    made = await accounts.create_key("app", scopes=[Scope.READ])
    await accounts.ensure_stream(make_stream("open"))
    await accounts.update_stream("open", anonymous_reads=True)
    caller = gate.authenticate(made.text)
    await accounts.close()
    await gate.refresh()
    clock.advance(60)
    assert gate.away
    gate.authenticate(made.text)
    gate.anonymous("open")
    assert gate.is_active(caller)
    with pytest.raises(Unavailable, match="not known yet"):
        gate.authenticate(make_key().text)
    clock.advance(1)
    with pytest.raises(Unavailable, match="more than 60 seconds") as refused:
        gate.authenticate(made.text)
    assert refused.value.limit == 60
    with pytest.raises(Unavailable, match="more than 60 seconds"):
        gate.anonymous("open")
    assert not gate.is_active(caller)


async def test_what_the_database_cannot_hold_is_nobodys_name(accounts: Accounts) -> None:
    for text in ("nul\0", "\ud800"):
        for call in (accounts.keys.get, accounts.users.get, accounts.streams.get, accounts.saved.get):
            with pytest.raises((NotFound, InvalidValue)):
                await call(text)


async def test_the_store_hears_first_and_can_refuse(accounts: Accounts) -> None:
    await accounts.ensure_stream(make_stream("default"))
    heard: list[tuple[Stream, int]] = []
    is_away = False

    async def hook(stream: Stream, days: int) -> None:
        if is_away:
            raise StoreUnavailable("away")
        heard.append((stream, days))

    accounts.on_retention_change(hook)
    await accounts.update_stream("default", retention_days=14)
    is_away = True
    with pytest.raises(StoreUnavailable):
        await accounts.update_stream("default", retention_days=7, anonymous_reads=True)
    info = await accounts.streams.get("default")
    assert (info.retention_days, info.anonymous_reads) == (14, False)
    await accounts.update_stream("default", retention_days=14, anonymous_reads=True)
    assert heard == [(make_stream("default"), 14)], "what does not change retention does not need the store"


async def test_processes_that_write_at_once_all_succeed(accounts: Accounts, other: Accounts, gate: Gate) -> None:
    made = await asyncio.gather(*((accounts, other)[n % 2].create_key(str(n), scopes=[Scope.READ]) for n in range(40)))
    await gate.refresh()
    for key in made:
        gate.authenticate(key.text)


async def test_looks_between_writes_miss_nothing(accounts: Accounts, other: Accounts, clock: ManualClock) -> None:
    third = await Accounts.open(accounts.settings, clock, passwords=CountingPasswords())
    gate = await Gate.open(third)
    writing = True

    async def look() -> int:
        looks = 0
        while writing:
            await gate.refresh()
            looks += 1
        return looks

    async def write(which: Accounts) -> None:
        for number in range(15):
            made = await which.create_key(str(number), scopes=[Scope.READ])
            await which.keys.update(made.key.id, name=f"again {number}")

    looking = asyncio.create_task(look())
    await asyncio.gather(*(write(which) for which in (accounts, other, accounts, other)))
    writing = False
    assert await looking > 1
    await gate.refresh()
    keys = await accounts.keys.list()
    assert len(keys) == 60
    assert {key.id: key for key in keys} == {key_id: entry.key for key_id, entry in gate._snapshot.keys.items()}
    await third.close()


async def test_opened_again_everything_is_there(accounts: Accounts, url: str, clock: ManualClock) -> None:
    made = await accounts.create_key("app", scopes=[Scope.INGEST])
    await accounts.ensure_stream(make_stream("default"), retention_days=3)
    session = await accounts.logins.sign_up("ada@example.com", PASSWORD)
    await accounts.close()
    again = await Accounts.open(AuthSettings(url=url), clock, passwords=CountingPasswords())
    gate = await Gate.open(again)
    gate.authenticate(made.text)
    gate.authenticate(session.token)
    assert gate.stream("default").retention_days == 3
    await again.close()
