"""Turns: bounded, shared among callers, and never lost when somebody stops waiting."""

import asyncio
import random
from collections import Counter

import pytest

from logstream.api.turns import Turns
from logstream.errors import TooMany


class Callers:
    """Tasks that hold a turn until told to let go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.running: list[str] = []
        self._held: dict[str, list[asyncio.Event]] = {}

    async def hold(self, key: str) -> None:
        async with self._turns.turn(key):
            done = asyncio.Event()
            self._held.setdefault(key, []).append(done)
            self.running.append(key)
            try:
                await done.wait()
            finally:
                self.running.remove(key)

    async def start(self, *keys: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.hold(key)) for key in keys]
        await settle()
        return tasks

    async def let_go(self, key: str) -> None:
        self._held[key].pop(0).set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_caller_has_its_share_and_the_next_one_goes_first() -> None:
    callers = Callers(Turns(running=3, running_per_key=2, waiting=100, waiting_per_key=50))
    tasks = await callers.start(*["a"] * 20)
    assert callers.running == ["a", "a"]
    tasks += await callers.start("b", "b", "c")
    assert callers.running == ["a", "a", "b"]
    await callers.let_go("a")
    assert sorted(callers.running) == ["a", "b", "c"], "c, who has nothing running"
    await callers.let_go("c")
    assert sorted(callers.running) == ["a", "a", "b"] or sorted(callers.running) == ["a", "b", "b"]
    await stop(tasks)
    assert not callers.running


async def test_too_many_wait() -> None:
    turns = Turns(running=1, running_per_key=1, waiting=3, waiting_per_key=2)
    callers = Callers(turns)
    tasks = await callers.start("a", "a", "a")
    with pytest.raises(TooMany) as refused:
        await callers.hold("a")
    assert (refused.value.field, refused.value.limit) == ("reads_per_key", 3)
    tasks += await callers.start("b")
    with pytest.raises(TooMany) as refused:
        await callers.hold("c")
    assert (refused.value.field, refused.value.limit) == ("reads", 3)
    await stop(tasks)


async def test_no_turn_is_lost() -> None:
    choose = random.Random(7)
    turns = Turns(running=3, running_per_key=2, waiting=1000, waiting_per_key=1000)
    now: Counter[str] = Counter()

    async def read(key: str) -> None:
        async with turns.turn(key):
            now[key] += 1
            assert now.total() <= 3
            assert now[key] <= 2
            try:
                await asyncio.sleep(0)
            finally:
                now[key] -= 1

    tasks = []
    for _ in range(400):
        tasks.append(asyncio.create_task(read(choose.choice("abcd"))))
        if choose.random() < 0.5:
            choose.choice(tasks).cancel()
        if choose.random() < 0.2:
            await asyncio.sleep(0)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError)
    callers = Callers(turns)
    after = await callers.start("a", "b", "c")
    assert callers.running == ["a", "b", "c"]
    await stop(after)
