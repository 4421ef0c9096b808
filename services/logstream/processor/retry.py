"""Pauses between attempts."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Stopped(Exception):
    """The processor was told to stop; what is under way is remembered and resumed by the next start."""


class Backoff:
    """Pauses that double from `first` to `longest` seconds, each shortened by up to half at random."""

    def __init__(self, first: float, stop: asyncio.Event, longest: float = 5.0) -> None:
        self._first = first
        self._next = first
        self._longest = longest
        self._stop = stop

    async def pause(self) -> None:
        """Raises Stopped as soon as the processor shall stop."""
        seconds = self._next * (0.5 + random.random() / 2)
        self._next = min(self._longest, self._next * 2)
        await sleep(seconds, self._stop)
        if self._stop.is_set():
            raise Stopped


async def sleep(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but no longer than until `stop` is set."""
    if seconds <= 0 or stop.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def unless_stopped(call: Coroutine[Any, Any, _T], stop: asyncio.Event) -> _T:
    """What `call` answers; when `stop` is set before, it is cancelled. Raises Stopped."""
    calling = asyncio.ensure_future(call)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((calling, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        calling.cancel()
        await asyncio.gather(calling, stopping, return_exceptions=True)
    if calling.cancelled():
        raise Stopped
    return calling.result()
