"""The collector as a service."""

import asyncio
import socket

from logstream import web
from logstream.auth.gate import Gate
from logstream.auth.quota import QuotaLimiter
from logstream.bus.protocol import Bus
from logstream.clock import Clock
from logstream.collector.app import create_app
from logstream.settings import CollectorSettings


async def serve(
    settings: CollectorSettings,
    *,
    sock: socket.socket | web.Serve,
    bus: Bus,
    gate: Gate,
    quota: QuotaLimiter,
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """Serve on the listening `sock` until `stop` is set; requests under way are answered first.

    sock: or who serves in its place.
    """
    app = create_app(settings, bus=bus, gate=gate, quota=quota, clock=clock)
    try:
        await web.serving(sock, header_timeout=settings.limits.header_timeout_seconds)(app, stop)
    finally:
        await app.close()
