"""Whether a process can do its work: each thing it depends on, by name, with the reason where it cannot."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from logstream import __version__
from logstream.errors import LogStreamError

Check = Callable[[], Awaitable[None]]
"""Raises LogStreamError when the thing is away; Tolerated when the process does without it for now."""

_CHECK_SECONDS = 3.0
_KEEP_SECONDS = 0.5
"""However often and by however many it is asked, the things it depends on are asked no more often than this."""

OK = "ok"
NOT_OK = "not ok"


class Tolerated(LogStreamError):
    """Something is away, and the process goes on working meanwhile: told, but still ready."""


class Readiness:
    """The names are known from the start; each is "not reached yet" until `reached`."""

    def __init__(self, *names: str) -> None:
        self._checks: dict[str, Check | None] = dict.fromkeys(names)
        self._waiting: dict[str, str] = dict.fromkeys(names, "not reached yet")
        self._asking: asyncio.Task[dict[str, tuple[str, bool]]] | None = None
        self._asked_at = 0.0
        self.is_starting = False
        """What is served is not there yet, though all that it depends on may be."""
        self.is_stopping = False
        """From then on the process is not ready, whatever it depends on."""

    def waiting(self, name: str, reason: str) -> None:
        """`name` was tried and is not there yet."""
        self._waiting[name] = reason

    def reached(self, name: str, check: Check) -> None:
        """`name` was opened; from now on `check` says how it is."""
        self._checks[name] = check
        self._asking = None

    def missing(self) -> dict[str, str]:
        """What was not reached yet, with the last reason."""
        return {name: self._waiting[name] for name, check in self._checks.items() if check is None}

    async def answer(self, *, reasons: bool = True) -> tuple[bool, Mapping[str, object]]:
        """Whether it is ready, and the body of /readyz: `{"status", "version", "checks": {name: "ok" | reason}}`.

        reasons: False says only `not ok` in their place: they name streams, topics and servers.
        """
        found = await self._ask()
        checks = {name: said if reasons or said == OK else NOT_OK for name, (said, _) in found.items()}
        own = "stopping" if self.is_stopping else "starting" if self.is_starting else ""
        is_ready = not own and all(good for _, good in found.values())
        if own:
            checks = {"process": own, **checks}
        well = all(said == OK for said in checks.values())
        status = own or (OK if well else "degraded")
        return is_ready, {"status": status, "version": __version__, "checks": checks}

    async def _ask(self) -> dict[str, tuple[str, bool]]:
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked_at > _KEEP_SECONDS):
            self._asked_at = now
            self._asking = asyncio.create_task(self._check_all())
        # Shielded: one who asks and goes away does not take the answer from the others.
        return await asyncio.shield(self._asking)

    async def _check_all(self) -> dict[str, tuple[str, bool]]:
        said = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        return dict(zip(self._checks, said, strict=True))

    async def _check(self, name: str, check: Check | None) -> tuple[str, bool]:
        if check is None:
            return self._waiting[name], False
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check()
        except Tolerated as error:
            return error.message, True
        except LogStreamError as error:
            return error.message, False
        except TimeoutError:
            return f"no answer within {_CHECK_SECONDS:g} s", False
        return OK, True
