"""What processes are made of: log, accounts and store, opened from settings, waited for while they are away."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from logstream import logs
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.bus.protocol import Bus, Journal
from logstream.clock import Clock
from logstream.errors import LogStreamError, StartupError, Unavailable
from logstream.run.readiness import Readiness, Tolerated
from logstream.run.settings import ProcessSettings
from logstream.settings import AuthSettings

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

_log = logs.get_logger("process")


class Stopped(Exception):
    """The process is to end, and had not begun."""


async def reached(
    name: str,
    attempt: Callable[[], Awaitable[T]],
    readiness: Readiness,
    stop: asyncio.Event,
    *,
    passing: tuple[type[LogStreamError], ...] = (Unavailable,),
) -> T:
    """What `attempt` returns once it succeeds; meanwhile /readyz says why it does not.

    Something that is away, refuses us or is not set up yet is no reason to end: starting again would not help, and
    would lose the reason. passing: what `attempt` raises for that. Raises Stopped, and what else it raises.
    """
    pause = _FIRST_PAUSE
    told = ""
    while True:
        trying = asyncio.ensure_future(attempt())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((trying, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                raise Stopped
            return trying.result()
        except passing as error:
            readiness.waiting(name, error.message)
            if error.message != told:
                told = error.message
                _log.warning("waiting", dependency=name, reason=told)
        finally:
            for task in (trying, stopping):
                task.cancel()
            await asyncio.gather(trying, stopping, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
                raise Stopped
        pause = min(_LONGEST_PAUSE, pause * 2)


async def open_bus(settings: ProcessSettings, clock: Clock, *, journal: Journal | None = None) -> Bus:
    """The log that `run.bus` names. journal: for whoever settles records or counts them, on Kafka.

    Raises StartupError, Unavailable.
    """
    if settings.run.bus == "sqlite":
        from logstream.bus.sqlite import SqliteBus

        return await SqliteBus.open(settings.bus, clock)
    from logstream.bus.kafka import KafkaBus

    return await KafkaBus.open(settings.kafka, clock, journal=journal, makes_topics=settings.run.create_missing)


async def open_log(
    settings: ProcessSettings,
    clock: Clock,
    readiness: Readiness,
    stop: asyncio.Event,
    *,
    journal: Journal | None = None,
) -> Bus:
    """The log, once it can be reached; it is `log` in /readyz. Raises StartupError for a folder or settings
    that are of no use, Stopped."""
    if settings.run.bus == "sqlite":
        # A folder that cannot be used, or is in use, stays so.
        bus = await open_bus(settings, clock)
    else:
        bus = await reached("log", lambda: open_bus(settings, clock, journal=journal), readiness, stop)
    readiness.reached("log", bus.check)
    return bus


async def open_accounts(settings: AuthSettings, clock: Clock, readiness: Readiness, stop: asyncio.Event) -> Accounts:
    """The accounts database, once it can be reached. Raises StartupError for a file, Stopped."""
    if settings.url.startswith("sqlite"):
        return await Accounts.open(settings, clock)
    # It is asked again here, so that the reason is known at once.
    once = settings.model_copy(update={"connect_seconds": 0.0})
    return await reached(
        "accounts", lambda: Accounts.open(once, clock), readiness, stop, passing=(StartupError, Unavailable)
    )


async def open_gate(accounts: Accounts, readiness: Readiness, stop: asyncio.Event) -> Gate:
    """The gate with its first snapshot; it is `accounts` in /readyz. Raises Stopped."""
    gate = Gate(accounts)

    async def first() -> None:
        await gate.refresh()
        if gate.away:
            raise Unavailable("the accounts database is away")

    await reached("accounts", first, readiness, stop)
    readiness.reached("accounts", accounts_check(accounts, gate))
    return gate


def accounts_check(accounts: Accounts, gate: Gate) -> Callable[[], Awaitable[None]]:
    """Away, but known keys and logins still count: told, and ready. Too long away: not ready."""
    limit = accounts.settings.stale_seconds

    async def check() -> None:
        if not gate.away:
            return
        if gate.age > limit:
            raise Unavailable(f"the accounts database has been away for more than {limit:g} s")
        raise Tolerated(f"the accounts database is away; keys and logins that are known count for {limit:g} s")

    return check
