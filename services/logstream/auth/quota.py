"""Quotas: two token buckets per API key, records and bytes, on the monotonic clock."""

from logstream.auth.principal import Principal
from logstream.clock import Clock
from logstream.errors import TooMany

BURST_SECONDS = 2.0
_PRUNE_ABOVE = 1024


class _Bucket:
    """`level` tokens of at most `rate * BURST_SECONDS`; below zero is debt. None: no limit."""

    __slots__ = ("level", "rate", "seen")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.level = rate * BURST_SECONDS
        self.seen = now

    def refill(self, rate: float, now: float) -> None:
        # min also applies a quota that was lowered meanwhile.
        self.level = min(self.level + (now - self.seen) * rate, rate * BURST_SECONDS)
        self.rate = rate
        self.seen = now

    def wait(self, amount: float) -> float:
        """Seconds until `amount` may be taken; more than the burst may be taken from a full bucket."""
        missing = min(amount, self.rate * BURST_SECONDS) - self.level
        # A millisecond is forgiven: who waited as long as told must not be refused for a rounding error of the
        # clock, of the level or of Retry-After.
        return missing / self.rate if missing > 0.001 * self.rate else 0.0


class QuotaLimiter:
    """Charges requests against the quotas of their keys. One per process: each process allows the full quota.

    Memory: a bucket pair per key with a quota; pairs that are full again, and so say nothing, are dropped
    whenever their number has doubled.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[_Bucket | None, _Bucket | None]] = {}
        self._prune_at = _PRUNE_ABOVE

    def __len__(self) -> int:
        return len(self._buckets)

    def charge(self, principal: Principal, *, records: int, bytes_: int) -> None:
        """Take `records` and `bytes_` from the key's buckets: both or neither.

        A request larger than the burst of two seconds is let through when the bucket is full and leaves debt,
        so that a large batch is late but never impossible. Raises TooMany with the time to wait.
        """
        quota = principal.quota
        if quota.records_per_second is None and quota.bytes_per_second is None:
            return
        by_records, by_bytes = self._refilled(principal)
        wait_records = by_records.wait(records) if by_records is not None else 0.0
        wait_bytes = by_bytes.wait(bytes_) if by_bytes is not None else 0.0
        if wait_records > 0 or wait_bytes > 0:
            if wait_records >= wait_bytes:
                unit, limit = "records", quota.records_per_second
            else:
                unit, limit = "bytes", quota.bytes_per_second
            raise TooMany(
                f"the quota of this key is {limit:g} {unit} per second",
                retry_after=max(wait_records, wait_bytes),
                field=f"{unit}_per_second",
                limit=limit,
            )
        if by_records is not None:
            by_records.level -= records
        if by_bytes is not None:
            by_bytes.level -= bytes_

    def refund(self, principal: Principal, *, records: int, bytes_: int) -> None:
        """Give back what `charge` took, when the request was refused later for a reason of ours (503)."""
        pair = self._buckets.get(principal.id)
        if pair is None:
            return
        for bucket, amount in zip(pair, (records, bytes_), strict=True):
            if bucket is not None:
                bucket.level = min(bucket.level + amount, bucket.rate * BURST_SECONDS)

    def _refilled(self, principal: Principal) -> tuple[_Bucket | None, _Bucket | None]:
        now = self._clock.monotonic()
        pair = self._buckets.get(principal.id)
        old_records, old_bytes = pair if pair is not None else (None, None)
        new = (
            _adjusted(old_records, principal.quota.records_per_second, now),
            _adjusted(old_bytes, principal.quota.bytes_per_second, now),
        )
        if pair is None and len(self._buckets) >= self._prune_at:
            self._prune(now)
        if new != pair:
            self._buckets[principal.id] = new
        return new

    def _prune(self, now: float) -> None:
        def is_full(bucket: _Bucket | None) -> bool:
            return bucket is None or bucket.level + (now - bucket.seen) * bucket.rate >= bucket.rate * BURST_SECONDS

        for key_id in [key_id for key_id, pair in self._buckets.items() if all(map(is_full, pair))]:
            del self._buckets[key_id]
        self._prune_at = max(_PRUNE_ABOVE, 2 * len(self._buckets))


def _adjusted(bucket: _Bucket | None, rate: float | None, now: float) -> _Bucket | None:
    if rate is None:
        return None
    if bucket is None:
        return _Bucket(rate, now)
    bucket.refill(rate, now)
    return bucket
