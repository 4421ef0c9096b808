"""Whether a client of librdkafka has lost every broker, for good.

A broker that was just started may answer with topics and no broker at all. librdkafka (seen with 2.16) then lets go of
all that it knows, and at times, when the bootstrap servers are still being let go of, of these, too. It never connects
again, and says nothing. A client that cannot reach its brokers looks different: it goes on trying.
"""

import json
from collections.abc import Callable
from typing import Any

_INTERVAL_MS = 10_000
_TOLD = 2
"""Reports in a row."""
_IDLE_US = 10_000_000
"""librdkafka tries one broker at least every two seconds (reconnect.backoff.max.ms)."""


class Stranded:
    """Told by librdkafka's statistics, in the thread that polls the client."""

    def __init__(self) -> None:
        self._told = 0

    @property
    def properties(self) -> dict[str, int | Callable[[str], None]]:
        """For the client to be watched."""
        return {"statistics.interval.ms": _INTERVAL_MS, "stats_cb": self.note}

    @property
    def is_so(self) -> bool:
        return self._told >= _TOLD

    def note(self, statistics: str) -> None:
        """As librdkafka's `stats_cb`."""
        brokers: dict[str, dict[str, Any]] = json.loads(statistics).get("brokers", {})
        # What has no number and is no bootstrap server is an address for one of the others, the group's coordinator.
        real = [broker for broker in brokers.values() if broker["source"] != "logical"]
        lost = all(broker["state"] == "INIT" and broker["stateage"] > _IDLE_US for broker in real)
        self._told = self._told + 1 if lost else 0
