"""The letters of one stream: follows the dead-letter topic and answers from what it read."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from logstream.bus.header import MalformedRecord
from logstream.bus.known import known_topic, read_known
from logstream.bus.protocol import Bus, Message, Offsets, Topic
from logstream.clock import Clock
from logstream.errors import NotFound, OffsetOutOfRange, Unavailable
from logstream.letters.format import Disposition, Fields, LetterId, encode, fields_of, look
from logstream.letters.index import PartitionIndex, State
from logstream.logs import get_logger
from logstream.settings import MIB
from logstream.stream import Stream

_READ_BYTES = MIB
READ_SECONDS = 10.0
"""For a letter that is there: on Kafka it may still be on its way. Then it is not known what it says."""
_TOPIC_SECONDS = 30.0
_READY_SECONDS = 10.0
_MAX_CHAIN = 100

_log = get_logger("letters")


@dataclass(frozen=True, slots=True)
class Found:
    """A letter with its state.

    previous: the letter whose replay was refused and became this one. Only `LetterBox.whole` knows the others:
    disposition: the last one that counts; attempt: 1 for a letter without a previous one, else one more than that;
    first: where it began.
    """

    id: LetterId
    fields: Fields
    message: Message
    state: State
    expired: bool
    disposition: Disposition | None = None
    attempt: int = 1
    previous: LetterId | None = None
    first: LetterId | None = None

    @property
    def label(self) -> str:
        """The state in one word."""
        return "expired" if self.expired else self.state.label


class LetterBox:
    """One stream's letters. All calls from one event loop; reads of the topic happen one after another."""

    def __init__(self, bus: Bus, stream: Stream, clock: Clock, *, max_letters: int) -> None:
        """max_letters: the newest are known, over all partitions; some 50 bytes each."""
        self.bus = bus
        self.stream = stream
        self.clock = clock
        self._max_letters = max_letters
        self._reading = asyncio.Lock()
        self._topic: Topic | None = None
        self._main: Topic | None = None
        self._looked = float("-inf")
        self._parts: list[PartitionIndex] = []
        self._ends: list[int] = []

    @property
    def parts(self) -> Sequence[PartitionIndex]:
        """By partition, as of the last `fresh`."""
        return self._parts

    @property
    def topic(self) -> Topic:
        """The dead-letter topic, as of the last `fresh`."""
        assert self._topic is not None
        return self._topic

    @property
    def main(self) -> Topic:
        """The stream's topic, as of the last `fresh`."""
        assert self._main is not None
        return self._main

    # Following

    async def fresh(self) -> None:
        """Know all that the topic had when this was called.

        Raises BusUnavailable, and Unavailable when the first look at very many letters takes long: it goes on with the
        next call.
        """
        try:
            async with asyncio.timeout(_READY_SECONDS), self._reading:
                await self._follow()
        except TimeoutError:
            read, end = sum(part.next for part in self._parts), sum(self._ends)
            raise Unavailable(
                f"the dead letters of '{self.stream.name}' are being read: {read} of {end} records; try again",
                retry_after=2.0,
            ) from None

    async def _follow(self) -> None:
        await self._look_up()
        topic = self.topic
        bounds = await asyncio.gather(*(self._offsets(partition) for partition in range(topic.partitions)))
        self._ends = [offsets.end for offsets in bounds]
        for part, offsets in zip(self._parts, bounds, strict=True):
            if offsets.end < part.next:
                # The topic was made anew: what is known of it is of another one.
                self._topic, self._looked = None, float("-inf")
                await self._follow()
                return
            part.forget(offsets.beginning)
        for partition, part in enumerate(self._parts):
            await self._read(partition, part, self._ends[partition])

    async def _look_up(self) -> None:
        now = self.clock.monotonic()
        if self._topic is not None and now - self._looked < _TOPIC_SECONDS:
            return
        self._main = await known_topic(self.bus, self.stream.topic)
        topic = await known_topic(self.bus, self.stream.dead_letter_topic)
        if self._topic is None or topic.incarnation != self._topic.incarnation:
            self._start(topic)
        elif topic.partitions > len(self._parts):
            self._parts += [self._new_part(topic) for _ in range(topic.partitions - len(self._parts))]
        self._topic = topic
        self._looked = now

    def _start(self, topic: Topic) -> None:
        self._parts = [self._new_part(topic) for _ in range(topic.partitions)]
        self._topic = topic

    def _new_part(self, topic: Topic) -> PartitionIndex:
        return PartitionIndex(max_letters=max(1_000, self._max_letters // topic.partitions))

    async def _offsets(self, partition: int) -> Offsets:
        return await self.bus.offsets(self.stream.dead_letter_topic, partition)

    async def _read(self, partition: int, part: PartitionIndex, end: int) -> None:
        while part.next < end:
            try:
                messages = await read_known(
                    self.bus, self.stream.dead_letter_topic, partition, part.next, max_bytes=_READ_BYTES
                )
            except OffsetOutOfRange as error:
                if error.beginning <= part.next:
                    return
                part.forget(error.beginning)
                continue
            for message in messages:
                part.add(message)
            await asyncio.sleep(0)

    # Single letters

    def known(self, letter: LetterId) -> tuple[PartitionIndex, int] | None:
        """The partition and the letter's number in it."""
        if not 0 <= letter.partition < len(self._parts):
            return None
        part = self._parts[letter.partition]
        at = part.find(letter.offset)
        return None if at is None else (part, at)

    def size(self, letter: LetterId) -> int:
        """Bytes of the letter's record, 0 when it is not known."""
        known = self.known(letter)
        return 0 if known is None else known[0].size(known[1])

    def _read_to(self, partition: int) -> int:
        """What lies before this offset was there; of the rest nothing is known."""
        return self._parts[partition].next if 0 <= partition < len(self._parts) else 0

    async def message(self, partition: int, offset: int) -> Message | None:
        """One record of the topic; None when it is gone. Raises BusUnavailable."""
        if offset >= self._read_to(partition):
            return None
        try:
            found = await read_known(
                self.bus, self.stream.dead_letter_topic, partition, offset, max_bytes=1, seconds=READ_SECONDS
            )
        except OffsetOutOfRange:
            return None
        return found[0] if found and found[0].offset == offset else None

    async def messages(self, partition: int, offsets: Sequence[int]) -> dict[int, Message]:
        """The records at ascending `offsets`, without those that are gone; dense ones are read together.

        Raises BusUnavailable.
        """
        found: dict[int, Message] = {}
        end = self._read_to(partition)
        offsets = [offset for offset in offsets if offset < end]
        wanted = set(offsets)
        at = 0
        while at < len(offsets):
            dense = at + 1 < len(offsets) and offsets[at + 1] - offsets[at] < 8
            try:
                read = await read_known(
                    self.bus, self.stream.dead_letter_topic, partition, offsets[at],
                    max_bytes=_READ_BYTES if dense else 1, seconds=READ_SECONDS,
                )  # fmt: skip
            except OffsetOutOfRange:
                read = ()
            found |= {message.offset: message for message in read if message.offset in wanted}
            done = read[-1].offset if read else offsets[at]
            while at < len(offsets) and offsets[at] <= done:
                at += 1
        return found

    def found(self, message: Message, *, died_from: int = 0) -> Found | None:
        """The letter in `message` with its state, None when it is not known or cannot be read."""
        letter = LetterId(message.partition, message.offset)
        known = self.known(letter)
        if known is None:
            return None
        try:
            fields = fields_of(message)
        except MalformedRecord:
            return None
        part, at = known
        state = part.state(at)
        previous = self._previous(part, message.partition, fields)
        expired = state is State.WAITING and part.died(at) < died_from
        return Found(letter, fields, message, state, expired, previous=previous, first=previous)

    def _previous(self, part: PartitionIndex, partition: int, fields: Fields) -> LetterId | None:
        # A replay goes to the partition that its letter is on, and so does the letter it may become.
        if fields.partition != partition:
            return None
        offset = part.replayed_letter(fields.incarnation, fields.offset)
        return None if offset is None else LetterId(partition, offset)

    async def whole(self, letter: LetterId, *, died_from: int = 0) -> Found:
        """One letter with its last disposition and where it began. Raises NotFound."""
        message = await self.message(letter.partition, letter.offset) if self.known(letter) else None
        found = None if message is None else self.found(message, died_from=died_from)
        known = self.known(letter)
        if found is None or known is None:
            raise NotFound(f"there is no dead letter '{letter}'", field="id")
        part, at = known
        disposition = None
        if part.latest(at) != letter.offset:
            record = await self.message(letter.partition, part.latest(at))
            disposition = None if record is None else look(record.value).disposition
        attempt, first = 1, None
        previous = found.previous
        while previous is not None and attempt < _MAX_CHAIN:
            attempt, first = attempt + 1, previous
            earlier = await self.message(previous.partition, previous.offset)
            before = None if earlier is None else self.found(earlier)
            previous = None if before is None else before.previous
        return replace(found, disposition=disposition, attempt=attempt, first=first)

    # Writing

    async def write(self, partition: int, disposition: Disposition) -> int:
        """Append a disposition; its offset. Raises BusUnavailable, and it may have been appended."""
        head, payload = encode(disposition)
        published = await self.bus.publish(self.stream.dead_letter_topic, head, payload, partition=partition)
        return published.offset

    async def tally(self, partitions: Sequence[int]) -> None:
        """Write down how many were replayed and discarded, so that the counts outlive the letters.

        A record that comes in between makes a tally void: then the next one tells.
        """
        await self.fresh()
        for partition in partitions:
            part = self._parts[partition]
            if part.replayed or part.discarded:
                await self.write(
                    partition,
                    Disposition(
                        action="tally", op=secrets.token_hex(16), at=self.clock.now_ns(), last=part.last,
                        replayed=part.replayed, discarded=part.discarded,
                    ),
                )  # fmt: skip
