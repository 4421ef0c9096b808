"""A journal in memory, for tests of the bus alone; `logstream.storage.journal` is the real one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from logstream.bus.protocol import Claimed, Outcome, Settled, Topic


@dataclass(frozen=True, slots=True)
class Snapshot:
    totals: Mapping[str, Outcome]
    last: Mapping[int, int]


@dataclass(slots=True)
class MemoryJournal:
    """`logstream.bus.protocol.Journal`. `failures` raise, one a call of `record`, before anything is kept."""

    settled: dict[tuple[int, int, int], Settled] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)

    async def record(self, topic: Topic, partition: int, settled: Settled) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.settled.setdefault((topic.incarnation, partition, settled.first), settled)

    async def snapshot(self, topic: Topic, start_minute: int | None = None, end_minute: int | None = None) -> Snapshot:
        totals: dict[str, Outcome] = {}
        last: defaultdict[int, int] = defaultdict(lambda: -1)
        for (incarnation, partition, _), settled in self.settled.items():
            if incarnation != topic.incarnation:
                continue
            last[partition] = max(last[partition], settled.last)
            for (key_id, minute), outcome in settled.outcomes.items():
                if (start_minute is None or minute >= start_minute) and (end_minute is None or minute < end_minute):
                    before = totals.get(key_id, Outcome())
                    totals[key_id] = Outcome(
                        before.stored + outcome.stored,
                        before.dead_lettered + outcome.dead_lettered,
                        before.deduplicated + outcome.deduplicated,
                    )
        return Snapshot(totals, last)

    async def totals(self, topic: Topic, start_minute: int | None, end_minute: int | None) -> Mapping[str, Outcome]:
        return (await self.snapshot(topic, start_minute, end_minute)).totals

    async def settled_to(self, topic: Topic, partition: int) -> int | None:
        return (await self.snapshot(topic)).last.get(partition)

    async def claims(
        self, topic: Topic, partition: int, since_ns: int, *, before: int | None = None, limit: int | None = None
    ) -> Sequence[Claimed]:
        found = [
            claimed
            for (incarnation, number, first), settled in sorted(self.settled.items())
            if incarnation == topic.incarnation and number == partition and (before is None or first < before)
            for claimed in settled.claims
            if claimed.received_at >= since_ns
        ]
        return found if limit is None else found[-limit:]
