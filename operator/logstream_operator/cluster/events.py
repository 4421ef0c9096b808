"""Events of a resource, for `kubectl describe`. Transitions only; who calls this knows what changed."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from logstream.logs import get_logger
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.errors import ClusterAway, ClusterRefused

CONTROLLER = "logstream.dev/operator"
MAX_NOTE = 1024
"""Characters; longer ones are refused."""

_log = get_logger("operator")


class Recorder:
    """instance: of this replica, at most 128 characters."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance[:128]

    async def tell(
        self, regarding: Mapping[str, Any], reason: str, note: str, *, warning: bool = False, action: str = "Reconcile"
    ) -> None:
        """Never raises: an Event that cannot be written must not stop what it tells of."""
        meta = regarding["metadata"]
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        seed = f"{meta['uid']}{reason}{note}{now}".encode()
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta['name'][:200]}.{hashlib.sha256(seed).hexdigest()[:16]}",
                "namespace": meta["namespace"],
            },
            "eventTime": now,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "note": note[:MAX_NOTE],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
        }
        try:
            await self._cluster.create(event)
        except (ClusterAway, ClusterRefused) as error:
            _log.warning("event_not_written", resource=meta["name"], reason=reason, error=error.message)
