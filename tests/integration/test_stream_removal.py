"""A deleted stream's topics and tables: removed after a while, also by whoever is next, and nothing else with them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess
from tests.support.processor import bus_settings, processor_settings, publish, records

from logstream import processor
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.streams import REMOVAL_SECONDS, StreamInfo
from logstream.bus.header import Header, Kind, Segment
from logstream.bus.sqlite import SqliteBus
from logstream.clock import ManualClock, SystemClock
from logstream.errors import BusUnavailable, Conflict, NotFound, StoreUnavailable, Unavailable
from logstream.run.provision import Provisioner
from logstream.run.streams import PreparedStreams
from logstream.settings import AuthSettings, StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream

pytestmark = pytest.mark.engine


class World:
    """Log, accounts and store; each process has accounts and a provisioner of its own."""

    def __init__(self, bus: SqliteBus, store: Store, url: str, clock: ManualClock, stack: AsyncExitStack) -> None:
        self.bus = bus
        self.store = store
        self.clock = clock
        self._url = url
        self._stack = stack

    async def process(self, served: set[Stream] | None = None) -> tuple[Accounts, Provisioner]:
        accounts = await Accounts.open(AuthSettings(url=self._url), self.clock)
        self._stack.push_async_callback(accounts.close)
        provisioner = Provisioner(self.bus, self.store, accounts, served=set() if served is None else served)
        provisioner.register(accounts)
        return accounts, provisioner

    async def filled(self, accounts: Accounts, name: str) -> Stream:
        info = await accounts.streams.create(name)
        assert info.ready
        await publish(self.bus, info.stream, records(3))
        letter = Header(1, 1, 0, 0, (Segment("key1", 1),), kind=Kind.DEAD_LETTER)
        await self.bus.publish(info.stream.dead_letter_topic, letter, b"{}")
        return info.stream

    async def has(self, stream: Stream) -> tuple[bool, bool, bool]:
        """Topic, dead-letter topic, database."""
        found = []
        for topic in (stream.topic, stream.dead_letter_topic):
            try:
                await self.bus.offsets(topic, 0)
                found.append(True)
            except NotFound:
                found.append(False)
        sql = "SELECT count() FROM system.databases WHERE name = {name:String}"
        answer = await self.store.query(sql, {"name": stream.database})
        return found[0], found[1], bool(answer.rows[0][0])

    def later(self) -> None:
        self.clock.advance(REMOVAL_SECONDS + 1)


ALL, NONE = (True, True, True), (False, False, False)


@pytest.fixture
async def world(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[World]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        bus = await SqliteBus.open(bus_settings(tmp_path / "bus"), SystemClock())
        stack.push_async_callback(bus.close)
        store = await Store.connect(StoreSettings(url=engine.url))
        stack.push_async_callback(store.close)
        yield World(bus, store, f"sqlite+aiosqlite:///{tmp_path / 'auth.db'}", clock, stack)


async def test_all_of_it_goes_after_a_while_and_nothing_of_others(world: World) -> None:
    accounts, _ = await world.process()
    doomed, other = await world.filled(accounts, "shop"), await world.filled(accounts, "shop-replay")
    await world.store.migrate(doomed.beside(), retention_days=30)
    await accounts.streams.delete("shop")
    await accounts.streams.heal()
    assert await world.has(doomed) == ALL
    world.later()
    await accounts.streams.heal()
    assert await world.has(doomed) == NONE
    assert not (await world.has(doomed.beside()))[2]
    assert await world.has(other) == ALL
    # The name is free, and nothing of before is under it.
    again = await accounts.streams.create("shop")
    assert again.stream.stream_id != doomed.stream_id
    assert await world.has(again.stream) == ALL
    assert (await world.bus.offsets(again.stream.topic, 0)).end == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_another_process_goes_on_where_one_died(
    world: World, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    accounts, _ = await world.process()
    doomed, other = await world.filled(accounts, "shop"), await world.filled(accounts, "web")
    await accounts.streams.delete("shop")
    world.later()
    left = steps

    def mortal(step: Callable[..., object], error: type[Exception]) -> Callable[..., object]:
        async def perhaps(*arguments: object) -> None:
            nonlocal left
            if not left:
                raise error("died")
            left -= 1
            await step(*arguments)  # type: ignore[misc]

        return perhaps

    with monkeypatch.context() as patch:
        patch.setattr(world.bus, "delete_topic", mortal(world.bus.delete_topic, BusUnavailable))
        patch.setattr(world.store, "drop", mortal(world.store.drop, StoreUnavailable))
        await accounts.streams.heal()
    assert await world.has(doomed) == (steps < 1, steps < 2, steps < 3)
    with pytest.raises(Conflict, match="still being removed"):
        await accounts.streams.create("shop")
    next_one, _ = await world.process()
    await next_one.streams.heal()
    assert await world.has(doomed) == NONE
    assert await world.has(other) == ALL
    await accounts.streams.create("shop")


async def test_a_stream_that_is_there_is_not_removed(world: World) -> None:
    accounts, provisioner = await world.process()
    stream = await world.filled(accounts, "shop")
    with pytest.raises(Conflict, match="not deleted"):
        await provisioner.remove(stream)
    assert await world.has(stream) == ALL


async def test_what_was_being_made_when_it_was_removed_is_gone_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, provisioner = await world.process()
    info = await accounts.streams.create("shop")
    begun, go_on = asyncio.Event(), asyncio.Event()
    migrate = world.store.migrate

    async def slow(stream: Stream, *, retention_days: int) -> None:
        begun.set()
        await go_on.wait()
        await migrate(stream, retention_days=retention_days)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "migrate", slow)
        making = asyncio.create_task(provisioner.make(info))
        await begun.wait()
        await accounts.streams.delete("shop")
        world.later()
        await accounts.streams.heal()
        go_on.set()
        with pytest.raises(NotFound):
            await making
    assert await world.has(info.stream) == NONE
    with pytest.raises(NotFound):
        await provisioner.make(info)
    assert await world.has(info.stream) == NONE


async def test_the_processor_stops_storing_first(world: World) -> None:
    served: set[Stream] = set()
    accounts, provisioner = await world.process(served)
    info = await accounts.streams.create("shop")
    gate = await Gate.open(accounts)
    streams = PreparedStreams(gate.streams, world.store, provisioner)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(streams.run(stop))
        tasks.create_task(
            processor.serve(
                processor_settings(), bus=world.bus, store=world.store, streams=streams, clock=SystemClock(),
                stop=stop, served=served,
            )
        )  # fmt: skip
        async with asyncio.timeout(60):
            while info.stream not in served:
                await asyncio.sleep(0.02)
        await accounts.streams.delete("shop")
        # Not heard of yet.
        with pytest.raises(Unavailable, match="still being stored"):
            await provisioner.remove(info.stream)
        world.later()
        await gate.refresh()
        async with asyncio.timeout(60):
            while await world.has(info.stream) != NONE:
                await accounts.streams.heal()
                await asyncio.sleep(0.02)
        assert info.stream not in served
        # Nobody makes them anew.
        await asyncio.sleep(1.5)
        assert await world.has(info.stream) == NONE
        stop.set()


async def test_dead_letters_are_kept_as_the_stream_says(world: World) -> None:
    accounts, _ = await world.process()
    info: StreamInfo = await accounts.streams.create("shop", dead_letter_days=3)
    days = world.bus._writer._log.letters_days
    assert days[info.stream.dead_letter_topic] == 3
    await accounts.update_stream("shop", dead_letter_days=5)
    assert days[info.stream.dead_letter_topic] == 5
