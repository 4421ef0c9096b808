"""Quotas: two token buckets per API key and per stream, records and bytes, on the monotonic clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logstream.auth.principal import Principal, Quota
from logstream.clock import Clock
from logstream.errors import TooMany

if TYPE_CHECKING:
    from logstream.auth.streams import StreamInfo

BURST_SECONDS = 2.0
_PRUNE_ABOVE = 1024
STREAM_SUBJECT = "s:"
"""Before a stream's id: what is charged is named by a key's id or by this; key ids have no colon."""


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

    def give(self, amount: float) -> None:
        self.level = min(self.level + amount, self.rate * BURST_SECONDS)


_Pair = tuple[_Bucket | None, _Bucket | None]


@dataclass(slots=True)
class Usage:
    """What was charged to one subject with `quota`; negative when more was given back."""

    quota: Quota
    records: int = 0
    bytes_: int = 0


class QuotaLimiter:
    """Charges requests against the quotas of their keys and streams. One per process.

    share: the part of each quota that this process may use; 1 alone, and while processes tell one another what they
    used (`logstream.auth.exchange`, which turns `recording` on).

    Memory: a bucket pair per key or stream with a quota; pairs that are full again, and so say nothing, are dropped
    whenever their number has doubled.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _Pair] = {}
        self._prune_at = _PRUNE_ABOVE
        self.share = 1.0
        self.recording = False
        self._used: dict[str, Usage] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def charge(self, principal: Principal, *, records: int, bytes_: int, stream: "StreamInfo | None" = None) -> None:
        """Take `records` and `bytes_` from the buckets of the key and of the stream: from all or from none.

        A request larger than the burst of two seconds is let through when the bucket is full and leaves debt,
        so that a large batch is late but never impossible. Raises TooMany with the time to wait.
        """
        charged = _charged(principal, stream)
        if not charged:
            return
        now = self._clock.monotonic()
        pairs = [self._refilled(subject, quota, now) for subject, quota in charged]
        longest, refusal = 0.0, None
        for (subject, quota), (by_records, by_bytes) in zip(charged, pairs, strict=True):
            for bucket, amount, unit, limit in (
                (by_records, records, "records", quota.records_per_second),
                (by_bytes, bytes_, "bytes", quota.bytes_per_second),
            ):
                wait = bucket.wait(amount) if bucket is not None else 0.0
                if wait > longest:
                    longest, refusal = wait, (subject, unit, limit)
        if refusal is not None:
            subject, unit, limit = refusal
            whose = "stream" if subject.startswith(STREAM_SUBJECT) else "key"
            raise TooMany(
                f"the quota of this {whose} is {limit:g} {unit} per second",
                retry_after=longest,
                field=f"{unit}_per_second",
                limit=limit,
            )
        for by_records, by_bytes in pairs:
            if by_records is not None:
                by_records.level -= records
            if by_bytes is not None:
                by_bytes.level -= bytes_
        if self.recording:
            self._record(charged, records, bytes_)

    def refund(self, principal: Principal, *, records: int, bytes_: int, stream: "StreamInfo | None" = None) -> None:
        """Give back what `charge` took, when the request was refused later for a reason of ours (503)."""
        charged = _charged(principal, stream)
        for subject, _ in charged:
            for bucket, amount in zip(self._buckets.get(subject, ()), (records, bytes_), strict=False):
                if bucket is not None:
                    bucket.give(amount)
        if self.recording:
            self._record(charged, -records, -bytes_)

    def take_used(self) -> Mapping[str, Usage]:
        """By subject, what was charged since the last call while `recording` was on."""
        used, self._used = self._used, {}
        return used

    def heard(self, subject: str, usage: Usage) -> None:
        """Another process charged this: take it from our buckets too, which may leave debt."""
        now = self._clock.monotonic()
        pair = self._buckets.get(subject)
        if pair is None:
            pair = self._refilled(subject, usage.quota, now)
        for bucket, amount in zip(pair, (usage.records, usage.bytes_), strict=True):
            if bucket is not None:
                bucket.refill(bucket.rate, now)
                bucket.give(-amount)

    def _record(self, charged: "list[tuple[str, Quota]]", records: int, bytes_: int) -> None:
        for subject, quota in charged:
            used = self._used.get(subject)
            if used is None:
                used = self._used[subject] = Usage(quota)
            used.quota = quota
            used.records += records
            used.bytes_ += bytes_

    def _refilled(self, subject: str, quota: Quota, now: float) -> _Pair:
        pair = self._buckets.get(subject)
        old_records, old_bytes = pair if pair is not None else (None, None)
        new = (
            _adjusted(old_records, quota.records_per_second, self.share, now),
            _adjusted(old_bytes, quota.bytes_per_second, self.share, now),
        )
        if pair is None and len(self._buckets) >= self._prune_at:
            self._prune(now)
        if new != pair:
            self._buckets[subject] = new
        return new

    def _prune(self, now: float) -> None:
        def is_full(bucket: _Bucket | None) -> bool:
            return bucket is None or bucket.level + (now - bucket.seen) * bucket.rate >= bucket.rate * BURST_SECONDS

        for subject in [subject for subject, pair in self._buckets.items() if all(map(is_full, pair))]:
            del self._buckets[subject]
        self._prune_at = max(_PRUNE_ABOVE, 2 * len(self._buckets))


def _charged(principal: Principal, stream: "StreamInfo | None") -> list[tuple[str, Quota]]:
    """The subjects that have a limit, with their quotas."""
    charged = []
    quota = principal.quota
    if quota.records_per_second is not None or quota.bytes_per_second is not None:
        charged.append((principal.id, quota))
    if stream is not None:
        quota = stream.quota
        if quota.records_per_second is not None or quota.bytes_per_second is not None:
            charged.append((STREAM_SUBJECT + stream.stream.stream_id, quota))
    return charged


def _adjusted(bucket: _Bucket | None, rate: float | None, share: float, now: float) -> _Bucket | None:
    if rate is None:
        return None
    if bucket is None:
        return _Bucket(rate * share, now)
    bucket.refill(rate * share, now)
    return bucket
