"""The API as a service."""

import asyncio
import contextlib
import logging
import socket

from logstream import web
from logstream.api.app import create_app
from logstream.api.services import Services
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.bus.protocol import Bus
from logstream.clock import Clock
from logstream.settings import ApiSettings, LettersSettings
from logstream.storage.store import Store


class _BrokenOff(logging.Filter):
    """Leaves out uvicorn's error for an answer without its end: that is how an export says that it is not whole, and it
    is logged where it happens, with its reason.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


_BROKEN_OFF = _BrokenOff()


async def serve(
    settings: ApiSettings,
    *,
    sock: socket.socket | web.Serve,
    bus: Bus,
    store: Store,
    accounts: Accounts,
    gate: Gate,
    clock: Clock,
    stop: asyncio.Event,
    idempotency_seconds: float = 3600.0,
    letters: LettersSettings | None = None,
) -> None:
    """Serve on the listening `sock` until `stop` is set; tails end first, then requests under way are answered.

    sock: or who serves in its place. idempotency_seconds: see `Services`. letters: None means
    those of the environment.
    """
    # uvicorn logs each WebSocket with its query string, and that may hold a ticket.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_BROKEN_OFF)
    services = Services(settings, bus, store, gate, clock, idempotency_seconds, letters or LettersSettings())
    tails_ended = asyncio.Event()

    async def end_tails() -> None:
        await stop.wait()
        await services.close()
        tails_ended.set()

    ending = asyncio.create_task(end_tails())
    tending = asyncio.create_task(
        services.letters.run(lambda: [info.stream for info in gate.streams() if info.ready], stop)
    )
    try:
        await web.serving(sock)(create_app(services, accounts), tails_ended)
    finally:
        for task in (ending, tending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await services.close()
