"""Sending letters again exactly once, and discarding them. The protocol and its proof: docs/deadletters.md.

A replay is three steps: a `replaying` disposition, the row on the main topic under a claim made of the letter's
identity, a `replayed` disposition. The first tells everybody that the row may be on its way, and of two that come at
the same moment only one counts; the last one tells that it is there. What a crash leaves between them is finished, not
begun again: within `CLAIM_SECONDS` by publishing under the same claim, which does nothing when it was done before;
later by looking for the claim in the main topic; and when that no longer has the time in question, not at all, unless
the caller forces it.
"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from logstream import metrics
from logstream.bus import header
from logstream.bus.header import Header, MalformedRecord
from logstream.bus.known import read_known
from logstream.bus.protocol import Claim, Message, Published
from logstream.clock import NS_PER_SECOND
from logstream.errors import BusUnavailable, InvalidValue, LogStreamError, OffsetOutOfRange, Unavailable
from logstream.letters.box import Found, LetterBox
from logstream.letters.edit import Changes, Material, Unreplayable, material
from logstream.letters.format import MAX_LETTERS, Disposition, LetterId, claim_of, look
from logstream.letters.index import State
from logstream.logs import get_logger
from logstream.record import Record
from logstream.settings import MIB, IngestLimits

LEASE_SECONDS = 30.0
"""A replay publishes nothing later than this after its `replaying`, and is left alone as long."""
CLAIM_SECONDS = 540.0
"""A bus remembers claims for ten minutes at least; a minute is left for clocks and slow answers."""
LATEST_SECONDS = CLAIM_SECONDS + LEASE_SECONDS + 60.0
"""Nothing of a replay is sent later than this after its `replaying`: whoever finishes one at the last moment has its
lease, and clocks may differ by a minute."""
_SKEW_SECONDS = 3_600.0
_SURELY_LATER = 1_000
_AT_ONCE = 64
_SCAN_BYTES = 8 * MIB
_CHUNK_BYTES = 16 * MIB
"""Of letters held for one disposition."""

_log = get_logger("letters")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one letter.

    outcome: replayed, discarded; already_replayed, already_discarded, expired, missing (nothing was done);
    busy (somebody replays it now); unreplayable, invalid (the changes do not fit it); unknown (whether an earlier
    replay arrived cannot be told: force); failed (the log did not take it; try again).
    offset: of the row on the main topic.
    """

    id: LetterId
    outcome: str
    detail: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """by: who wants it. changes: for all letters. force: also where it may double a row. retained_from: seconds;
    letters that died earlier have expired."""

    by: str
    changes: Changes = field(default_factory=Changes)
    force: bool = False
    retained_from: int = 0


