"""Argon2id for passwords, off the event loop, a bounded number at a time."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from logstream.errors import Unavailable

T = TypeVar("T")

_AT_ONCE = 2
_WAITING = 32


class Passwords:
    """Hashes and verifies.

    The defaults are OWASP's second choice for Argon2id (19 MiB, two passes, one lane; about 25 ms of CPU), so
    that `_AT_ONCE` logins take at most 38 MiB. More than `_WAITING` waiting calls raise Unavailable: a flood of
    logins can exhaust neither CPU nor memory.
    """

    def __init__(self, *, memory_kib: int = 19_456, passes: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
        self._pending = 0
        # Verified in place of an account that does not exist; made of the same parameters, so it takes as long.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The encoded hash. Raises Unavailable when too many wait."""
        return await self._run(partial(self._hasher.hash, password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`; None (no such account) takes the same time and is False."""
        matches = await self._run(partial(self._matches, stored or self._nobody, password))
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, call: Callable[[], T]) -> T:
        if self._pending >= _AT_ONCE + _WAITING:
            raise Unavailable("too many logins at once", retry_after=2)
        self._pending += 1
        future = self._threads.submit(call)
        # Counted until the thread is done, not until the caller goes away: the work goes on without the caller.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._pending -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
