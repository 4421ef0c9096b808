"""A read's statements in the real engine: found by their tag, and ended by it alone."""

import asyncio

import pytest
from tests.integration.test_store import store

from logstream.errors import StoreUnavailable
from logstream.storage.progress import COST, Cost, Progress
from logstream.storage.store import Rows, Store

pytestmark = pytest.mark.engine
__all__ = ["store"]

SLOW = "SELECT sum(number) FROM numbers(1000000000000) SETTINGS max_threads = 1"


def start(store: Store, sql: str, cost: Cost) -> "asyncio.Task[Rows]":
    async def read() -> Rows:
        COST.set(cost)
        return await store.query(sql)

    return asyncio.create_task(read())


async def until_seen(store: Store, *costs: Cost) -> dict[str, Progress]:
    async with asyncio.timeout(15):
        while True:
            found = await store.progress()
            if all(cost.tag in found and found[cost.tag].rows_read for cost in costs):
                return found
            await asyncio.sleep(0.02)


async def test_statements_are_found_and_ended_by_their_tag(store: Store) -> None:
    one, other = Cost(), Cost()
    tasks = [start(store, SLOW, one), start(store, SLOW, one), start(store, SLOW, other)]
    found = await until_seen(store, one, other)
    assert found[other.tag].rows_total == 1_000_000_000_000
    assert found[other.tag].rows_read < found[other.tag].rows_total
    await store.kill(one.tag)
    for task in tasks[:2]:
        with pytest.raises(StoreUnavailable):
            await task
    async with asyncio.timeout(15):
        while one.tag in await store.progress():
            await asyncio.sleep(0.02)
    assert not tasks[2].done()
    assert other.tag in await store.progress()
    await store.kill(other.tag)
    with pytest.raises(StoreUnavailable):
        await tasks[2]
    assert not one.abandoned
    assert not other.abandoned


async def test_a_statement_nobody_waits_for_is_noted(store: Store) -> None:
    cost = Cost()
    task = start(store, SLOW, cost)
    await until_seen(store, cost)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cost.abandoned
    await store.kill(cost.tag)


async def test_a_tag_changes_no_answer(store: Store) -> None:
    cost = Cost()
    assert (await start(store, "SELECT '/* read: */' AS a, 1 AS b", cost)).rows == [("/* read: */", 1)]
    assert (await start(store, "SELECT 1 -- the end\n", cost)).rows == [(1,)]