class Replayer:
    """Works on the letters of one box. Safe for concurrent calls, here and in other processes."""

    def __init__(self, box: LetterBox, limits: IngestLimits, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._box = box
        self._limits = limits
        self._lease_ns = int(lease_seconds * NS_PER_SECOND)

    # For callers

    async def preview(self, ids: Sequence[LetterId], operation: Operation) -> list[tuple[Result, Record | None]]:
        """What `replay` would do with each letter, and the first row it would send, of as many as memory shall hold.
        Changes nothing."""
        await self._box.fresh()
        answers: list[tuple[Result, Record | None]] = []
        size = 0
        for partition, offsets in self._chunks(ids):
            messages = await self._box.messages(partition, sorted(offsets))
            for offset in offsets:
                letter = LetterId(partition, offset)
                refusal, found = self._look(letter, messages.get(offset), operation)
                if refusal is not None or found is None:
                    answers.append((refusal or Result(letter, "missing"), None))
                    continue
                made = self._material(found, operation.changes)
                if isinstance(made, Result):
                    answers.append((made, None))
                else:
                    size += len(made.payload)
                    answers.append((Result(letter, "replayed"), made.preview if size < _CHUNK_BYTES else None))
        return answers

    async def replay(self, ids: Sequence[LetterId], operation: Operation) -> list[Result]:
        """Send the letters through the pipeline again.

        Raises Unavailable when nothing is known to have been done; else each letter has its own outcome.
        """
        await self._box.fresh()
        results: list[Result] = []
        partitions: set[int] = set()
        for partition, offsets in self._chunks(ids):
            try:
                results += await self._replay_chunk(partition, offsets, operation)
                partitions.add(partition)
            except Unavailable as error:
                if not results:
                    raise
                done = {result.id for result in results}
                rest = [LetterId(partition, offset) for offset in offsets]
                results += [Result(x, "failed", error.message) for x in rest if x not in done]
        await self._tally(partitions)
        return results

    async def would_discard(self, ids: Sequence[LetterId], operation: Operation) -> list[Result]:
        """What `discard` would do. Changes nothing."""
        await self._box.fresh()
        return [self._undiscardable(letter, operation) or Result(letter, "discarded") for letter in dict.fromkeys(ids)]

    async def discard(self, ids: Sequence[LetterId], operation: Operation) -> list[Result]:
        """Settle letters that nobody wants; they stay to be seen until their retention ends."""
        await self._box.fresh()
        results: list[Result] = []
        partitions: set[int] = set()
        for partition, offsets in self._chunks(ids):
            taken: list[int] = []
            for offset in offsets:
                refusal = self._undiscardable(LetterId(partition, offset), operation)
                if refusal is not None:
                    results.append(refusal)
                else:
                    taken.append(offset)
            if taken:
                results += await self._discard_chunk(partition, taken, operation)
                partitions.add(partition)
        await self._tally(partitions)
        return results

    async def recover(self) -> int:
        """Finish what was left unfinished, where that is safe; how many letters are still unfinished."""
        box = self._box
        await box.fresh()
        for partition, part in enumerate(box.parts):
            offsets = part.unfinished()
            for start in range(0, len(offsets), _AT_ONCE):
                await self._finish(partition, offsets[start : start + _AT_ONCE], Operation("recovery"))
        await box.fresh()
        return sum(len(part.unfinished()) for part in box.parts)

    def _chunks(self, ids: Sequence[LetterId]) -> Iterator[tuple[int, list[int]]]:
        """(partition, offsets) as one disposition takes them, each letter once; no more than memory shall hold."""
        by_partition: dict[int, list[int]] = {}
        for letter in dict.fromkeys(ids):
            by_partition.setdefault(letter.partition, []).append(letter.offset)
        for partition, offsets in by_partition.items():
            chunk: list[int] = []
            size = 0
            for offset in offsets:
                chunk.append(offset)
                size += self._box.size(LetterId(partition, offset))
                if len(chunk) == MAX_LETTERS or size >= _CHUNK_BYTES:
                    yield partition, chunk
                    chunk, size = [], 0
            if chunk:
                yield partition, chunk

    # Looking at a letter

    def _refusal(self, letter: LetterId, operation: Operation) -> Result | None:
        """Why nothing is to be done with a letter that is known or not; None when something is."""
        known = self._box.known(letter)
        if known is None:
            return Result(letter, "missing", "there is no such letter, or its retention has ended")
        part, at = known
        state = part.state(at)
        if state is State.REPLAYED:
            return Result(letter, "already_replayed", "it was replayed before")
        if state is State.DISCARDED:
            return Result(letter, "already_discarded", "it was discarded before")
        if state is State.WAITING and part.died(at) < operation.retained_from:
            return Result(letter, "expired", "its retention has ended")
        return None

    def _undiscardable(self, letter: LetterId, operation: Operation) -> Result | None:
        refusal = self._refusal(letter, operation)
        if refusal is None and self._state(letter.partition, letter.offset) is State.REPLAYING and not operation.force:
            text = "a replay of it is not finished and may have sent it: replay it to finish that, or force"
            return Result(letter, "unknown", text)
        return refusal

    def _look(
        self, letter: LetterId, message: Message | None, operation: Operation
    ) -> tuple[Result | None, Found | None]:
        refusal = self._refusal(letter, operation)
        if refusal is not None:
            return refusal, None
        found = None if message is None else self._box.found(message)
        if found is None:
            return Result(letter, "missing", "it cannot be read any more"), None
        return None, found

    def _material(self, found: Found, changes: Changes) -> Material | Result:
        try:
            return material(found.fields, found.message.value, changes, self._limits)
        except Unreplayable as error:
            return Result(found.id, "unreplayable", error.message)
        except InvalidValue as error:
            return Result(found.id, "invalid", error.message)

    # Replaying

    async def _replay_chunk(self, partition: int, offsets: Sequence[int], operation: Operation) -> list[Result]:
        unfinished = [x for x in offsets if self._state(partition, x) is State.REPLAYING]
        settled: dict[int, Result] = {}
        if unfinished:
            settled = await self._finish(partition, unfinished, operation)
        begin = [offset for offset in offsets if offset not in settled]
        results = list(settled.values())
        ready: dict[int, tuple[Found, Material]] = {}
        messages = await self._box.messages(partition, sorted(begin))
        for offset in begin:
            refusal, found = self._look(LetterId(partition, offset), messages.get(offset), operation)
            if refusal is not None or found is None:
                results.append(refusal or Result(LetterId(partition, offset), "missing"))
                continue
            made = self._material(found, operation.changes)
            if isinstance(made, Result):
                results.append(made)
            else:
                ready[offset] = (found, made)
        return results + await self._begin(partition, ready, operation) if ready else results

    def _state(self, partition: int, offset: int) -> State | None:
        known = self._box.known(LetterId(partition, offset))
        return None if known is None else known[0].state(known[1])

    async def _begin(
        self, partition: int, ready: dict[int, tuple[Found, Material]], operation: Operation
    ) -> list[Result]:
        """All three steps, for letters that wait (or whose unfinished replay is known not to have arrived)."""
        box = self._box
        part = box.parts[partition]
        at = box.clock.now_ns()
        claimed = Disposition(
            action="replaying", op=secrets.token_hex(16), by=operation.by, at=at,
            letters=tuple((x, part.latest(n)) for x in ready if (n := part.find(x)) is not None),
            changes=operation.changes.dump(), incarnation=box.main.incarnation,
            after=(await box.bus.offsets(box.stream.topic, self._target(partition))).end,
        )  # fmt: skip
        place = await box.write(partition, claimed)
        await box.fresh()
        # Whose disposition counts is read back: the topic's order decided.
        ours = [x for x in ready if (n := part.find(x)) is not None and part.latest(n) == place]
        results = [self._lost(LetterId(partition, x)) for x in ready if x not in set(ours)]
        sent = await self._send(partition, {x: ready[x] for x in ours}, claimed)
        return results + await self._finished(partition, sent, claimed)

    def _lost(self, letter: LetterId) -> Result:
        known = self._refusal(letter, Operation(""))
        return known or Result(letter, "busy", "somebody else replays it at this moment")

    def _target(self, partition: int) -> int:
        return partition % self._box.main.partitions

    async def _send(
        self, partition: int, ready: dict[int, tuple[Found, Material]], claimed: Disposition
    ) -> dict[int, Published | LogStreamError]:
        """Publish the rows, each under its claim."""
        box = self._box
        turns = asyncio.Semaphore(_AT_ONCE)
        deadline = claimed.at + self._lease_ns

        async def one(found: Found, made: Material) -> Published | LogStreamError:
            claim = claim_of(box.stream, found.fields, claimed.changes)
            async with turns:
                now = box.clock.now_ns()
                if now > deadline:
                    return Unavailable("it took too long; what is unfinished is finished by the next attempt")
                head = Header(
                    made.rows, now, made.min_timestamp, made.max_timestamp, made.segments, claim.key,
                    fingerprint=claim.fingerprint,
                )  # fmt: skip
                try:
                    return await box.bus.publish(
                        box.stream.topic, head, made.payload, claim=claim, partition=self._target(partition)
                    )
                except LogStreamError as error:
                    return error

        answers = await asyncio.gather(*(one(found, made) for found, made in ready.values()))
        return dict(zip(ready, answers, strict=True))

    async def _finished(
        self, partition: int, sent: dict[int, Published | LogStreamError], claimed: Disposition
    ) -> list[Result]:
        """Write down which rows are on the main topic."""
        arrived = {offset: answer.offset for offset, answer in sent.items() if isinstance(answer, Published)}
        await self._arrived(partition, arrived, claimed)
        results = []
        for offset, answer in sent.items():
            letter = LetterId(partition, offset)
            if isinstance(answer, Published):
                results.append(Result(letter, "replayed", offset=answer.offset))
            else:
                results.append(Result(letter, "failed", answer.message))
        return results

    async def _arrived(self, partition: int, arrived: dict[int, int], claimed: Disposition) -> None:
        if not arrived:
            return
        box = self._box
        await box.write(
            partition,
            Disposition(
                action="replayed", op=claimed.op, by=claimed.by, at=box.clock.now_ns(),
                letters=tuple(arrived.items()), incarnation=claimed.incarnation,
            ),
        )  # fmt: skip
        metrics.LETTERS_REPLAYED.labels(box.stream.name).inc(len(arrived))

    # Finishing what others began

    async def _finish(self, partition: int, offsets: Sequence[int], operation: Operation) -> dict[int, Result]:
        """Outcomes of letters whose replay was begun. Without one: it is known not to have arrived, or forced."""
        box = self._box
        part = box.parts[partition]
        results: dict[int, Result] = {}
        begun: dict[int, list[int]] = {}
        for offset in offsets:
            at = part.find(offset)
            if at is not None and part.state(at) is State.REPLAYING:
                begun.setdefault(part.latest(at), []).append(offset)
        for place, letters in begun.items():
            record = await box.message(partition, place)
            claimed = None if record is None else look(record.value).disposition
            if claimed is None:
                results |= self._doubtful(partition, letters, operation, "the record of it is gone")
                continue
            results |= await self._finish_one(partition, letters, claimed, operation)
        return results

    async def _finish_one(
        self, partition: int, letters: Sequence[int], claimed: Disposition, operation: Operation
    ) -> dict[int, Result]:
        box = self._box
        age = box.clock.now_ns() - claimed.at
        if age <= self._lease_ns:
            wait = (self._lease_ns - age) / NS_PER_SECOND
            text = f"{claimed.by or 'somebody'} replays it now; an unfinished replay can be finished in {wait:.0f} s"
            return {x: Result(LetterId(partition, x), "busy", text) for x in letters}
        if claimed.incarnation != box.main.incarnation:
            return self._doubtful(partition, letters, operation, "the topic was made anew since")
        late = LATEST_SECONDS * NS_PER_SECOND
        if CLAIM_SECONDS * NS_PER_SECOND <= age < late:
            text = f"an earlier replay of it may be arriving; ask again in {(late - age) / NS_PER_SECOND:.0f} s"
            return {x: Result(LetterId(partition, x), "busy", text) for x in letters}
        ready, results = await self._again(partition, letters, claimed, operation)
        if age < CLAIM_SECONDS * NS_PER_SECOND:
            # The same claim: nothing happens when the row is there already.
            renewed = Disposition(
                action="replaying", op=claimed.op, by=claimed.by, at=box.clock.now_ns(), changes=claimed.changes,
                incarnation=claimed.incarnation, after=claimed.after,
            )  # fmt: skip
            sent = await self._send(partition, ready, renewed)
            results |= {result.id.offset: result for result in await self._finished(partition, sent, renewed)}
            return results
        claims = {claim_of(box.stream, found.fields, claimed.changes): x for x, (found, _) in ready.items()}
        arrived = await self._search(partition, claims, claimed)
        if arrived is None:
            return results | self._doubtful(partition, list(ready), operation, "the topic has not kept that time")
        await self._arrived(partition, arrived, claimed)
        await box.fresh()
        for x, offset in arrived.items():
            results[x] = Result(LetterId(partition, x), "already_replayed", "an earlier replay had arrived", offset)
        return results

    async def _again(
        self, partition: int, letters: Sequence[int], claimed: Disposition, operation: Operation
    ) -> tuple[dict[int, tuple[Found, Material]], dict[int, Result]]:
        """What an unfinished replay sent or was to send: with its own changes."""
        results: dict[int, Result] = {}
        ready: dict[int, tuple[Found, Material]] = {}
        try:
            changes = Changes.load(claimed.changes)
        except MalformedRecord as error:
            return {}, self._doubtful(partition, letters, operation, error.message)
        messages = await self._box.messages(partition, sorted(letters))
        for offset in letters:
            refusal, found = self._look(LetterId(partition, offset), messages.get(offset), operation)
            if refusal is not None or found is None:
                results[offset] = refusal or Result(LetterId(partition, offset), "missing")
                continue
            made = self._material(found, changes)
            if isinstance(made, Result):
                results[offset] = made
            else:
                ready[offset] = (found, made)
        return ready, results

    async def _search(self, partition: int, claims: dict[Claim, int], claimed: Disposition) -> dict[int, int] | None:
        """Which claims the main topic has: letter → offset. None when it no longer has the time in question.

        Looks from the end that the topic had before the replay up to what arrived surely later: collectors' clocks may
        be an hour ahead.
        """
        box = self._box
        target = self._target(partition)
        keys = {claim.key: letter for claim, letter in claims.items()}
        arrived: dict[int, int] = {}
        at, end = claimed.after, (await box.bus.offsets(box.stream.topic, target)).end
        latest = claimed.at + int((LATEST_SECONDS + _SKEW_SECONDS) * NS_PER_SECOND)
        later = 0
        while at < end and len(arrived) < len(keys) and later < _SURELY_LATER:
            try:
                messages = await read_known(box.bus, box.stream.topic, target, at, max_bytes=_SCAN_BYTES)
            except OffsetOutOfRange:
                return None
            for message in messages:
                try:
                    head, _ = header.decode(message.value)
                except MalformedRecord:
                    continue
                later = later + 1 if head.received_at > latest else 0
                letter = keys.get(head.idempotency_key)
                if letter is not None:
                    arrived.setdefault(letter, message.offset)
            at = messages[-1].offset + 1
            await asyncio.sleep(0)
        return arrived

    def _doubtful(self, partition: int, letters: Sequence[int], operation: Operation, why: str) -> dict[int, Result]:
        if operation.force:
            return {}
        text = f"whether an earlier replay of it arrived cannot be told ({why}); force to send it, perhaps once more"
        return {x: Result(LetterId(partition, x), "unknown", text) for x in letters}

    # Discarding

    async def _discard_chunk(self, partition: int, offsets: Sequence[int], operation: Operation) -> list[Result]:
        box = self._box
        part = box.parts[partition]
        place = await box.write(
            partition,
            Disposition(
                action="discarded", op=secrets.token_hex(16), by=operation.by, at=box.clock.now_ns(),
                letters=tuple((x, part.latest(n)) for x in offsets if (n := part.find(x)) is not None),
            ),
        )  # fmt: skip
        await box.fresh()
        results = []
        for offset in offsets:
            at = part.find(offset)
            if at is not None and part.latest(at) == place:
                results.append(Result(LetterId(partition, offset), "discarded"))
            else:
                results.append(self._lost(LetterId(partition, offset)))
        done = sum(result.outcome == "discarded" for result in results)
        metrics.LETTERS_DISCARDED.labels(box.stream.name).inc(done)
        return results

    async def _tally(self, partitions: set[int]) -> None:
        if not partitions:
            return
        try:
            await self._box.tally(sorted(partitions))
        except (BusUnavailable, Unavailable) as error:
            _log.warning("tally_failed", stream=self._box.stream.name, error=error.message)
