"""Memory and INSERTs are shared: bounded, fair, and nobody stands still."""

import asyncio
import random

import pytest

from logstream.processor.budget import Budget, Slots
from logstream.processor.retry import Stopped


def test_one_partition_alone_may_take_all() -> None:
    account = Budget(100).open("a")
    assert account.room == 100
    account.take(60)
    assert account.room == 40
    account.give(60)
    assert account.room == 100


def test_streams_share_evenly_whatever_their_partitions() -> None:
    budget = Budget(120)
    noisy = [budget.open("noisy") for _ in range(3)]
    quiet = budget.open("quiet")
    for account in noisy:
        account.take(1)
    quiet.take(1)
    assert [account.room for account in noisy] == [19, 19, 19]
    assert quiet.room == 59
    quiet.close()
    assert [account.room for account in noisy] == [39, 39, 39]


def test_the_total_is_never_handed_out_twice() -> None:
    budget = Budget(1000)
    rng = random.Random(1)
    accounts = [budget.open(f"s{i % 4}") for i in range(12)]
    for _ in range(5000):
        account = rng.choice(accounts)
        if rng.random() < 0.3:
            account.close()
        elif account.room > 0:
            account.take(rng.randint(1, account.room))
        assert budget.held == sum(a.held for a in accounts) <= 1000
    for account in accounts:
        account.close()
    assert budget.held == 0


async def order_of(slots: Slots, waiting: list[str]) -> list[str]:
    """Who gets the one slot, in order."""
    served: list[str] = []
    never = asyncio.Event()

    async def one(stream: str) -> None:
        await slots.acquire(stream, never)
        served.append(stream)
        await asyncio.sleep(0)
        slots.release(stream)

    await asyncio.gather(*(one(stream) for stream in waiting))
    return served


async def test_streams_take_turns() -> None:
    slots = Slots(1)
    assert await order_of(slots, ["noisy"] * 5 + ["quiet"] + ["third"] * 2) == [
        "noisy", "noisy", "quiet", "third", "noisy", "third", "noisy", "noisy",
    ]  # fmt: skip


async def test_one_slot_is_kept_for_others() -> None:
    slots, never = Slots(3), asyncio.Event()
    slots.join("noisy")
    slots.join("quiet")
    for _ in range(2):
        await slots.acquire("noisy", never)
    third = asyncio.create_task(slots.acquire("noisy", never))
    await asyncio.sleep(0)
    assert not third.done()
    await slots.acquire("quiet", never)
    slots.release("quiet")
    slots.leave("quiet")
    await third


async def test_who_stops_or_is_cancelled_keeps_no_slot() -> None:
    slots, stop, never = Slots(1), asyncio.Event(), asyncio.Event()
    await slots.acquire("a", never)
    stopped = asyncio.create_task(slots.acquire("b", stop))
    cancelled = asyncio.create_task(slots.acquire("c", never))
    granted = asyncio.create_task(slots.acquire("d", never))
    await asyncio.sleep(0)
    stop.set()
    cancelled.cancel()
    with pytest.raises(Stopped):
        await stopped
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    slots.release("a")
    # The turn is handed out, and at that moment its taker goes away.
    granted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await granted
    async with asyncio.timeout(5):
        await slots.acquire("e", never)
