"""Whose turn it is to change tables of a data plane."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.postgres import Postgres

from logstream.auth.accounts import Accounts
from logstream.errors import StoreUnavailable
from logstream.settings import AuthSettings
from logstream_operator.external.schema import Turn


@pytest.fixture
async def accounts(postgres: Postgres) -> AsyncIterator[Accounts]:
    opened = await Accounts.open(AuthSettings(url=postgres.url()))
    yield opened
    await opened.close()


async def test_one_process_shares_its_turn_and_another_waits(accounts: Accounts) -> None:
    here, elsewhere = Turn(), Turn()
    inside, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with here.held(accounts):
            inside.set()
            await leave.wait()

    holding = asyncio.create_task(hold())
    await inside.wait()
    async with here.held(accounts):
        pass
    with pytest.raises(StoreUnavailable, match="another process"):
        async with elsewhere.held(accounts):
            pytest.fail("two have the turn")
    leave.set()
    await holding
    async with elsewhere.held(accounts):
        with pytest.raises(StoreUnavailable, match="another process"):
            async with here.held(accounts):
                pytest.fail("two have the turn")


async def test_many_come_and_go(accounts: Accounts) -> None:
    turn, held = Turn(), 0

    async def work(number: int) -> None:
        nonlocal held
        await asyncio.sleep(number % 5 * 0.002)
        async with turn.held(accounts):
            held += 1
            await asyncio.sleep(number % 3 * 0.002)

    await asyncio.gather(*map(work, range(60)))
    assert held == 60
    # It was given back.
    async with Turn().held(accounts):
        pass
