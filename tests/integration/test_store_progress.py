"""A read's statements in the real engine: found by their tag, and ended by it alone."""

import asyncio
from contextlib import aclosing

import pytest
from tests.integration.test_store import store
from tests.support.engine import EngineProcess

from logstream.errors import StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.progress import COST, Cost, Progress
from logstream.storage.store import Rows, Store

pytestmark = pytest.mark.engine
__all__ = ["store"]

# With a bound parameter: such a statement is shown as the engine prints it, not as it was sent.
SLOW = "SELECT sum(number) FROM numbers(1000000000000) WHERE number % 10 != {not:UInt64} SETTINGS max_threads = 1"
BOUND = {"not": 7, "text": "param_read = '0123456789abcdef'", "long": "x" * 10_000}
COUNT = "SELECT count() AS n FROM numbers(1000000000000) WHERE sipHash64(number, {text:String}) != {not:UInt64}"


def start(store: Store, sql: str, cost: Cost) -> "asyncio.Task[Rows]":
    async def read() -> Rows:
        COST.set(cost)
        return await store.query(sql, BOUND)

    return asyncio.create_task(read())


async def until_seen(store: Store, *costs: Cost) -> dict[str, Progress]:
    async with asyncio.timeout(15):
        while True:
            found = await store.progress()
            if all(cost.tag in found and found[cost.tag].rows_read for cost in costs):
                return found
            await asyncio.sleep(0.02)


async def until_ended(store: Store, cost: Cost) -> None:
    async with asyncio.timeout(15):
        while cost.tag in await store.progress():
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
    await until_ended(store, one)
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
    assert (await start(store, "SELECT {text:String} AS a, 1 AS b", cost)).rows == [(BOUND["text"], 1)]
    assert (await start(store, "SELECT 1 -- the end", cost)).rows == [(1,)]
    own = "SELECT getSetting('max_threads') FROM numbers({not:UInt64}) LIMIT 1 SETTINGS max_threads = 1"
    assert (await start(store, own, cost)).rows == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        COUNT,
        f"{COUNT} UNION ALL {COUNT}",
        f"({COUNT}) UNION ALL ({COUNT})",
        f"SELECT * FROM ({COUNT} SETTINGS max_threads = 1) SETTINGS max_threads = 1",
        f"WITH counted AS ({COUNT}) SELECT n FROM counted",
        COUNT + " AND toString(number) != {long:String}" * 20,
        f"({COUNT}" + " AND toString(number) != {long:String}" * 20 + " SETTINGS max_threads = 1)",
        f"EXPLAIN PIPELINE SELECT ({COUNT})",
        f"EXPLAIN indexes = 1, json = 1 (SELECT ({COUNT})) UNION ALL (SELECT 1)",
        f"EXPLAIN ESTIMATE SELECT ({COUNT}) SETTINGS max_threads = 1",
        f"SELECT sleepEachRow(0.1), {{text:String}}, ({COUNT} AND number < 100000000) FROM numbers(600)",
    ],
)
async def test_statements_of_every_shape_are_found_and_ended(store: Store, sql: str) -> None:
    cost = Cost()
    task = start(store, sql, cost)
    assert list(await until_seen(store, cost)) == [cost.tag]
    await store.kill(cost.tag)
    with pytest.raises(StoreUnavailable):
        await task
    await until_ended(store, cost)


@pytest.mark.parametrize("fmt", ["JSONEachRow", "CSVWithNames", "Parquet"])
async def test_a_stream_is_found_and_ended(store: Store, fmt: str) -> None:
    cost = Cost()
    token = COST.set(cost)
    sql = "SELECT hex(randomString(50, number)) AS text FROM numbers(1000000000) WHERE number % 10 != {not:UInt64}"
    settings = {"max_block_size": 16_384, "output_format_parquet_row_group_size": 65_536}
    try:
        async with aclosing(store.stream(sql, BOUND, fmt=fmt, settings=settings)) as pieces:
            await anext(pieces)
            assert (await until_seen(store, cost))[cost.tag].rows_total == 1_000_000_000
            await store.kill(cost.tag)
            with pytest.raises(StoreUnavailable):
                async for _ in pieces:
                    pass
    finally:
        COST.reset(token)


async def test_a_stream_may_be_silent_for_longer_than_anything_else(engine: EngineProcess) -> None:
    quick = await Store.connect(StoreSettings(url=engine.url, query_timeout_seconds=0.2, insert_timeout_seconds=0.2))
    try:
        async with aclosing(quick.stream("SELECT sleep(1) AS n", fmt="CSV")) as pieces:
            assert b"".join([piece async for piece in pieces]) == b"0\n"
        with pytest.raises(StoreUnavailable):
            await quick.query("SELECT sleep(1) SETTINGS max_execution_time = 5")
    finally:
        await quick.close()
