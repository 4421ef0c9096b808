"""The processor, with a limit to how long it may take to end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from logstream import logs

_log = logs.get_logger("processor")


async def bounded(processing: Coroutine[Any, Any, None], stop: asyncio.Event, seconds: float) -> None:
    """Run `processing`, which ends by itself after `stop`; when it does not within `seconds` (the store hangs), it is
    cancelled, and its records stay in the log for the next start."""
    task = asyncio.ensure_future(processing)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            task.result()
        else:
            _log.warning("stopped before everything was stored; the log has the rest")
    finally:
        for pending in (task, stopping):
            pending.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
