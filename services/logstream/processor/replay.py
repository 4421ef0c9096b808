"""Days built anew from the log, beside the live table, and swapped in once they are proven whole.

A day is one of arrival (`received_at`, UTC), as the table's partitions are. Only days that are over, that the log
still covers whole and that came to their end can be built anew: then the log says all that there is to say. Repeats
are dropped and dead letters left out as they were decided when the rows were first stored. A day is swapped in, in
one step, only when its rows are as many, key by key, as the ledger counted.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from logstream.bus.known import known_topic, read_known
from logstream.bus.protocol import Bus, Outcome, Topic
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import Conflict, LogStreamError, OffsetOutOfRange, StoreUnavailable
from logstream.letters.format import look
from logstream.processor.plan import Item, item_of
from logstream.processor.poison import part
from logstream.processor.service import GROUP
from logstream.processor.window import ClaimWindow, Deduplication
from logstream.processor.worker import provenance
from logstream.settings import MIB, ProcessorSettings
from logstream.storage import block
from logstream.storage.schema import MAX_RETENTION_DAYS
from logstream.storage.store import Store
from logstream.stream import Stream

DAY_NS = 86_400 * NS_PER_SECOND
LATE_NS = 900 * NS_PER_SECOND
"""A record may stand this much later in the log than one received after it: collectors wait for the log, and their
clocks differ."""

_READ_BYTES = 8 * MIB
_ATTEMPTS = 8
_IDENTITY = "(incarnation, partition, offset, row)"
_WHOLE = -1


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a stream.

    expected: what the ledger counted of it, by API key. live: rows in the table now. reason: why it cannot be built
    anew, else empty. rebuilt: rows that were built, None when they were not. swapped: they are in the table now.
    """

    day: date
    live: int
    expected: Mapping[str, Outcome] = field(default_factory=dict)
    reason: str = ""
    rebuilt: int | None = None
    swapped: bool = False

    @property
    def number(self) -> int:
        """Days since the epoch."""
        return (self.day - date(1970, 1, 1)).days

    @property
    def stored(self) -> int:
        """Rows that the ledger counted."""
        return sum(outcome.stored for outcome in self.expected.values())


