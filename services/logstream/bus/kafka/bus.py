"""The log on Kafka: the face in the event loop."""

import asyncio
import contextlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from logstream.bus.header import Header, Kind, encode
from logstream.bus.kafka import config
from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.faults import Faults
from logstream.bus.kafka.letters import Letters
from logstream.bus.kafka.member import Member
from logstream.bus.kafka.producer import Appender
from logstream.bus.kafka.tails import Tails
from logstream.bus.kafka.turns import Turns
from logstream.bus.kafka.waiting import Waiting
from logstream.bus.known import missing
from logstream.bus.protocol import (
    DEAD_LETTERS,
    NS_PER_MINUTE,
    Claim,
    Committed,
    Journal,
    LedgerEntry,
    Message,
    Offsets,
    Outcome,
    Published,
    RebalanceListener,
    Topic,
    minute_of,
    require_letters,
)
from logstream.clock import Clock
from logstream.errors import BusUnavailable, InvalidValue, LogStreamError, NotFound
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_WATCH_SECONDS = 5.0
"""How soon a topic that was made anew is noticed, without anybody reading or writing it."""
_TURN_SECONDS = 1.0
"""A processor's INSERTs are few and large when all that comes in such a time is in one partition."""
_NOTHING = Outcome()


class KafkaBus:
    """`logstream.bus.protocol.Bus` on Kafka. All calls from one event loop.

    A group's name on Kafka is the topic's and its own ("logstream.default-….processor"), so that streams do not
    disturb each other and installations can share a cluster.
    """

    def __init__(
        self, settings: KafkaSettings, clock: Clock, journal: Journal | None, accounting_group: str, *,
        makes_topics: bool = True,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._makes_topics = makes_topics
        self._clock = clock
        self._journal = journal
        self._accounting_group = accounting_group
        self._faults = Faults(settings.bootstrap_servers)
        self._admin = Admin(settings, self._faults)
        self._appender = Appender(settings, self._faults)
        self._tails = Tails(settings, self._faults, self._admin)
        self._letters = Letters(settings, self._faults, self._admin)
        self._waiting = Waiting(settings, self._faults, self._admin)
        self._topics: dict[str, Topic] = {}
        self._in_sync_needed: dict[int, int] = {}
        self._members: set[Member] = set()
        self._turns = Turns(_TURN_SECONDS)
        self._log = get_logger("bus")
        self._closing: asyncio.Task[None] | None = None
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    async def open(
        cls,
        settings: KafkaSettings,
        clock: Clock,
        *,
        journal: Journal | None = None,
        accounting_group: str = "processor",
        makes_topics: bool = True,
    ) -> "KafkaBus":
        """Connect. journal: where commits leave what came to its end, and what the ledger counts with.

        accounting_group: the group whose position says what is in flight.
        makes_topics: False where somebody else makes and changes them: `create_topic` then only looks, and raises
        BusUnavailable for what is not there.
        Raises StartupError for settings that are of no use, BusUnavailable with the reason while Kafka cannot be
        reached or refuses us.
        """
        bus = cls(settings, clock, journal, accounting_group, makes_topics=makes_topics)
        try:
            await bus._admin.reach()
        except BaseException:
            await bus.close()
            raise
        return bus

    # Topics

    async def create_topic(
        self, name: str, *, partitions: int | None = None, retention_days: int | None = None
    ) -> Topic:
        count = self._settings.partitions if partitions is None else partitions
        if count < 1:
            raise InvalidValue("a topic has at least 1 partition", field="partitions", limit=1)
        self._require_open()
        if retention_days is not None:
            require_letters(name)
        elif name in self._topics and not self._lacks(self._topics[name], partitions):
            return self._topics[name]
        properties = config.topic(
            self._settings, letters=name.endswith(DEAD_LETTERS), retention_days=retention_days
        )  # fmt: skip
        try:
            topic = await self._learn(name)
        except NotFound:
            if not self._makes_topics:
                raise missing(name) from None
            await self._admin.create(name, count, properties)
            return await self._appeared(name)
        if not self._makes_topics:
            return topic
        await self._fit(topic, int(properties["max.message.bytes"]), retention_days)
        if self._lacks(topic, partitions):
            await self._admin.grow(name, count)
            self._log.warning("dead_letter_topic_grown", topic=name, partitions=count)
            return await self._appeared(name, count)
        return topic

    @staticmethod
    def _lacks(topic: Topic, partitions: int | None) -> bool:
        """A letter is on the partition of its record's number: where a topic was given more, so are its letters'."""
        return partitions is not None and topic.partitions < partitions and topic.name.endswith(DEAD_LETTERS)

    async def _appeared(self, name: str, partitions: int = 1) -> Topic:
        """A topic that was just made: the brokers tell each other about it, which takes a moment."""
        for _ in range(50):
            try:
                description = await self._admin.describe(name)
                if all(description.in_sync) and description.topic.partitions >= partitions:
                    self._topics[name] = description.topic
                    return description.topic
            except NotFound:
                pass
            await asyncio.sleep(0.1)
        raise BusUnavailable(f"topic {name!r} was made, but has no leader yet", retry_after=2.0)

    async def set_retention(self, name: str, days: int) -> None:
        require_letters(name)
        self._require_open()
        with contextlib.suppress(NotFound):
            await self._keep(name, days, await self._admin.properties(name))

    async def _keep(self, name: str, days: int, properties: Mapping[str, str]) -> None:
        wanted = str(days * config.DAY_MS)
        if properties.get("retention.ms") != wanted:
            await self._admin.change(name, "retention.ms", wanted)
            self._log.info("dead_letters_kept_for", topic=name, days=days)

    async def delete_topic(self, name: str) -> None:
        self._require_open()
        await self._admin.delete(name)
        # Brokers tell each other: one that still has it would let it be found again.
        for _ in range(50):
            try:
                await self._admin.describe(name)
            except NotFound:
                break
            await asyncio.sleep(0.1)
        else:
            raise BusUnavailable(f"topic {name!r} is still being deleted", retry_after=2.0)
        self._topics.pop(name, None)

    async def _fit(self, topic: Topic, needed: int, retention_days: int | None) -> None:
        """An existing topic keeps its partitions and settings, but must take the largest record, and dead letters
        are kept as long as is asked for."""
        try:
            properties = await self._admin.properties(topic.name)
            if int(properties.get("max.message.bytes", needed)) < needed:
                await self._admin.change(topic.name, "max.message.bytes", str(needed))
                self._log.info("topic_takes_larger_records", topic=topic.name, max_message_bytes=needed)
            if retention_days is not None:
                await self._keep(topic.name, retention_days, properties)
        except LogStreamError as error:
            # Not every user may look or change: a record too large is then refused by the broker, by name, and
            # letters go when the topic says.
            self._log.warning("topic_settings_not_changed", topic=topic.name, error=error.message)

    async def _learn(self, name: str) -> Topic:
        topic = (await self._admin.describe(name)).topic
        self._topics[name] = topic
        return topic

    async def topic(self, name: str) -> Topic:
        return await self._topic(name)

    async def _topic(self, name: str) -> Topic:
        self._require_open()
        return self._topics.get(name) or await self._learn(name)

    async def _partition(self, name: str, partition: int) -> Topic:
        topic = await self._topic(name)
        if not 0 <= partition < topic.partitions:
            raise NotFound(f"there is no partition {partition} of topic {name!r}")
        return topic

    def _require_open(self) -> None:
        if self._closing is not None:
            raise BusUnavailable("the log is closed")

    async def _watch(self) -> None:
        """Notice topics that were deleted, made anew or given more partitions."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for name, before in list(self._topics.items()):
                now: Topic | None
                try:
                    now = (await self._admin.describe(name)).topic
                except NotFound:
                    now = None
                except LogStreamError:
                    continue
                if now is None:
                    self._topics.pop(name, None)
                elif now != before:
                    self._log.warning(
                        "topic_changed",
                        topic=name,
                        partitions=now.partitions,
                        anew=now.incarnation != before.incarnation,
                    )
                    self._topics[name] = now
            there = {topic.incarnation for topic in self._topics.values()}
            self._letters.forget_all_but(there)
            self._waiting.forget_all_but(there)
            for member in list(self._members):
                if member.topic.name not in self._topics:
                    try:
                        await self._learn(member.topic.name)
                    except NotFound:
                        await member.follow_topic(None)
                        continue
                    except LogStreamError:
                        continue
                await member.follow_topic(self._topics[member.topic.name])

    # Writing

    async def publish(
        self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None, partition: int | None = None
    ) -> Published:
        self._require_open()
        known = self._topics.get(topic) or await self._topic(topic)
        if partition is None:
            partition = self._choose(known, claim)
        elif not 0 <= partition < known.partitions:
            raise NotFound(f"there is no partition {partition} of topic {topic!r}")
        if claim is None:
            return await self._appender.append(topic, partition, encode(header, payload))
        # Whoever reads the record must be able to tell a repeat.
        value = encode(replace(header, idempotency_key=claim.key, fingerprint=claim.fingerprint), payload)
        if header.kind is not Kind.DEAD_LETTER:
            return await self._appender.append(topic, partition, value)
        place = partition
        return await self._letters.publish(
            known, place, claim, lambda: self._appender.append(topic, place, value)
        )  # fmt: skip

    def _choose(self, topic: Topic, claim: Claim | None) -> int:
        if claim is not None:
            return zlib.crc32(claim.key) % topic.partitions
        return self._turns.choose(asyncio.get_running_loop().time(), topic.partitions)

    # Reading

    async def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0
    ) -> Sequence[Message]:
        await self._partition(topic, partition)
        return await self._tails.read((topic, partition), offset, max_bytes=max_bytes, wait=wait)

    async def offsets(self, topic: str, partition: int) -> Offsets:
        await self._partition(topic, partition)
        return (await self._admin.offsets(topic, [partition]))[0]

    async def committed(self, topic: str, group: str, partition: int) -> Committed:
        await self._partition(topic, partition)
        return (await self._admin.committed(topic, _group(topic, group), [partition]))[0]

    async def consumer(self, topic: str, group: str, *, listener: RebalanceListener | None = None) -> Member:
        # Not from memory: partitions and incarnation are what the member begins with.
        self._require_open()
        member = Member(
            self._settings, self._faults, self._admin, await self._learn(topic), _group(topic, group),
            journal=self._journal, listener=listener, closed=self._members.discard,
        )  # fmt: skip
        self._members.add(member)
        return member

    # Counting

    async def ledger(self, topic: str, *, start: int | None = None, end: int | None = None) -> Sequence[LedgerEntry]:
        known = await self._topic(topic)
        first = None if start is None else minute_of(start)
        last = None if end is None else -(-end // NS_PER_MINUTE)
        # In this order: the journal is written before a commit, so it is not behind the positions.
        committed = await self._admin.committed(topic, _group(topic, self._accounting_group), range(known.partitions))
        positions = [position.offset for position in committed]
        settled: dict[str, Outcome] = {}
        if self._journal is not None:
            snapshot = await self._journal.snapshot(known, first, last)
            settled = dict(snapshot.totals)
            positions = [max(offset, snapshot.last.get(p, -1) + 1) for p, offset in enumerate(positions)]
        in_flight = await self._waiting.rows(known, positions, first_minute=first, end_minute=last)
        entries = []
        for key_id in sorted(settled.keys() | {key_id for key_id, rows in in_flight.items() if rows}):
            done, waiting = settled.get(key_id, _NOTHING), in_flight[key_id]
            accepted = done.stored + done.deduplicated + done.dead_lettered + waiting
            entries.append(LedgerEntry(key_id, accepted, done.stored, done.deduplicated, done.dead_lettered, waiting))
        return entries

    # Life

    async def check(self) -> None:
        self._require_open()
        self._appender.require_room(1)
        if not self._topics:
            await self._admin.reach()
        for name in list(self._topics):
            description = await self._admin.describe(name)
            needed = self._in_sync_needed.get(description.topic.incarnation)
            if needed is None:
                properties = await self._admin.properties(name)
                needed = self._in_sync_needed[description.topic.incarnation] = int(
                    properties.get("min.insync.replicas", 1)
                )
            shortage = description.shortage(needed)
            if shortage is not None:
                raise BusUnavailable(shortage, retry_after=5.0, field="min.insync.replicas", limit=needed)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._appender.close()
        await asyncio.gather(*(member.close() for member in list(self._members)))
        await asyncio.gather(self._tails.close(), self._letters.close(), self._waiting.close(), self._admin.close())


def _group(topic: str, group: str) -> str:
    return f"{topic}.{group}"
