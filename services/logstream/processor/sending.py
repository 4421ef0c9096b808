"""Sending an INSERT again whose first attempt may have been stored, on a server that remembers tokens by itself.

Such a server writes a token down just before it makes the part visible. When it is killed in between, the token stands
for rows that are not there, and the same INSERT changes nothing for ever (seen once, in 43 kills under load). So the
rows are looked for, and sent under another token. What comes late under the first one still changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from logstream.logs import get_logger
from logstream.processor.plan import Plan

_TOKENS = 3
_LOOK_AGAIN_SECONDS = 1.0
"""An earlier attempt may be at that very point now."""

_log = get_logger("processor")


async def send_again(
    plan: Plan, send: Callable[[str], Awaitable[None]], contains: Callable[[Plan], Awaitable[bool]]
) -> None:
    """`send(token)`, until the plan's rows are there. Raises what the two do."""
    for number in range(1, _TOKENS + 1):
        # Always the same ones, so that whoever takes over sends nothing twice.
        await send(plan.token if number == 1 else f"{plan.token}/{number}")
        if await contains(plan):
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        if await contains(plan):
            return
        _log.warning("token_without_rows", partition=plan.partition, first=plan.first, last=plan.last, attempt=number)
    # Rows that are older than the table keeps them, or that somebody removes.
    _log.error("rows_do_not_stay", partition=plan.partition, first=plan.first, last=plan.last)