def day_of(received_at: int) -> date:
    """The UTC day of a time in ns."""
    return date(1970, 1, 1) + timedelta(days=received_at // DAY_NS)


Progress = Callable[[int, int], None]
"""Told offsets read and offsets to read."""


class Replay:
    """Of one stream. deduplication: as the processor has it; None on the embedded log."""

    def __init__(
        self,
        settings: ProcessorSettings,
        *,
        bus: Bus,
        store: Store,
        stream: Stream,
        clock: Clock,
        deduplication: Deduplication | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._store = store
        self._stream = stream
        self._clock = clock
        self._deduplication = deduplication
        self._beside = stream.beside()

    async def survey(self, days: Collection[date] | None = None) -> list[Day]:
        """Which days can be built anew; changes nothing. days: None means all of which the log has something.

        Raises BusUnavailable, StoreUnavailable.
        """
        topic = await known_topic(self._bus, self._stream.topic)
        begins, ends, oldest = await self._extent(topic)
        today = day_of(self._clock.now_ns())
        if days is None:
            first = day_of(oldest) if oldest is not None else today
            days = [first + timedelta(days=i) for i in range((today - first).days + 1)]
        retention = await self._store.retention(self._stream)
        found = []
        for each in sorted(set(days)):
            live, foreign = await self._rows_of(topic, each)
            day = Day(each, live)
            start = day.number * DAY_NS
            entries = await self._bus.ledger(self._stream.topic, start=start, end=start + DAY_NS)
            in_flight = sum(entry.in_flight for entry in entries)
            expected = {e.key_id: Outcome(e.stored, e.dead_lettered, e.deduplicated) for e in entries}
            reason = ""
            if each >= today:
                reason = "the day is not over: rows still arrive"
            elif begins > start:
                reason = "the log no longer has all of it"
            elif in_flight or ends < start + DAY_NS:
                reason = "not all of it was stored yet: let the processor catch up"
            elif foreign:
                reason = f"{foreign} rows of it come from an earlier topic, which is gone"
            elif retention is not None and (today - each).days >= retention:
                reason = f"it is past the retention of {retention} days"
            elif not any(outcome.stored for outcome in expected.values()):
                reason = "nothing of it was stored"
            found.append(replace(day, expected=expected, reason=reason))
        return found

    async def run(self, days: Collection[date] | None = None, *, progress: Progress | None = None) -> list[Day]:
        """Build those of `days` that can be, and swap them in; what became of each.

        Raises Conflict: another replay is under way, or broke off (see `discard`); the stream is on a cluster.
        """
        if self._store.distributed:
            raise Conflict("replay works on one server's table; on a cluster, replay into a stream of its own")
        surveyed = await self.survey(days)
        wanted = [day for day in surveyed if not day.reason]
        if not wanted:
            return surveyed
        found = await self._store.query(
            "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": self._beside.database}
        )
        if found.rows[0][0]:
            raise Conflict(
                f"the database {self._beside.database} is there: another replay is under way, or one broke off"
            )
        retention = await self._store.retention(self._stream)
        await self._store.migrate(self._stream, retention_days=retention or MAX_RETENTION_DAYS)
        await self._store.migrate(self._beside, retention_days=retention or MAX_RETENTION_DAYS)
        try:
            counted = await self._build(wanted, progress)
            done = {day.day: await self._finish(day, counted) for day in wanted}
        finally:
            await self.discard()
        return [done.get(day.day, day) for day in surveyed]

    async def discard(self) -> None:
        """Throw away what a replay built beside the live table, such as one that broke off. Idempotent."""
        await self._store.command(f"DROP DATABASE IF EXISTS {self._beside.database} SYNC")

    # What the log covers

    async def _extent(self, topic: Topic) -> tuple[int, int, int | None]:
        """From when on it has everything, until when everything came to its end (ns), and its oldest record's time."""
        now = self._clock.now_ns()
        begins, ends = 0, now - LATE_NS
        oldest: int | None = None
        for partition in range(topic.partitions):
            offsets = await self._bus.offsets(topic.name, partition)
            first = await self._received_at(topic, partition, offsets.beginning)
            if first is not None:
                oldest = first if oldest is None else min(oldest, first)
            if offsets.beginning > 0:
                begins = max(begins, now if first is None else first + LATE_NS)
            position = (await self._bus.committed(topic.name, GROUP, partition)).offset
            waiting = await self._received_at(topic, partition, max(position, offsets.beginning))
            if waiting is not None:
                ends = min(ends, waiting - LATE_NS)
        return begins, ends, oldest

    async def _received_at(self, topic: Topic, partition: int, offset: int) -> int | None:
        """Of the first readable record from `offset` on; None when there is none."""
        while messages := await self._bus.read(topic.name, partition, offset, max_bytes=1):
            for message in messages:
                offset = message.offset + 1
                item = item_of(message)
                if item.header is not None:
                    return item.header.received_at
        return None

    async def _rows_of(self, topic: Topic, day: date) -> tuple[int, int]:
        """Rows in the live table, and those of other incarnations among them."""
        answer = await self._store.query(
            f"SELECT count(), countIf(incarnation != {{incarnation:UInt32}}) FROM {self._store.local(self._stream)}"  # noqa: S608
            " WHERE toDate(received_at) = {day:Date}",
            {"incarnation": topic.incarnation, "day": day},
            settings={"use_query_condition_cache": 0},
        )
        live, foreign = answer.rows[0]
        return int(live), int(foreign)

    # Building

    async def _build(self, wanted: Sequence[Day], progress: Progress | None) -> Mapping[date, Mapping[str, Outcome]]:
        """Fill the table beside; what was counted, by day and key."""
        topic = await known_topic(self._bus, self._stream.topic)
        numbers = {day.number: day.day for day in wanted}
        letters = await self._letters(topic, numbers)
        stop_at = (max(numbers) + 1) * DAY_NS + LATE_NS
        counts: dict[date, dict[str, Counter[str]]] = {day.day: {} for day in wanted}
        extents = {p: await self._bus.offsets(topic.name, p) for p in range(topic.partitions)}
        total, before = sum(o.end - o.beginning for o in extents.values()), 0
        for partition, offsets in extents.items():
            shelf = _Shelf(self._settings, self._store, self._beside, topic.incarnation, partition)
            window = await self._window(topic, partition, offsets.beginning)
            async for items in self._items(topic, partition, offsets.beginning, offsets.end, stop_at):
                dropped: frozenset[int] = frozenset()
                if window is not None:
                    decision = window.decide(items)
                    window.add(decision.claims)
                    dropped = decision.dropped
                for item in items:
                    if item.header is not None and item.day in numbers:
                        keys = counts[numbers[item.day]]
                        await shelf.put(
                            item, item.offset in dropped, letters.get((partition, item.offset), set()), keys
                        )
                if progress is not None:
                    progress(before + items[-1].offset + 1 - offsets.beginning, total)
            await shelf.flush()
            before += offsets.end - offsets.beginning
        return {
            day: {
                key: Outcome(count["stored"], count["dead_lettered"], count["deduplicated"])
                for key, count in keys.items()
            }
            for day, keys in counts.items()
        }

    async def _items(
        self, topic: Topic, partition: int, offset: int, end: int, stop_at: int
    ) -> AsyncIterator[Sequence[Item]]:
        """Records in order, until `end` or well past the time `stop_at`."""
        while offset < end:
            try:
                messages = await self._bus.read(topic.name, partition, offset, max_bytes=_READ_BYTES, wait=5.0)
            except OffsetOutOfRange as error:
                raise Conflict("the log lost records while it was read; begin again") from error
            if not messages:
                raise Conflict(f"the log ended at offset {offset} of partition {partition}; begin again")
            items = [item for message in messages if (item := item_of(message)).offset < end]
            if not items:
                return
            yield items
            offset = items[-1].offset + 1
            last = items[-1].header
            if last is not None and last.received_at > stop_at + LATE_NS:
                return

    async def _window(self, topic: Topic, partition: int, beginning: int) -> ClaimWindow | None:
        if self._deduplication is None:
            return None
        window = ClaimWindow(self._deduplication.window_seconds, self._settings.max_claims)
        first = await self._received_at(topic, partition, beginning)
        if first is not None and beginning:
            since = window.since(first)
            window.add(
                await self._deduplication.journal.claims(
                    topic, partition, since, before=beginning, limit=self._settings.max_claims
                )
            )
        return window

    async def _letters(self, topic: Topic, days: Collection[int]) -> dict[tuple[int, int], set[int]]:
        """Rows that became dead letters, by partition and offset; `_WHOLE` for a whole record."""
        name = self._stream.dead_letter_topic
        dead: dict[tuple[int, int], set[int]] = {}
        for partition in range((await known_topic(self._bus, name)).partitions):
            offsets = await self._bus.offsets(name, partition)
            offset = offsets.beginning
            while offset < offsets.end:
                # Not to know a letter would store its row again.
                messages = await read_known(self._bus, name, partition, offset, max_bytes=_READ_BYTES)
                for message in messages:
                    letter = look(message.value).letter
                    if letter is None or letter.incarnation != topic.incarnation:
                        continue
                    if letter.received_at // DAY_NS in days:
                        row = _WHOLE if letter.row is None else letter.row
                        dead.setdefault((letter.partition, letter.offset), set()).add(row)
                offset = messages[-1].offset + 1
        return dead

    # Proving and swapping

    async def _finish(self, day: Day, counted: Mapping[date, Mapping[str, Outcome]]) -> Day:
        """Swap `day` in when all counts agree."""
        built = {key: outcome for key, outcome in counted[day.day].items() if outcome != Outcome()}
        expected = {key: outcome for key, outcome in day.expected.items() if outcome != Outcome()}
        if self._deduplication is None:
            # The embedded log keeps repeats out: they are counted, but not there.
            expected = {key: replace(outcome, deduplicated=0) for key, outcome in expected.items()}
            expected = {key: outcome for key, outcome in expected.items() if outcome != Outcome()}
        answer = await self._store.query(
            f"SELECT key_id, count(), uniqExact{_IDENTITY} FROM {self._store.local(self._beside)}"  # noqa: S608
            " WHERE toDate(received_at) = {day:Date} GROUP BY key_id",
            {"day": day.day},
            settings={"use_query_condition_cache": 0},
        )
        rows = {key: count for key, count, _ in answer.rows}
        done = replace(day, rebuilt=sum(rows.values()))
        if built != expected:
            return replace(done, reason=f"built {_told(built)}, but the ledger counted {_told(expected)}")
        if rows != {key: outcome.stored for key, outcome in built.items() if outcome.stored}:
            return replace(done, reason="the table beside does not hold what was built: begin again")
        if any(count != distinct for _, count, distinct in answer.rows):
            return replace(done, reason="the table beside holds rows twice: begin again")
        [again] = await self.survey([day.day])
        if again.reason or again.expected != day.expected:
            return replace(done, reason=again.reason or "the ledger changed meanwhile: begin again")
        await self._store.command(
            f"ALTER TABLE {self._store.local(self._stream)} REPLACE PARTITION ID '{day.day:%Y%m%d}'"
            f" FROM {self._store.local(self._beside)}"
        )
        return replace(done, swapped=True)


def _told(outcomes: Mapping[str, Outcome]) -> str:
    stored = sum(outcome.stored for outcome in outcomes.values())
    dead = sum(outcome.dead_lettered for outcome in outcomes.values())
    dropped = sum(outcome.deduplicated for outcome in outcomes.values())
    return f"{stored} rows, {dead} dead letters and {dropped} repeats of {len(outcomes)} keys"


class _Shelf:
    """Rows of one partition on their way into the table beside; one INSERT never spans two days."""

    def __init__(
        self, settings: ProcessorSettings, store: Store, beside: Stream, incarnation: int, partition: int
    ) -> None:
        self._settings = settings
        self._store = store
        self._beside = beside
        self._incarnation = incarnation
        self._partition = partition
        self._parts: dict[int, list[bytes | memoryview]] = {}
        self._rows: Counter[int] = Counter()
        self._bytes = 0
        self._inserts = 0

    async def put(self, item: Item, is_repeat: bool, dead: Collection[int], keys: dict[str, Counter[str]]) -> None:
        """Rows of `item`, without those that are `dead`; counted in `keys`. Raises StoreUnavailable, Conflict."""
        assert item.header is not None
        is_lost = bool(item.reason) or _WHOLE in dead
        row = 0
        for segment in item.header.segments:
            count = keys.setdefault(segment.key_id, Counter())
            end = row + segment.rows
            lost = segment.rows if is_lost else sum(row <= each < end for each in dead)
            if is_repeat:
                count["deduplicated"] += segment.rows
            else:
                count["dead_lettered"] += lost
                count["stored"] += segment.rows - lost
            row = end
        if is_repeat or is_lost or not item.rows:
            return
        parts = self._parts.setdefault(item.day, [])
        before = len(parts)
        if not dead:
            parts += block.seal(item.payload, item.rows, provenance(item, self._incarnation, self._partition))
        else:
            parts += self._without(item, dead)
        self._rows[item.day] += item.rows - len(dead)
        self._bytes += sum(map(len, parts[before:]))
        if self._bytes >= self._settings.max_bytes or self._rows.total() >= self._settings.max_rows:
            await self.flush()

    def _without(self, item: Item, dead: Collection[int]) -> list[bytes | memoryview]:
        batch = block.decode(item.payload, item.rows)
        parts: list[bytes | memoryview] = []
        first = 0
        for end in (*sorted(dead), item.rows):
            if end > first:
                source = provenance(item, self._incarnation, self._partition, first, end - 1)
                parts += block.seal(block.encode(part(batch, first, end - 1)), end - first, source)
            first = end + 1
        return parts

    async def flush(self) -> None:
        """Store what is held."""
        for day, parts in self._parts.items():
            if not self._rows[day]:
                continue
            self._inserts += 1
            token = f"replay:{self._incarnation}:{self._partition}:{day}:{self._inserts}"
            await self._insert(parts, self._rows[day], token)
        self._parts.clear()
        self._rows.clear()
        self._bytes = 0

    async def _insert(self, parts: Sequence[bytes | memoryview], rows: int, token: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._store.insert(self._beside, parts, rows=rows, token=token, partition=self._partition)
                return
            except StoreUnavailable:
                # The token keeps out a repeat of what was stored after all.
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(min(5.0, 0.2 * 2**attempt))
            except LogStreamError as error:
                raise Conflict(
                    f"ClickHouse refuses rows that were stored before, and that are no dead letters: {error.message}. "
                    "Nothing was changed"
                ) from error


def parse_days(text: str) -> list[date]:
    """ "2026-11-20", "2026-11-20..2026-11-22", several joined by commas. Raises ValueError."""
    days: list[date] = []
    for piece in filter(None, (each.strip() for each in text.split(","))):
        first, _, last = piece.partition("..")
        begin = datetime.strptime(first, "%Y-%m-%d").replace(tzinfo=UTC).date()
        end = datetime.strptime(last or first, "%Y-%m-%d").replace(tzinfo=UTC).date()
        if end < begin:
            raise ValueError(f"{piece} ends before it begins")
        days += [begin + timedelta(days=i) for i in range((end - begin).days + 1)]
    if not days:
        raise ValueError("no day is named")
    return days
