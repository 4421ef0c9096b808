"""Several replicas and one store: who is asked when a server refuses, cuts, falls silent, or loses its answer.

The two engines do not replicate. Where rows must be the same behind both addresses, both lead to one engine.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from tests.integration.test_store import count, record, sealed
from tests.support.engine import EngineProcess
from tests.support.processor import publish, records, running
from tests.support.proxy import Proxy, proxy

from logstream.errors import StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.progress import COST, Cost
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

_names = itertools.count()
MARK = "SELECT count() FROM system.databases WHERE name = 'second_engine'"
SLOW = "SELECT sum(number) FROM numbers(1000000000000) WHERE number % 10 != 7 SETTINGS max_threads = 1"


def port(engine: EngineProcess) -> int:
    return int(engine.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path_factory.mktemp("second") / "data")
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
async def proxies(engine: EngineProcess, second: EngineProcess) -> AsyncIterator[list[Proxy]]:
    """Before the first engine, and before the second, which has the database `second_engine`."""
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(proxy()) for _ in range(2)]
        for running_proxy, process in zip(both, (engine, second), strict=True):
            running_proxy.upstream = port(process)
        store = await Store.connect(StoreSettings(url=second.url))
        await store.command("CREATE DATABASE IF NOT EXISTS second_engine")
        await store.close()
        yield both


@pytest.fixture
async def store(proxies: Sequence[Proxy]) -> AsyncIterator[Store]:
    store = await connected(proxies)
    try:
        yield store
    finally:
        await store.close()


async def connected(proxies: Sequence[Proxy], **more) -> Store:  # type: ignore[no-untyped-def]
    urls = ",".join(running_proxy.url for running_proxy in proxies)
    return await Store.connect(StoreSettings(url=urls, **more))


async def on_second(store: Store) -> bool:
    return bool((await store.query(MARK)).rows[0][0])


@pytest.fixture
async def stream(engine: EngineProcess, second: EngineProcess) -> Stream:
    stream = make_stream(f"replicas-{next(_names)}")
    for url in (engine.url, second.url):
        store = await Store.connect(StoreSettings(url=url))
        await store.migrate(stream, retention_days=10_000)
        await store.close()
    return stream


async def rows_of(process: EngineProcess, stream: Stream) -> int:
    store = await Store.connect(StoreSettings(url=process.url))
    try:
        return await count(store, stream)
    finally:
        await store.close()


async def test_reads_go_on_with_another_replica_and_stay_there(proxies: list[Proxy], store: Store) -> None:
    assert not await on_second(store)
    proxies[0].upstream, upstream = None, proxies[0].upstream
    proxies[0].cut()
    assert await on_second(store)
    proxies[0].upstream = upstream
    assert await on_second(store)
    proxies[1].upstream = None
    proxies[1].cut()
    async with asyncio.timeout(60):
        while True:
            # The first may still rest from its fault.
            with contextlib.suppress(StoreUnavailable):
                assert not await on_second(store)
                return
            await asyncio.sleep(0.1)


async def test_a_replica_that_was_never_there_costs_nothing(proxies: list[Proxy]) -> None:
    proxies[0].upstream = None
    store = await connected(proxies)
    try:
        await store.check()
        assert await on_second(store)
    finally:
        await store.close()


async def test_with_all_away_it_says_so_and_comes_back(proxies: list[Proxy], store: Store) -> None:
    upstreams = [each.upstream for each in proxies]
    for each in proxies:
        each.upstream = None
        each.cut()
    with pytest.raises(StoreUnavailable):
        await store.query(MARK)
    with pytest.raises(StoreUnavailable):
        await store.check()
    for each, upstream in zip(proxies, upstreams, strict=True):
        each.upstream = upstream
    await store.check()


async def test_a_silent_replica_is_left_after_the_time_of_one_read(proxies: list[Proxy]) -> None:
    store = await connected(proxies, query_timeout_seconds=0.1)
    try:
        assert not await on_second(store)
        proxies[0].silent = True
        with pytest.raises(StoreUnavailable, match="in time"):
            await store.query(MARK)
        assert await on_second(store)
    finally:
        proxies[0].silent = False
        await store.close()


async def test_an_insert_whose_answer_is_lost_is_not_sent_to_another(
    proxies: list[Proxy], store: Store, stream: Stream, engine: EngineProcess, second: EngineProcess
) -> None:
    assert not await on_second(store)
    proxies[0].lose = 1
    with pytest.raises(StoreUnavailable):
        await store.insert(stream, sealed([record(1)]), rows=1, token="t")
    # Whoever sent it looks it up first: here the other server, which replication would have told.
    assert (await rows_of(engine, stream), await rows_of(second, stream)) == (1, 0)
    assert not await store.contains(stream, incarnation=7, partition=3, first=0, last=0)
    assert await on_second(store)


async def test_an_insert_that_was_never_sent_goes_to_another_at_once(
    proxies: list[Proxy], stream: Stream, engine: EngineProcess, second: EngineProcess
) -> None:
    # Nobody listens on the first address.
    store = await Store.connect(StoreSettings(url=f"http://127.0.0.1:9,{proxies[1].url}"))
    try:
        await store.insert(stream, sealed([record(1)]), rows=1, token="t")
        assert (await rows_of(engine, stream), await rows_of(second, stream)) == (0, 1)
    finally:
        await store.close()


async def test_a_silent_replica_is_left_after_an_insert(
    proxies: list[Proxy], stream: Stream, second: EngineProcess
) -> None:
    store = await connected(proxies, insert_timeout_seconds=1)
    try:
        assert not await on_second(store)
        proxies[0].silent = True
        with pytest.raises(StoreUnavailable, match="longer than"):
            await store.insert(stream, sealed([record(1)]), rows=1, token="t")
        await store.insert(stream, sealed([record(1)]), rows=1, token="t")
        assert await rows_of(second, stream) == 1
    finally:
        proxies[0].silent = False
        await store.close()


async def test_an_answer_in_pieces_begins_at_another_and_is_never_patched(proxies: list[Proxy], store: Store) -> None:
    proxies[0].upstream = None
    sql = "SELECT number FROM numbers(3000000)"
    async with aclosing(store.stream(sql, fmt="TSV")) as pieces:
        assert len(b"".join([piece async for piece in pieces]).splitlines()) == 3_000_000

    async def broken_off() -> None:
        async with aclosing(store.stream(sql, fmt="TSV")) as pieces:
            async for _ in pieces:
                proxies[1].cut()

    with pytest.raises(StoreUnavailable):
        await broken_off()


async def test_reads_are_found_and_ended_wherever_they_run(proxies: list[Proxy], store: Store) -> None:
    async def read(cost: Cost) -> None:
        COST.set(cost)
        await store.query(SLOW)

    async def until(tags: set[str]) -> None:
        async with asyncio.timeout(30):
            while set(await store.progress()) & {one.tag, other.tag} != tags:
                await asyncio.sleep(0.02)

    one, other = Cost(), Cost()
    tasks = [asyncio.create_task(read(one))]
    await until({one.tag})
    # The first replica takes no more connections; what it does for those it has goes on.
    store._servers.home.endpoints[0].failed("for this test")
    tasks.append(asyncio.create_task(read(other)))
    await asyncio.sleep(1.1)
    await until({one.tag, other.tag})
    for cost in (one, other):
        await store.kill(cost.tag)
    await until(set())
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable)


@pytest.mark.parametrize("seed", range(3))
async def test_every_row_is_stored_once_whatever_becomes_of_the_replicas(
    engine: EngineProcess, tmp_path: Path, seed: int
) -> None:
    """Both addresses lead to one engine, as replicas of one table do that know each other's tokens."""
    chance = random.Random(seed)
    stream = make_stream(f"replicas-{next(_names)}")
    async with proxy() as one, proxy() as other:
        replicas = (one, other)
        one.upstream = other.upstream = port(engine)
        store = await connected(replicas, insert_timeout_seconds=1)
        await store.migrate(stream, retention_days=10_000)
        async with running(tmp_path / "bus", "", stream, store=store) as run:
            for number in range(40):
                await publish(run.bus, stream, records(25, seed=number))
                ill = chance.choice(replicas)
                match chance.randrange(5):
                    case 0:
                        ill.lose += 1
                    case 1:
                        ill.cut()
                    case 2:
                        ill.upstream = None
                        ill.cut()
                    case 3:
                        ill.silent = True
                    case _:
                        pass
                await asyncio.sleep(chance.random() * 0.1)
                if chance.random() < 0.7:
                    for each in replicas:
                        each.upstream, each.silent = port(engine), False
            for each in replicas:
                each.upstream, each.silent, each.lose = port(engine), False, 0
            await run.settled()
            assert await run.scalar("count()") == await run.scalar("uniqExact(partition, offset, row)") == 1000
