"""Saved views in the accounts database; the same databases as in test_accounts."""

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.contracts.test_accounts import PASSWORD, CountingPasswords, accounts, clock, passwords, url

from logstream.auth import saved
from logstream.auth.accounts import Accounts
from logstream.auth.roles import Role
from logstream.auth.saved import ViewContent
from logstream.clock import ManualClock
from logstream.errors import Conflict, InvalidValue, NotFound, PreconditionFailed
from logstream.settings import AuthSettings

__all__ = ["accounts", "clock", "passwords", "url"]

ALL = ViewContent(
    name="declined cards",
    stream="default",
    query='service:payment "card declined" | stats count() by level',
    has_pipes=True,
    start=-1,
    end=2**63 - 1,
    columns=("timestamp", "a.b", "größe"),
    description="first line\nsecond line",
    shared=True,
)


@pytest.fixture
async def owner(accounts: Accounts) -> str:
    await accounts.users.create("root@example.com", PASSWORD, role=Role.ADMIN)
    return (await accounts.users.create("ada@example.com", PASSWORD)).id


async def names(accounts: Accounts, owner_id: str | None, **only: str) -> list[str]:
    return [view.content.name for view in await accounts.saved.list(owner_id=owner_id, limit=100, **only)]


async def test_a_view_comes_back_as_it_was_saved(accounts: Accounts, owner: str, clock: ManualClock) -> None:
    made = await accounts.saved.create(owner, ALL)
    assert made.content == ALL
    assert (made.owner_id, made.owner, made.created_at) == (owner, "ada@example.com", clock.now_ns())
    assert await accounts.saved.get(made.id) == made
    assert list(await accounts.saved.list(owner_id=owner, limit=10)) == [made]


async def test_a_name_is_the_owners_only_once(accounts: Accounts, owner: str) -> None:
    made = await accounts.saved.create(owner, ViewContent(" errors ", "default"))
    assert made.content.name == "errors"
    with pytest.raises(Conflict, match="'errors'"):
        await accounts.saved.create(owner, ViewContent("errors", "default"))
    await accounts.saved.create("another", ViewContent("errors", "default"))
    other = await accounts.saved.create(owner, ViewContent("others", "default"))
    with pytest.raises(Conflict):
        await accounts.saved.update(other.id, ViewContent("errors", "default"))
    assert (await accounts.saved.get(other.id)).content.name == "others"


async def test_the_list_holds_mine_and_shared_in_order_and_in_pages(accounts: Accounts, owner: str) -> None:
    for name, who, stream, shared in (
        ("d", owner, "default", False),
        ("b", "another", "default", True),
        ("hidden", "another", "default", False),
        ("c", owner, "other", False),
        ("b", owner, "default", False),
    ):
        await accounts.saved.create(who, ViewContent(name, stream, shared=shared))
    assert await names(accounts, owner) == ["b", "b", "c", "d"]
    assert await names(accounts, None) == ["b"]
    assert await names(accounts, owner, stream="other") == ["c"]
    assert await names(accounts, owner, name="d") == ["d"]
    seen: list[str] = []
    after = None
    while page := await accounts.saved.list(owner_id=owner, after=after, limit=1):
        seen += [view.id for view in page]
        after = (page[-1].content.name, page[-1].id)
    assert seen == [view.id for view in await accounts.saved.list(owner_id=owner, limit=10)]


async def test_a_change_of_an_older_state_is_refused(accounts: Accounts, owner: str, clock: ManualClock) -> None:
    made = await accounts.saved.create(owner, ALL)
    clock.advance(1)
    changed = await accounts.saved.update(made.id, ViewContent("errors", "default"), revision=made.revision)
    assert changed.content == ViewContent("errors", "default")
    assert (changed.created_at, changed.updated_at) == (made.created_at, clock.now_ns())
    with pytest.raises(PreconditionFailed):
        await accounts.saved.update(made.id, ALL, revision=made.revision)
    with pytest.raises(PreconditionFailed):
        await accounts.saved.delete(made.id, revision=made.revision)
    assert await accounts.saved.get(made.id) == changed
    await accounts.saved.delete(made.id, revision=changed.revision)
    for call in (accounts.saved.get(made.id), accounts.saved.delete(made.id), accounts.saved.update(made.id, ALL)):
        with pytest.raises(NotFound):
            await call


async def test_an_owner_has_so_many_views(accounts: Accounts, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "MAX_VIEWS", 2)
    made = [await accounts.saved.create(owner, ViewContent(name, "default")) for name in "ab"]
    with pytest.raises(Conflict, match="at most 2 views") as refused:
        await accounts.saved.create(owner, ViewContent("c", "default"))
    assert refused.value.limit == 2
    await accounts.saved.create("another", ViewContent("c", "default"))
    await accounts.saved.delete(made[0].id)
    await accounts.saved.create(owner, ViewContent("c", "default"))


async def test_when_an_account_goes_its_shared_views_stay(accounts: Accounts, owner: str) -> None:
    private = await accounts.saved.create(owner, ViewContent("private", "default"))
    shared = await accounts.saved.create(owner, ViewContent("shared", "default", shared=True))
    others = await accounts.saved.create("another", ViewContent("private", "default"))
    await accounts.users.delete(owner)
    with pytest.raises(NotFound):
        await accounts.saved.get(private.id)
    left = await accounts.saved.get(shared.id)
    assert (left.content.name, left.owner_id, left.owner) == ("shared", owner, None)
    await accounts.saved.get(others.id)


@pytest.mark.parametrize(
    ("change", "field", "limit"),
    [
        ({"name": ""}, "name", 100),
        ({"name": "n" * 101}, "name", 100),
        ({"query": "q" * 4_097}, "query", 4_096),
        ({"query": "a\0b"}, "query", None),
        ({"description": "d" * 1_001}, "description", 1_000),
        ({"columns": ("c",) * 51}, "columns", 50),
        ({"columns": ("c" * 201,)}, "columns", 200),
        ({"columns": (" ",)}, "columns", None),
        ({"since": "0h"}, "since", None),
        ({"since": "1h\n"}, "since", None),
        ({"since": "1234567d"}, "since", None),
        ({"since": "1h", "end": 5}, "since", None),
        ({"start": 2, "end": 1}, "start_time", None),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], field: str, limit: int | None) -> None:
    with pytest.raises(InvalidValue) as refused:
        saved.checked(ViewContent(**{"name": "n", "stream": "default", **change}))  # type: ignore[arg-type]
    assert (refused.value.field, refused.value.limit) == (field, limit)


@pytest.fixture
async def older(url: str, clock: ManualClock) -> str:
    """A database of a release before there were views, with an account in it."""
    accounts = await Accounts.open(AuthSettings(url=url), clock, passwords=CountingPasswords())
    await accounts.users.create("ada@example.com", PASSWORD)
    await accounts.close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE saved_views"))
        await connection.execute(text("DROP TABLE auth_alembic_version"))
        for column in ("records_per_second", "bytes_per_second", "dead_letter_days", "pending", "deleted_at"):
            await connection.execute(text(f"ALTER TABLE streams DROP COLUMN {column}"))
        assert "saved_views" not in await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    await engine.dispose()
    return url


async def test_an_older_database_gains_the_table(older: str, clock: ManualClock) -> None:
    accounts = await Accounts.open(AuthSettings(url=older), clock, passwords=CountingPasswords())
    try:
        (ada,) = await accounts.users.list()
        assert (await accounts.saved.create(ada.id, ALL)).owner == "ada@example.com"
    finally:
        await accounts.close()
