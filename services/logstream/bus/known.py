"""Reading what the log said to have: an empty answer then means that it is slow, never that there is no more."""

import asyncio
from collections.abc import Sequence

from logstream.bus.protocol import Bus, Message, Topic
from logstream.errors import BusUnavailable, NotFound

PATIENCE_SECONDS = 60.0
"""A broker that was just restarted, or one reader of many, takes its time."""
_PAUSE_SECONDS = 0.05


def missing(name: str) -> BusUnavailable:
    """What it means that a stream has no topic."""
    return BusUnavailable(f"topic {name!r} is not there: it is being made, or somebody deleted it", retry_after=2.0)


async def known_topic(bus: Bus, name: str) -> Topic:
    """The topic of a stream that exists. Raises BusUnavailable while there is none."""
    try:
        return await bus.topic(name)
    except NotFound:
        raise missing(name) from None


async def read_known(
    bus: Bus, topic: str, partition: int, offset: int, *, max_bytes: int, seconds: float = PATIENCE_SECONDS
) -> Sequence[Message]:
    """Records of a partition from `offset` on, which must lie before its end; at least one.

    seconds: how long they may take. Raises BusUnavailable when none has come by then, and what `Bus.read` does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        left = deadline - loop.time()
        messages = await bus.read(topic, partition, offset, max_bytes=max_bytes, wait=max(0.0, min(5.0, left)))
        if messages:
            return messages
        if left <= 0:
            raise BusUnavailable(
                f"the log has records of {topic}/{partition} from {offset} on, and none came within {seconds:g} s"
            )
        await asyncio.sleep(_PAUSE_SECONDS)
