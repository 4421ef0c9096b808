"""How processes run apart end: signals, draining, a loop that stands still, exit statuses."""

import asyncio
import threading
import time

import pytest

from logstream.errors import BusUnavailable, StartupError
from logstream.run.lifecycle import Lifecycle, failed
from logstream.run.processing import bounded
from logstream.run.readiness import Readiness
from logstream.run.watchdog import Watchdog


async def test_not_ready_first_then_drained_then_stopped() -> None:
    life = Lifecycle(Readiness(), drain_seconds=0.05)
    seen: list[str] = []

    async def work() -> None:
        await life.asked.wait()
        seen.append(f"asked, ready {not life.readiness.is_stopping}, stopped {life.stop.is_set()}")
        await life.stop.wait()
        seen.append("stopped")

    asyncio.get_running_loop().call_later(0.01, life.signalled)
    await life.run(work(), is_serving=lambda: True)
    assert seen == ["asked, ready False, stopped False", "stopped"]


async def test_who_serves_nobody_stops_without_a_pause() -> None:
    life = Lifecycle(Readiness(), drain_seconds=3600)

    async def work() -> None:
        await life.stop.wait()

    life.signalled()
    async with asyncio.timeout(10):
        await life.run(work())


async def test_a_second_signal_ends_it_at_once() -> None:
    life = Lifecycle(Readiness(), drain_seconds=3600)
    closed = False

    async def work() -> None:
        nonlocal closed
        try:
            await life.stop.wait()
        finally:
            closed = True

    loop = asyncio.get_running_loop()
    loop.call_later(0.01, life.signalled)
    loop.call_later(0.03, life.signalled)
    async with asyncio.timeout(10):
        await life.run(work(), is_serving=lambda: True)
    assert closed


async def test_what_ends_the_work_is_raised() -> None:
    async def work() -> None:
        raise StartupError("the port is in use")

    with pytest.raises(StartupError):
        await Lifecycle(Readiness(), 1.0).run(work())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StartupError("no port"), 1, "logstream: no port\n"),
        (BaseExceptionGroup("several", [ValueError("x"), StartupError("no port")]), 1, "logstream: no port\n"),
        (BusUnavailable("away"), 70, ""),
        (ExceptionGroup("several", [ExceptionGroup("more", [ValueError("x")])]), 70, ""),
    ],
)
def test_exit_statuses(error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(error) == status
    assert said in capsys.readouterr().err


async def test_work_that_does_not_end_is_left_after_its_time() -> None:
    stop = asyncio.Event()
    cancelled = False

    async def processing() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    asyncio.get_running_loop().call_later(0.01, stop.set)
    async with asyncio.timeout(10):
        await bounded(processing(), stop, 0.02)
    assert cancelled


async def test_what_ends_the_processing_is_raised() -> None:
    async def processing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bounded(processing(), asyncio.Event(), 60)


async def test_a_loop_that_stands_still_is_noticed() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.12, end=ended.set)
    watchdog.start(asyncio.get_running_loop())
    deadline = time.monotonic() + 20
    # Blocks the loop, which is what is tested; other threads run meanwhile.
    while not ended.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    watchdog.stop()
    assert ended.is_set()


async def test_a_loop_that_answers_and_one_that_is_not_watched_live_on() -> None:
    ended = threading.Event()
    watchdog = Watchdog(1.2, end=ended.set)
    unwatched = Watchdog(0.0, end=ended.set)
    for one in (watchdog, unwatched):
        one.start(asyncio.get_running_loop())
    for _ in range(25):
        await asyncio.sleep(0.02)
    watchdog.stop()
    time.sleep(0.2)
    assert not ended.is_set()
