"""Ends a process whose event loop stands still: it would hold its sockets, its group membership and nobody's request.

Where somebody asks /livez from outside, as Kubernetes does, that finds it too, and also finds a process stopped as a
whole; this works everywhere. The rule is that of `logstream.standalone.pulse`: silent for long, and more than once.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from logstream import logs

MIN_FAILURES = 3
"""In a row. After a process that was stopped as a whole and goes on, one question alone has no answer in time."""
STATUS = 70

_QUESTIONS = 6
"""For each `hang_seconds`."""

_log = logs.get_logger("watchdog")


def _end() -> None:
    """Without a word to anybody: whoever could be told is what stands still."""
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(STATUS)


class Watchdog:
    """A thread that asks the loop for a sign of life, six times in `hang_seconds`, and calls `end` when it hangs.

    Code that never lets go of the interpreter stops this thread as well; only a question from outside finds that.
    """

    def __init__(self, hang_seconds: float, *, end: Callable[[], None] = _end) -> None:
        self._hang_seconds = hang_seconds
        self._end = end
        self._over = threading.Event()
        self._answered = threading.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop` until `stop`. Nothing happens where `hang_seconds` is 0."""
        if self._hang_seconds:
            threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        last = time.monotonic()
        failures = 0
        while not self._over.is_set():
            self._answered.clear()
            try:
                loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                return  # The loop was closed: the process is ending.
            if self._over.wait(self._hang_seconds / _QUESTIONS):
                return
            now = time.monotonic()
            if self._answered.is_set():
                last, failures = now, 0
                continue
            failures += 1
            if failures >= MIN_FAILURES and now - last >= self._hang_seconds:
                _log.error("the event loop stands still, the process ends", seconds=round(now - last, 1))
                self._end()
                return
