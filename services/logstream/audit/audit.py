"""Reads topic, table and dead letters of one stream, and says where they and the ledger disagree.

It works on a live installation: what is settled when it begins is held against the table, what waits is counted as
in flight, and the ledger is asked for minutes that are over. Memory: one chunk of records, one entry a dead letter.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from logstream.audit.expect import Expectations, Held, Problem, Sums, rows_by_key
from logstream.bus.header import Header, MalformedRecord, decode_block
from logstream.bus.known import known_topic, read_known
from logstream.bus.protocol import Bus, LedgerEntry, Message, Topic
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import NotFound, OffsetOutOfRange
from logstream.letters.format import Share, look
from logstream.settings import MIB
from logstream.storage.schema import TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

GROUP = "processor"
MAX_PROBLEMS = 100
"""Named one by one; the others are counted."""
SETTLE_SECONDS = 90.0
"""Minutes that ended so long ago get no further records: a publish takes seconds, and clocks differ by few."""
_SETTLE = int(SETTLE_SECONDS * NS_PER_SECOND)
_MINUTE = 60 * NS_PER_SECOND
_DAY = 86_400 * NS_PER_SECOND
_SLACK = 600 * NS_PER_SECOND
_CHUNK_RECORDS = 10_000
_READ_BYTES = 8 * MIB
_LOOK_AGAIN = (1.0, 3.0, 6.0)
"""Seconds before a missing row is looked for again: a replica may lag."""

Progress = Callable[[int, int], None]
"""Records looked at, and how many there are."""


@dataclass(slots=True)
class Report:
    """What was counted. start, end: ns; records received in between are held against the ledger (end None: that was
    not possible yet). complete: every record since the topic was made is still there.
    """

    stream: str
    partitions: int
    complete: bool
    start: int | None
    end: int
    records: int = 0
    accepted: int = 0
    stored: int = 0
    deduplicated: int = 0
    dead_lettered: int = 0
    in_flight: int = 0
    expired: int = 0
    letters_gone: int = 0
    problems: list[Problem] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    stray: int = 0
    ledger: int = 0
    """Rows by which counters of the ledger are wrong, added up."""

    @property
    def balanced(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.stray or self.ledger)

    def take(self, problems: Sequence[Problem]) -> None:
        """Count `problems`; the first ones are kept."""
        for problem in problems:
            setattr(self, problem.kind, getattr(self, problem.kind) + problem.rows)
            if len(self.problems) < MAX_PROBLEMS:
                self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class _Letters:
    """Dead letters of one partition of the log, of its present life.

    rows: by offset, the numbers of rows and whose they are; None for a number is a letter of the whole record.
    gone_before: ns, letters that died earlier may be gone.
    """

    rows: dict[int, dict[int | None, Share]]
    gone_before: int


class Auditor:
    """One stream. idempotency_seconds: how long an Idempotency-Key is remembered, where the processor drops repeats."""

    def __init__(self, bus: Bus, store: Store, clock: Clock, *, idempotency_seconds: float = 3600.0) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._window_ns = int(idempotency_seconds * NS_PER_SECOND)

    async def audit(self, stream: Stream, *, retention_days: int, progress: Progress | None = None) -> Report:
        """Count everything. Raises BusUnavailable, StoreUnavailable."""
        topic = await known_topic(self._bus, stream.topic)
        bounds = [await self._bus.offsets(stream.topic, partition) for partition in range(topic.partitions)]
        settled = [await self._settled(topic, partition) for partition in range(topic.partitions)]
        total = sum(max(0, bound.end - bound.beginning) for bound in bounds)
        report = Report(
            stream.name, topic.partitions, all(bound.beginning == 0 for bound in bounds), None,
            (self._clock.now_ns() - _SETTLE) // _MINUTE * _MINUTE,
        )  # fmt: skip
        counted: dict[int, Sums] = {}
        oldest = 0
        for partition, bound in enumerate(bounds):
            letters = await self._letters(stream, topic, partition)
            expectations = Expectations(partition, window_ns=self._window_ns, first_offset=bound.beginning)
            at = bound.beginning
            if at:
                oldest = max(oldest, await self._newest_gone(stream, topic, partition, at))
            while at < bound.end:
                chunk = await self._chunk(stream.topic, partition, at, bound.end)
                beginning = (await self._bus.offsets(stream.topic, partition)).beginning
                if beginning > at and (not chunk or chunk[0].offset > at):
                    # Retention went on meanwhile.
                    report.complete = False
                    oldest = max(oldest, await self._newest_gone(stream, topic, partition, beginning))
                    expectations.lose_before(beginning)
                if not chunk:
                    break
                if chunk[0].offset == expectations.first_offset > 0:
                    oldest = max(oldest, _received(chunk))
                await self._compare(
                    stream, topic, expectations, letters, chunk, settled[partition], retention_days, report, counted
                )
                at = chunk[-1].offset + 1
                report.records += len(chunk)
                if progress is not None:
                    progress(report.records, total)
            await self._strays(stream, topic, partition, bound.end, expectations)
            report.take(expectations.problems)
            report.expired += expectations.expired
            report.letters_gone += expectations.unknown_letters
        # Of the time about the oldest records some may be gone: clocks differ.
        report.start = None if report.complete else ((oldest + _SETTLE) // _MINUTE + 1) * _MINUTE
        await self._ledger(stream, report, counted)
        return report

    async def _settled(self, topic: Topic, partition: int) -> int:
        """All before this offset came to its end."""
        position = await self._bus.committed(topic.name, GROUP, partition)
        return position.offset

    # Reading

    async def _chunk(self, topic: str, partition: int, at: int, end: int) -> list[Message]:
        chunk: list[Message] = []
        size = 0
        while at < end and len(chunk) < _CHUNK_RECORDS and size < 4 * _READ_BYTES:
            try:
                messages = await read_known(self._bus, topic, partition, at, max_bytes=_READ_BYTES)
            except OffsetOutOfRange as error:
                if error.beginning <= at:
                    raise
                if chunk:
                    # A hole is only at the beginning of a chunk.
                    break
                at = error.beginning
                continue
            messages = [message for message in messages if message.offset < end]
            if not messages:
                break
            chunk += messages
            size += sum(len(m.value) for m in messages)
            at = messages[-1].offset + 1
        return chunk

    async def _letters(self, stream: Stream, topic: Topic, partition: int) -> _Letters:
        rows: dict[int, dict[int | None, Share]] = {}
        name = stream.dead_letter_topic
        try:
            bound = await self._bus.offsets(name, partition)
        except NotFound:
            return _Letters(rows, 0)
        at, oldest, trimmed = bound.beginning, None, bound.beginning > 0
        while at < bound.end:
            try:
                messages = await read_known(self._bus, name, partition, at, max_bytes=_READ_BYTES)
            except OffsetOutOfRange as error:
                at, trimmed = max(at + 1, error.beginning), True
                # What died before the first one that is left may be gone.
                oldest = None
                continue
            for message in messages:
                seen = look(message.value)
                letter = seen.letter
                if letter is None:
                    continue
                oldest = letter.died_at if oldest is None else oldest
                if (letter.incarnation, letter.partition) == (topic.incarnation, partition):
                    rows.setdefault(letter.offset, {})[letter.row] = seen.share
            at = messages[-1].offset + 1
            await asyncio.sleep(0)
        gone = 0 if not trimmed else (self._clock.now_ns() if oldest is None else oldest)
        return _Letters(rows, gone)

    async def _newest_gone(self, stream: Stream, topic: Topic, partition: int, beginning: int) -> int:
        """When the newest of the records was received that were before the log's `beginning`, as far as rows tell."""
        answer = await self._store.query(
            f"SELECT toUnixTimestamp64Nano(max(received_at)) FROM {stream.database}.{TABLE} "  # noqa: S608
            "WHERE incarnation = {incarnation:UInt32} AND partition = {partition:UInt16} AND offset < {end:UInt64}",
            {"incarnation": topic.incarnation, "partition": partition, "end": beginning},
            settings={"use_query_condition_cache": 0, "max_execution_time": 600},
        )
        return int(answer.rows[0][0])

    # Comparing

    async def _compare(  # noqa: PLR0917
        self, stream: Stream, topic: Topic, expectations: Expectations, letters: _Letters, chunk: Sequence[Message],
        settled: int, retention_days: int, report: Report, counted: dict[int, Sums],
    ) -> None:  # fmt: skip
        partition = expectations.partition
        headers = [_header(message.value) for message in chunk]
        offsets = [message.offset for message in chunk if message.offset < settled]
        stored = await self._stored(stream, topic, partition, offsets)
        wanted = {
            message.offset: header.rows
            for message, header in zip(chunk, headers, strict=True)
            if message.offset < settled and header is not None
        }
        for pause in _LOOK_AGAIN:
            late = [
                offset
                for offset, rows in wanted.items()
                if stored.get(offset, (0, 0))[1] + len(letters.rows.get(offset, ())) < rows
            ]
            # Repeats are missing for good, and are looked for once more only.
            if not late or not self._store.distributed:
                break
            await asyncio.sleep(pause)
            stored |= await self._stored(stream, topic, partition, late)
        kept_ns = retention_days * _DAY
        now = self._clock.now_ns()
        for message, header in zip(chunk, headers, strict=True):
            if not message.value:
                # It may stand for offsets that have no record, and holds no rows.
                continue
            by_key = {} if header is None else rows_by_key(header)
            minute = 0 if header is None else header.received_at // _MINUTE
            sums = counted.setdefault(minute, Sums())
            report.accepted += sum(by_key.values())
            sums.accepted.update(by_key)
            if message.offset >= settled:
                report.in_flight += sum(by_key.values())
                sums.in_flight.update(by_key)
                continue
            rows, distinct = stored.get(message.offset, (0, 0))
            dead = letters.rows.get(message.offset, {})
            held = Held(rows, distinct, len(dead.keys() - {None}), whole=None in dead)
            repeats = expectations.check(
                message.offset,
                header,
                held,
                # A row is kept at least as long after it was received.
                expired=header is not None and now - header.received_at > kept_ns - _SLACK,
                letters_gone=header is None or header.received_at < letters.gone_before,
            )
            report.stored += distinct
            if repeats:
                report.deduplicated += sum(by_key.values())
                sums.deduplicated.update(by_key)
            for share in dead.values():
                report.dead_lettered += sum(count for _, count in share)
                sums.dead_lettered.update(dict(share))

    async def _stored(
        self, stream: Stream, topic: Topic, partition: int, offsets: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        """By offset: rows, and how many different ones."""
        if not offsets:
            return {}
        answer = await self._store.query(
            f"SELECT offset, count(), uniqExact(row) FROM {stream.database}.{TABLE} "  # noqa: S608
            "WHERE incarnation = {incarnation:UInt32} AND partition = {partition:UInt16} "
            "AND offset BETWEEN {first:UInt64} AND {last:UInt64} GROUP BY offset",
            {"incarnation": topic.incarnation, "partition": partition, "first": offsets[0], "last": offsets[-1]},
            settings={"use_query_condition_cache": 0, "max_execution_time": 600},
        )
        return {offset: (rows, distinct) for offset, rows, distinct in answer.rows}

    async def _strays(self, stream: Stream, topic: Topic, partition: int, end: int, expectations: Expectations) -> None:
        """Rows of records that are not there yet: the topic ended at `end` before, so only what came since may be."""
        later = await self._bus.offsets(topic.name, partition)
        answer = await self._store.query(
            f"SELECT offset, count() FROM {stream.database}.{TABLE} WHERE incarnation = {{incarnation:UInt32}} "  # noqa: S608
            "AND partition = {partition:UInt16} AND offset >= {end:UInt64} GROUP BY offset LIMIT 1000",
            {"incarnation": topic.incarnation, "partition": partition, "end": max(end, later.end)},
            settings={"use_query_condition_cache": 0},
        )
        if not answer.rows:
            return
        newest = await self._bus.offsets(topic.name, partition)
        for offset, rows in answer.rows:
            if offset >= newest.end:
                expectations.problems.append(
                    Problem("stray", rows, partition, offset, "rows of a record that the log does not have")
                )

    async def _ledger(self, stream: Stream, report: Report, counted: dict[int, Sums]) -> None:
        """The ledger's counters against what was counted, for minutes that are over."""
        for entry in await self._bus.ledger(stream.topic):
            self._sum(report, entry, "since the topic was made")
        if report.start is not None and report.start >= report.end:
            return
        entries = {
            entry.key_id: entry for entry in await self._bus.ledger(stream.topic, start=report.start, end=report.end)
        }
        sums = Sums()
        for minute, one in counted.items():
            if minute * _MINUTE < report.end and (report.start is None or minute * _MINUTE >= report.start):
                sums.add(one)
        for key_id in sorted(entries.keys() | sums.accepted.keys()):
            entry = entries.get(key_id, LedgerEntry(key_id, 0, 0, 0, 0, 0))
            self._sum(report, entry, "of the minutes that are over")
            self._terms(report, entry, sums)
            # The embedded log counts repeats and keeps none, Kafka keeps them.
            kept = sums.accepted[key_id] - sums.deduplicated[key_id]
            # What was in flight may have turned out to be a repeat meanwhile.
            if not 0 <= kept - (entry.accepted - entry.deduplicated) <= sums.in_flight[key_id]:
                self._wrong(
                    report, key_id,
                    f"accepted {entry.accepted} - deduplicated {entry.deduplicated}, and the log has {kept} rows",
                    entry.accepted - entry.deduplicated - kept,
                )  # fmt: skip

    def _sum(self, report: Report, entry: LedgerEntry, when: str) -> None:
        ends = entry.stored + entry.deduplicated + entry.dead_lettered + entry.in_flight
        if entry.accepted != ends:
            self._wrong(
                report, entry.key_id, f"accepted {when} is not the sum of the other terms", entry.accepted - ends
            )

    def _terms(self, report: Report, entry: LedgerEntry, sums: Sums) -> None:
        """Once all of a key's rows came to their end, each term is as it was counted."""
        key_id = entry.key_id
        if entry.in_flight or sums.in_flight[key_id]:
            return
        dead = sums.dead_lettered[key_id]
        stored = sums.accepted[key_id] - sums.deduplicated[key_id] - dead
        for term, value, counted in (("stored", entry.stored, stored), ("dead-lettered", entry.dead_lettered, dead)):
            if value != counted and not report.letters_gone:
                self._wrong(report, key_id, f"{term} is {value}, and {counted} were counted", value - counted)

    @staticmethod
    def _wrong(report: Report, key_id: str, detail: str, difference: int) -> None:
        report.take([Problem("ledger", abs(difference), -1, -1, f"key {key_id}: {detail}")])


def _header(value: bytes) -> Header | None:
    try:
        return decode_block(value)[0]
    except MalformedRecord:
        return None


def _received(chunk: Sequence[Message]) -> int:
    """When the first record that says so was received."""
    return next((header.received_at for message in chunk if (header := _header(message.value)) is not None), 0)
