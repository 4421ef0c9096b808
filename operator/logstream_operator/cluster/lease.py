"""Leader election by a Lease: of several replicas one reconciles.

The client's own election (kubernetes.aio.leaderelection) writes local times without a zone and treats a hung request
as any other wait; here the leader steps down on its own monotonic clock before the Lease can be anybody else's.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from logstream.clock import Clock
from logstream.logs import get_logger
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.errors import ClusterAway, ClusterRefused
from logstream_operator.cluster.kinds import LEASE, Object
from logstream_operator.metrics import LEADER

_log = get_logger("operator")


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds, as Kubernetes' own controllers have them."""

    duration: float = 15.0
    """Nobody else takes the Lease before it has not been renewed for so long."""
    renew: float = 10.0
    """Who could not renew it for so long steps down."""
    retry: float = 2.0


class Election:
    """One replica's part in it. identity: unique among replicas."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or LeaseTimes()
        self._seen: tuple[str, float] = ("", float("-inf"))
        """What the Lease said last, and since when it says so, on our own clock: others' clocks may be wrong."""
        self.leading = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, then `lead` until that ends or the Lease is lost; then return.

        A replica that lost it had better start anew: what it knows is old. Given back when `lead` ends or is cancelled.
        """
        while not await self._try():
            await asyncio.sleep(self._times.retry)
        self.leading = True
        LEADER.set(1)
        _log.info("leading", identity=self._identity)
        work = asyncio.ensure_future(lead())
        try:
            renewing = asyncio.ensure_future(self._renew())
            try:
                await asyncio.wait((work, renewing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                renewing.cancel()
            if work.done():
                work.result()
            else:
                _log.error("lease_lost", identity=self._identity)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            self.leading = False
            LEADER.set(0)
            with contextlib.suppress(ClusterAway, ClusterRefused):
                await asyncio.shield(self._release())

    async def _renew(self) -> None:
        renewed = self._clock.monotonic()
        while self._clock.monotonic() - renewed < self._times.renew:
            await asyncio.sleep(self._times.retry)
            began = self._clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, self._times.renew - (began - renewed))):
                    if await self._try():
                        renewed = began
                    elif self._seen[0].split("|")[0] not in ("", self._identity):
                        return

    async def _try(self) -> bool:
        """Take or renew the Lease; False when it is another's or the API server is away."""
        try:
            found = await self._cluster.get(LEASE, self._namespace, self._name)
            if found is None:
                await self._cluster.create(self._lease(None))
                return True
            spec = found.get("spec", {})
            holder = spec.get("holderIdentity") or ""
            state = f"{holder}|{spec.get('renewTime')}|{spec.get('leaseTransitions')}"
            if state != self._seen[0]:
                self._seen = (state, self._clock.monotonic())
            patient = float(spec.get("leaseDurationSeconds") or self._times.duration)
            if holder not in ("", self._identity) and self._clock.monotonic() - self._seen[1] < patient:
                return False
            await self._cluster.replace(self._lease(found))
        except (ClusterAway, ClusterRefused) as error:
            _log.debug("lease_not_taken", error=error.message)
            return False
        return True

    def _lease(self, found: Object | None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = found.get("spec", {}) if found else {}
        same = before.get("holderIdentity") == self._identity
        meta = found["metadata"] if found else {"name": self._name, "namespace": self._namespace}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": meta,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._times.duration)),
                "acquireTime": before.get("acquireTime", now) if same else now,
                "renewTime": now,
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same else 1),
            },
        }

    async def _release(self) -> None:
        found = await self._cluster.get(LEASE, self._namespace, self._name)
        if found is not None and found.get("spec", {}).get("holderIdentity") == self._identity:
            found["spec"]["holderIdentity"] = ""
            # 0 is not allowed.
            found["spec"]["leaseDurationSeconds"] = 1
            await self._cluster.replace(found)
