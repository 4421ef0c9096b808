"""The operator's queue: one entry a resource, never with two workers, backoff of its own."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.clock import ManualClock, SystemClock
from logstream_operator.queue import Forgotten, Pace, Queue, Workers

PACE = Pace(first_backoff=1, longest_backoff=60, resync=600, settle=0.1, hasty_seconds=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> Queue[str]:
    return Queue(clock, PACE, jitter=lambda: 0.5)


def take(queue: Queue[str]) -> str | None:
    taken = queue.take()
    return None if taken is None else taken[0]


def test_many_changes_are_one_reconcile(clock: ManualClock, queue: Queue[str]) -> None:
    for _ in range(100):
        queue.add("a")
    assert queue.take() is None, "a change waits a moment for the next one"
    clock.advance(0.1)
    assert queue.take() == ("a", pytest.approx(0.1))
    assert queue.take() is None


def test_a_change_while_it_runs_comes_again_and_not_at_once_with_another_worker(
    clock: ManualClock, queue: Queue[str]
) -> None:
    queue.add("a")
    clock.advance(1)
    assert take(queue) == "a"
    queue.add("a")
    clock.advance(10)
    assert queue.take() is None
    queue.done("a")
    assert take(queue) == "a"


def test_what_fails_comes_later_each_time(clock: ManualClock, queue: Queue[str]) -> None:
    queue.add("a")
    clock.advance(1)
    pauses = []
    for _ in range(9):
        assert take(queue) == "a"
        pauses.append(queue.failed("a"))
        clock.advance(pauses[-1] - 0.01)
        assert queue.take() is None
        clock.advance(0.02)
    assert pauses[:3] == pytest.approx([0.875, 1.75, 3.5])
    assert max(pauses) <= 60
    assert queue.failing == 1


def test_a_change_does_not_wait_for_the_end_of_a_backoff(clock: ManualClock, queue: Queue[str]) -> None:
    queue.add("a")
    clock.advance(1)
    for _ in range(8):
        assert take(queue) == "a"
        clock.advance(queue.failed("a"))
    assert take(queue) == "a"
    queue.failed("a")
    queue.add("a")
    assert queue.take() is None, "nor does it make a storm"
    clock.advance(1)
    assert take(queue) == "a"
    queue.done("a")
    assert queue.failing == 0


def test_one_that_fails_does_not_hold_another(clock: ManualClock, queue: Queue[str]) -> None:
    queue.add("bad")
    clock.advance(1)
    assert take(queue) == "bad"
    queue.failed("bad")
    queue.add("good")
    clock.advance(0.1)
    assert take(queue) == "good"


def test_everything_is_looked_at_again_at_different_times(clock: ManualClock) -> None:
    numbers = random.Random(1)
    queue: Queue[int] = Queue(clock, PACE, jitter=numbers.random)
    for key in range(50):
        queue.add(key)
    clock.advance(1)
    while (taken := queue.take()) is not None:
        queue.done(taken[0])
    clock.advance(600 * 0.9 - 1)
    assert queue.take() is None
    times = set()
    for _ in range(121):
        clock.advance(1)
        while (taken := queue.take()) is not None:
            times.add(clock.monotonic())
            queue.done(taken[0], 1e6)
    assert len(times) > 20
    assert queue.depth == 0


def test_what_is_gone_is_forgotten_unless_it_is_back(clock: ManualClock, queue: Queue[str]) -> None:
    for back in (False, True):
        queue.add("a")
        clock.advance(1)
        assert take(queue) == "a"
        if back:
            queue.add("a")
        queue.forget("a")
        clock.advance(1)
        assert (take(queue) == "a") is back
    queue.forget("a")
    assert len(queue) == 0


def test_an_own_time_to_look_again(clock: ManualClock, queue: Queue[str]) -> None:
    queue.add("a")
    clock.advance(1)
    assert take(queue) == "a"
    queue.done("a", 5)
    clock.advance(4.9)
    assert queue.take() is None
    clock.advance(0.2)
    assert take(queue) == "a"


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done", "failed", "tick"]), st.integers(0, 4)), max_size=200))
def test_a_key_is_never_with_two_workers_and_never_lost(steps: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    queue: Queue[int] = Queue(clock, PACE)
    running: set[int] = set()
    asked: set[int] = set()
    for what, key in steps:
        if what == "add":
            queue.add(key)
            asked.add(key)
        elif what == "take":
            if (taken := queue.take()) is not None:
                assert taken[0] not in running
                running.add(taken[0])
                asked.discard(taken[0])
        elif what == "tick":
            clock.advance(key / 4)
        elif key in running:
            running.discard(key)
            if what == "done":
                queue.done(key)
            else:
                queue.failed(key)
    for key in list(running):
        queue.done(key)
    clock.advance(2)
    while (taken := queue.take()) is not None:
        asked.discard(taken[0])
    assert not asked
    assert len(queue._heap) <= 64 + 4 * len(queue)


async def test_workers_work_side_by_side_and_survive_failures() -> None:
    seen: list[int] = []
    beside = most = 0
    done = asyncio.Event()

    async def work(key: int) -> float | None:
        nonlocal beside, most
        beside += 1
        most = max(most, beside)
        await asyncio.sleep(0.01)
        beside -= 1
        seen.append(key)
        if key == 3 and seen.count(3) == 1:
            raise RuntimeError
        if key == 4:
            raise Forgotten
        if len(set(seen)) == 10 and seen.count(3) == 2:
            done.set()
        return None

    pace = Pace(first_backoff=0.01, resync=100, settle=0.001, hasty_seconds=0.01)
    workers: Workers[int] = Workers(Queue(SystemClock(), pace), work, count=3)
    running = asyncio.create_task(workers.run())
    for key in range(10):
        workers.add(key)
    async with asyncio.timeout(30):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert most == 3
    assert seen.count(3) == 2
    assert len(workers.queue) == 9
