"""Which records repeat an earlier request under its Idempotency-Key, where the bus leaves that to the processor.

Such records share a partition. One is dropped when a record with the same key and the same body stands at a lower
offset, was not dropped itself, and was received less than the window before. That depends on records alone, so
whoever takes over a planned range decides the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from logstream import metrics
from logstream.bus.header import NO_KEY
from logstream.bus.protocol import Claimed, Journal
from logstream.clock import NS_PER_SECOND
from logstream.processor.plan import Item


@dataclass(frozen=True, slots=True)
class Deduplication:
    """journal: remembers claims. window_seconds: how long an Idempotency-Key is remembered."""

    journal: Journal
    window_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """dropped: offsets of records that are repeats. claims: what the others claim."""

    dropped: frozenset[int] = frozenset()
    claims: tuple[Claimed, ...] = ()


class ClaimWindow:
    """The claims of one partition's records, as far as they can still matter.

    limit: the latest claims that are kept, some 180 bytes each. A partition with more keyed requests in a window
    remembers less than the window: metric `logstream_processor_claims_forgotten`.
    The clocks of collectors are taken to agree within a window.
    """

    def __init__(self, window_seconds: float, limit: int) -> None:
        self.window_ns = int(window_seconds * NS_PER_SECOND)
        self._limit = limit
        self._seen: dict[bytes, int] = {}
        self._newest = 0

    def __len__(self) -> int:
        return len(self._seen)

    def since(self, received_at: int) -> int:
        """From when on claims matter to a record received at `received_at`, and to those behind it."""
        return received_at - 2 * self.window_ns

    def decide(self, items: Sequence[Item]) -> Decision:
        """In the order of offsets. Changes nothing: what is decided counts once it is settled (`add`)."""
        dropped: list[int] = []
        claims: dict[bytes, Claimed] = {}
        for item in items:
            header = item.header
            if header is None or not is_keyed(item):
                continue
            claim = Claimed(header.idempotency_key, header.fingerprint, header.received_at)
            both = claim.key + claim.fingerprint
            earlier = claims[both].received_at if both in claims else self._seen.get(both)
            if earlier is not None and claim.received_at - earlier < self.window_ns:
                dropped.append(item.offset)
            else:
                # The same twice in one range, a window apart: the later one is what counts from now on.
                claims.pop(both, None)
                claims[both] = claim
        return Decision(frozenset(dropped), tuple(claims.values()))

    def add(self, claims: Sequence[Claimed]) -> None:
        """Claims of records that came to their end, in the order of offsets."""
        for claim in claims:
            both = claim.key + claim.fingerprint
            self._seen.pop(both, None)
            self._seen[both] = claim.received_at
            self._newest = max(self._newest, claim.received_at)
        forgotten = 0
        horizon = self.since(self._newest)
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] >= horizon:
                if len(self._seen) <= self._limit:
                    break
                forgotten += 1
            del self._seen[oldest]
        if forgotten:
            metrics.PROCESSOR_CLAIMS_FORGOTTEN.inc(forgotten)


def is_keyed(item: Item) -> bool:
    """Whether the record came under an Idempotency-Key, is sound, and its body can be told from another."""
    header = item.header
    return header is not None and not item.reason and NO_KEY not in (header.idempotency_key, header.fingerprint)
