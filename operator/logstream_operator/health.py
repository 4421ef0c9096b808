"""/livez, /readyz and /metrics, on one port."""

import asyncio
import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str | None]
"""Why it is not well; None when it is."""


class Health:
    """alive: whether this process had better be started again. ready: whether it does its part."""

    def __init__(self, alive: Check, ready: Check, before_metrics: Callable[[], None]) -> None:
        self._checks = {"/livez": alive, "/readyz": ready}
        self._before_metrics = before_metrics
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """port 0: a free one, told in `port`. Raises OSError."""
        application = web.Application()
        for path in self._checks:
            application.router.add_get(path, self._check)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _check(self, request: web.Request) -> web.Response:
        problem = self._checks[request.path]()
        body = json.dumps({"status": "ok"} if problem is None else {"status": "failed", "reason": problem})
        return web.Response(text=body, status=200 if problem is None else 503, content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        self._before_metrics()
        text = await asyncio.to_thread(generate_latest)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
