"""How a process begins and ends: signals, the time between "not ready" and closing, the exit status."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from logstream import logs
from logstream.errors import LogStreamError, StartupError
from logstream.run.readiness import Readiness
from logstream.run.watchdog import Watchdog

_CLEANUP_SECONDS = 5.0
"""After a second signal, for closing files and connections."""

_log = logs.get_logger("process")


class Lifecycle:
    """`asked`: a signal came. `stop`: work is to end now, `drain_seconds` later where anybody is served."""

    def __init__(self, readiness: Readiness, drain_seconds: float) -> None:
        self.readiness = readiness
        self.asked = asyncio.Event()
        self.stop = asyncio.Event()
        self._drain_seconds = drain_seconds
        self._at_once = asyncio.Event()

    def signalled(self) -> None:
        """Begin to stop; the second time at once."""
        if self.asked.is_set():
            self._at_once.set()
        self.readiness.is_stopping = True
        self.asked.set()

    async def run(self, work: Coroutine[Any, Any, None], *, is_serving: Callable[[], bool] = lambda: False) -> None:
        """Run `work`, which ends by itself some time after `stop`. Raises what it raises.

        After a second signal it is cancelled: requests under way are cut off, which their clients repeat; what
        was answered is kept either way.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self._drain(is_serving))
        at_once = asyncio.create_task(self._at_once.wait())
        try:
            await asyncio.wait((working, at_once), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                _log.warning("stopping at once")
                working.cancel()
                await asyncio.wait((working,), timeout=_CLEANUP_SECONDS)
            elif not working.cancelled():
                working.result()
        finally:
            for task in (stopping, at_once, working):
                task.cancel()
            with contextlib.suppress(Exception):
                await asyncio.wait((stopping, at_once, working), timeout=_CLEANUP_SECONDS)

    async def _drain(self, is_serving: Callable[[], bool]) -> None:
        await self.asked.wait()
        seconds = self._drain_seconds if is_serving() else 0.0
        _log.info("stopping", drain_seconds=seconds)
        await asyncio.sleep(seconds)
        self.stop.set()


def run(main: Callable[[], Awaitable[None]], *, hang_seconds: float) -> int:
    """Run a process's main coroutine; its exit status: 0 asked for, 1 cannot start, 70 anything else."""
    import uvloop

    watchdog = Watchdog(hang_seconds)

    async def watched() -> None:
        watchdog.start(asyncio.get_running_loop())
        await main()

    try:
        uvloop.run(watched())
    except (Exception, BaseExceptionGroup) as error:
        return failed(error)
    finally:
        watchdog.stop()
    return 0


def failed(error: BaseException) -> int:
    """Say why a process ends; its exit status."""
    error = _first(error)
    if isinstance(error, StartupError):
        sys.stderr.write(f"logstream: {error.message}\n")
        return 1
    reason = error.message if isinstance(error, LogStreamError) else repr(error)
    _log.error("the process failed", error=reason, exc_info=error)
    # Not 1: that is for what trying again would not change.
    return 70


def _first(error: BaseException) -> BaseException:
    """The one to tell a person: a reason in words where there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    reasons, _ = error.split(StartupError)
    chosen: BaseException = reasons or error
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


def freeze() -> None:
    """Take what the start made out of the collector's sight, and let it look less often.

    Rows live in columns of strings, which the collector of cycles need not look at; at the default threshold
    it would walk them again and again while a batch is decoded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
