"""Statements of one read side by side."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(*reads: Coroutine[Any, Any, _T]) -> list[_T]:
    """What all `reads` give, in order. When one fails or the caller leaves, the others end before this does."""
    if len(reads) == 1:
        return [await reads[0]]
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
