"""A log that answers every other read with nothing, as a loaded broker does within the time it was given."""

from collections.abc import Sequence
from typing import Any

from logstream.bus.protocol import Bus, Message


class SlowBus:
    """Everything else is as `bus` does it. empty: how many reads were answered with nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._reads = 0
        self.empty = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def read(self, *args: Any, **options: Any) -> Sequence[Message]:
        """As `Bus.read`, every other time."""
        self._reads += 1
        if self._reads % 2:
            self.empty += 1
            return ()
        return await self._bus.read(*args, **options)
