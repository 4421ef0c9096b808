"""A member of a consumer group: which partitions are ours, and commits that the group's generation fences.

The member reads nothing: its partitions are paused in its own librdkafka consumer, whose thread only serves
rebalances, and read by a `Fetcher`. So a partition that moves does not stall the others.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from logstream import metrics
from logstream.bus.kafka import config
from logstream.bus.kafka.admin import Admin
from logstream.bus.kafka.faults import Faults, error_of, started
from logstream.bus.kafka.fetcher import Fetcher
from logstream.bus.kafka.stranded import Stranded
from logstream.bus.kafka.tails import read_at
from logstream.bus.protocol import Committed, Journal, Message, RebalanceListener, Settled, Topic
from logstream.errors import BusUnavailable, Conflict, Fenced, LogStreamError, NotFound
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_POLL_SECONDS = 0.1
"""How long a rebalance may wait to be noticed."""
_MAX_METADATA = 4_000
"""Bytes; brokers take 4096 unless told otherwise (offset.metadata.max.bytes)."""


class Member:
    """`logstream.bus.protocol.Consumer` on Kafka. Used from one event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        faults: Faults,
        admin: Admin,
        topic: Topic,
        group: str,
        *,
        journal: Journal | None,
        listener: RebalanceListener | None,
        closed: Callable[["Member"], None],
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._admin = admin
        self._topic = topic
        self._group = group
        self._journal = journal
        self._listener = listener
        self._tell_closed = closed
        self._loop = asyncio.get_running_loop()
        self._owned: frozenset[int] = frozenset()
        self._given_up: frozenset[int] = frozenset()
        """Ours until the topic went away; they are again when it comes back, unless the group says otherwise."""
        self._committing: dict[int, asyncio.Lock] = {}
        self._telling = asyncio.Lock()
        self._stop = False
        self._log = get_logger("bus").bind(topic=topic.name)
        self._fetcher = Fetcher(settings, faults, admin, buffer_bytes=settings.read_buffer_bytes)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._consumer, self._stranded = self._start()
        self._thread = threading.Thread(target=self._run, name="kafka-member", daemon=True)
        self._thread.start()

    def _start(self) -> tuple[Consumer, Stranded]:
        stranded = Stranded()
        properties = config.client(self._settings, on_error=self._faults.note)
        consumer: Consumer = started(
            Consumer, properties | config.member(self._settings, self._group) | stranded.properties
        )
        consumer.subscribe(
            [self._topic.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )  # fmt: skip
        return consumer, stranded

    @property
    def topic(self) -> Topic:
        return self._topic

    def assignment(self) -> frozenset[int]:
        return self._owned

    # In the member's thread. librdkafka goes on with a rebalance when a callback returns.

    def _run(self) -> None:
        while not self._stop:
            try:
                self._obey(_POLL_SECONDS)
                message = self._consumer.poll(0)
                if self._stranded.is_so:
                    self._renew()
            except (KafkaException, RuntimeError) as error:
                if not self._stop:
                    self._log.warning("kafka_group_fault", error=str(error))
                continue
            fault = message.error() if message is not None else None
            if fault is not None:
                self._log.warning("kafka_group_fault", reason=fault.name(), error=fault.str())

    def _renew(self) -> None:
        """Join the group again with another consumer: this one lost the brokers, and the group us."""
        self._log.error("kafka_member_made_anew", reason="lost every broker")
        metrics.BUS_CLIENTS_RENEWED.labels("member").inc()
        # Commits that still come must fail: those of one that is not in the group yet would be fenced by nothing.
        self._wait_for(self._give(set(self._owned), lost=True))
        old = self._consumer
        self._consumer, self._stranded = self._start()
        # It may take its time, and tells us nothing any more.
        threading.Thread(target=old.close, name="kafka-member-end", daemon=True).start()

    def _obey(self, wait: float) -> None:
        """Do what was asked for, and wait for the first of it."""
        try:
            command = self._commands.get(timeout=wait)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        if partitions:
            # A position is needed to be assigned; paused, nothing is read there.
            consumer.incremental_assign([TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions])
            consumer.pause(list(partitions))
        self._wait_for(self._take({p.partition for p in partitions}))

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._wait_for(self._give({p.partition for p in partitions}, lost=False))
        consumer.incremental_unassign(list(partitions))

    def _lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._wait_for(self._give({p.partition for p in partitions}, lost=True))
        consumer.incremental_unassign(list(partitions))

    def _wait_for(self, coroutine: Any) -> None:
        """Until the event loop has done it. No limit of our own: the group has one (rebalance_timeout_seconds)."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            return
        # Commits of the partitions that are given up come meanwhile, and only this thread may make them.
        future.add_done_callback(lambda _: self._commands.put(lambda: None))
        while not future.done():
            self._obey(_POLL_SECONDS)
        # None of them may be left: it would be made in the name of the group's next generation.
        self._obey(0)
        failure = None if future.cancelled() else future.exception()
        if failure is not None:
            self._log.error("rebalance_listener_failed", error=repr(failure))

    # In the event loop

    async def _take(self, partitions: "set[int]") -> None:
        async with self._telling:
            if partitions and not self._owned:
                await self._learn_topic()
            if not self._topic.incarnation:
                # Whose records these would be is not known: `follow_topic` hands them out.
                self._given_up |= partitions
                return
            ours = frozenset(partitions)
            self._owned |= ours
            self._log.info("partitions_assigned", partitions=sorted(ours), all=sorted(self._owned))
            if ours and self._listener is not None and not self._stop:
                await self._listener.assigned(ours)

    async def _give(self, partitions: "set[int]", *, lost: bool) -> None:
        async with self._telling:
            gone = frozenset(partitions) & self._owned
            # The group's word: also of what is waited for, while the topic is away.
            self._given_up -= partitions
            if lost:
                self._owned -= gone
            self._log.info("partitions_revoked", partitions=sorted(gone), lost=lost)
            try:
                if gone and self._listener is not None and not self._stop:
                    await self._listener.revoked(gone)
            finally:
                self._owned -= gone
                await self._settle(gone)

    async def _settle(self, partitions: frozenset[int]) -> None:
        """Wait for commits under way, so that none comes after the partition was given away."""
        for partition in partitions:
            async with self._committing.setdefault(partition, asyncio.Lock()):
                pass
            if not self._stop:
                try:
                    await self._fetcher.forget((self._topic.name, partition))
                except LogStreamError as error:
                    self._log.warning("kafka_forget_failed", error=error.message)

    async def _learn_topic(self) -> None:
        try:
            self._topic = (await self._admin.describe(self._topic.name)).topic
        except LogStreamError as error:
            self._log.warning("topic_not_described", error=error.message)

    async def follow_topic(self, topic: Topic | None) -> None:
        """Told what the topic is now; None when it is gone. What belonged to an earlier one is given up."""
        if topic == self._topic or self._stop:
            return
        async with self._telling:
            if topic is not None and topic.incarnation == self._topic.incarnation:
                self._topic = topic
                return
            if topic is None and not self._topic.incarnation:
                return
            gone, self._owned = self._owned, frozenset()
            self._log.error("topic_made_anew" if topic is not None else "topic_gone", partitions=sorted(gone))
            if gone and self._listener is not None:
                await self._listener.revoked(gone)
            await self._settle(gone)
            if topic is None:
                # Should it come back, librdkafka assigns its partitions anew, or `follow_topic` hears of it.
                self._topic = Topic(self._topic.name, 0, self._topic.partitions)
                self._given_up = gone
                return
            self._topic = topic
            back = frozenset(p for p in gone or self._given_up if p < topic.partitions)
            self._given_up = frozenset()
            self._owned = back
            if back and self._listener is not None:
                await self._listener.assigned(back)

    def _require(self, partition: int) -> None:
        if self._stop:
            raise BusUnavailable("the log is closed")
        if not 0 <= partition < self._topic.partitions:
            raise NotFound(f"there is no partition {partition} of topic {self._topic.name!r}")
        if partition not in self._owned:
            raise Fenced(f"{self._topic.name}/{partition} is not assigned to this member of the group")

    async def _require_same_topic(self) -> None:
        """Raises Fenced when the topic is another one now, NotFound, BusUnavailable."""
        known, now = self._topic, (await self._admin.describe(self._topic.name)).topic
        if now.incarnation != known.incarnation:
            raise Fenced(f"topic {known.name} was made anew")

    async def committed(self, partition: int) -> Committed:
        self._require(partition)
        # Who asks goes on from there: it must be the topic that is there now.
        await self._require_same_topic()
        self._require(partition)
        return (await self._admin.committed(self._topic.name, self._group, [partition]))[0]

    async def read(self, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0) -> Sequence[Message]:
        self._require(partition)
        place = (self._topic.name, partition)
        return await read_at(self._fetcher, self._admin, place, offset, max_bytes=max_bytes, wait=wait)

    async def commit(self, partition: int, position: Committed, settled: Settled | None = None) -> None:
        self._require(partition)
        if len(position.metadata.encode()) > _MAX_METADATA:
            raise Conflict(
                f"a commit's metadata has at most {_MAX_METADATA} bytes", field="metadata", limit=_MAX_METADATA
            )
        async with self._committing.setdefault(partition, asyncio.Lock()):
            if settled is None:
                # What was read must be of the topic it is planned for: one that was made anew a moment ago, and filled
                # beyond the position in the earlier one, looks no different.
                await self._require_same_topic()
                self._require(partition)
            await self._require_offset(partition, position.offset)
            self._require(partition)
            if settled is not None and self._journal is not None:
                await self._journal.record(self._topic, partition, settled)
                self._require(partition)
            place = TopicPartition(self._topic.name, partition, position.offset, metadata=position.metadata)
            what = f"committing {position.offset} of {self._topic.name}/{partition}"
            for done in (
                await self._call(what, lambda: self._consumer.commit(offsets=[place], asynchronous=False)) or ()
            ):
                if done.error is not None:
                    raise self._faults.map(done.error, what)

    async def _require_offset(self, partition: int, offset: int) -> None:
        """Raises Conflict for a position beyond the end."""
        cursor = self._fetcher.cursor((self._topic.name, partition))
        if offset < 0 or cursor is None or offset > cursor.next:
            [end] = await self._admin.ends(self._topic.name, [partition])
            if not 0 <= offset <= end:
                raise Conflict(
                    f"offset {offset} of {self._topic.name}/{partition} cannot be committed: the end is {end}"
                )

    async def _call(self, what: str, call: Callable[[], Any]) -> Any:
        """`call` in the member's thread: librdkafka's binding lets no other one use the consumer."""
        done: asyncio.Future[Any] = self._loop.create_future()

        def settle(result: Any, failure: Exception | None) -> None:
            if done.done():
                return
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

        def run() -> None:
            result, failure = None, None
            try:
                result = call()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle, result, failure)

        self._commands.put(run)
        try:
            return await done
        except KafkaException as failure:
            error = error_of(failure)
            raise (self._faults.map(error, what) if error else BusUnavailable(f"{what}: {failure}")) from failure
        except RuntimeError as failure:
            raise BusUnavailable(f"{what}: the log is closed") from failure

    async def close(self) -> None:
        """Leave the group, so that the others get our partitions at once."""
        if self._stop:
            return
        self._stop = True
        self._commands.put(lambda: None)
        await asyncio.to_thread(self._leave)
        self._owned = frozenset()
        await self._fetcher.close()
        self._tell_closed(self)

    def _leave(self) -> None:
        self._thread.join()
        # Also what came too late to be done: it is told so.
        self._obey(0.01)
        self._consumer.close()
