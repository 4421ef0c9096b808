"""The embedded log's face in the event loop."""

import asyncio
import contextlib
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from logstream import metrics
from logstream.bus.header import Header, encode
from logstream.bus.protocol import (
    NS_PER_MINUTE,
    Claim,
    Committed,
    LedgerEntry,
    Message,
    Offsets,
    Published,
    RebalanceListener,
    Settled,
    Topic,
    minute_of,
    require_letters,
)
from logstream.bus.sqlite import reader
from logstream.bus.sqlite.log import Log
from logstream.bus.sqlite.reader import Reader
from logstream.bus.sqlite.recent import RecentRecords
from logstream.bus.sqlite.schema import DirectoryLock
from logstream.bus.sqlite.writer import Append, Call, Deleted, Done, Writer
from logstream.clock import Clock
from logstream.errors import BusUnavailable, InvalidValue, LogStreamError, NotFound, OffsetOutOfRange
from logstream.settings import MIB, BusSettings

_T = TypeVar("_T")


def _free_disk_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


class _View:
    """One partition, as readers see it. `grown` is set when records were appended, and then made anew."""

    __slots__ = ("beginning", "bytes", "end", "gone", "grown", "lane_id")

    def __init__(self, lane_id: int, beginning: int, end: int) -> None:
        self.lane_id = lane_id
        self.beginning = beginning
        self.end = end
        self.bytes = 0
        self.gone = False
        self.grown: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.grown is not None:
            if not self.grown.done():
                self.grown.set_result(None)
            self.grown = None


class SqliteBus:
    """`logstream.bus.protocol.Bus` in one SQLite file. One process a folder; all calls from one event loop."""

    def __init__(
        self,
        settings: BusSettings,
        clock: Clock,
        lock: DirectoryLock,
        log: Log,
        *,
        max_queued_bytes: int,
        recent_bytes: int,
    ) -> None:
        self._lock = lock
        self._max_queued_bytes = max_queued_bytes
        self._queued_bytes = 0
        self._recent = RecentRecords(recent_bytes)
        self._topics = dict(log.topics)
        self._views = {
            name: [_View(lane.lane_id, lane.beginning, lane.end) for lane in lanes] for name, lanes in log.lanes.items()
        }
        self._next_partition = 0
        self._closing: asyncio.Task[None] | None = None
        self._reader = Reader(settings.path)
        self._writer = Writer(log, settings, clock, self._settle)

    @classmethod
    async def open(
        cls,
        settings: BusSettings,
        clock: Clock,
        *,
        free_disk_bytes: Callable[[Path], int] = _free_disk_bytes,
        max_queued_bytes: int = 64 * MIB,
        recent_bytes: int = 16 * MIB,
    ) -> "SqliteBus":
        """Open or make the log in `settings.path`.

        max_queued_bytes: values waiting to be committed; more are refused. recent_bytes: newest values kept
        in memory for readers.
        Raises StartupError when the folder cannot be used or is in use.
        """

        def start() -> tuple[DirectoryLock, Log]:
            lock = DirectoryLock(settings.path)
            try:
                return lock, Log(settings, clock, free_disk_bytes, settings.path)
            except BaseException:
                lock.release()
                raise

        lock, log = await asyncio.get_running_loop().run_in_executor(None, start)
        return cls(settings, clock, lock, log, max_queued_bytes=max_queued_bytes, recent_bytes=recent_bytes)

    # Topics

    async def create_topic(
        self, name: str, *, partitions: int | None = None, retention_days: int | None = None
    ) -> Topic:
        count = 1 if partitions is None else partitions
        if count < 1:
            raise InvalidValue("a topic has at least 1 partition", field="partitions", limit=1)
        topic = self._topics.get(name)
        if topic is None:
            topic = await self._call(lambda log: log.create_topic(name, count))
        if retention_days is not None:
            await self.set_retention(name, retention_days)
        return topic

    async def set_retention(self, name: str, days: int) -> None:
        require_letters(name)
        if name in self._topics:
            await self._call(lambda log: log.letters_days.update({name: days}))

    async def delete_topic(self, name: str) -> None:
        # What is published meanwhile is told when it is done.
        await self._call(lambda log: Deleted(name, log.delete_topic(name)), last=True)

    async def topic(self, name: str) -> Topic:
        return self._topic(name)

    def _topic(self, name: str) -> Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise NotFound(f"there is no topic {name!r}") from None

    def _view(self, topic: str, partition: int) -> _View:
        views = self._views.get(topic, ())
        if not 0 <= partition < len(views):
            raise NotFound(f"there is no partition {partition} of topic {topic!r}")
        return views[partition]

    # Writing

    async def publish(
        self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None, partition: int | None = None
    ) -> Published:
        partitions = self._topic(topic).partitions
        if partition is not None:
            self._view(topic, partition)
        elif partitions == 1:
            partition = 0
        elif claim is not None:
            partition = zlib.crc32(claim.key) % partitions
        else:
            self._next_partition = partition = (self._next_partition + 1) % partitions
        size = len(payload)
        self._require_room(size)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._queued_bytes += size
        self._writer.put(Append(future, topic, partition, header, encode(header, payload), claim, size))
        return cast(Published, await future)

    def _require_room(self, size: int) -> None:
        self._require_open()
        if self._queued_bytes and self._queued_bytes + size > self._max_queued_bytes:
            raise BusUnavailable(
                f"{self._queued_bytes} bytes wait to be written to the log, the limit is {self._max_queued_bytes}",
                field="max_queued_bytes", limit=self._max_queued_bytes,
            )  # fmt: skip

    def _require_open(self) -> None:
        if self._closing is not None:
            raise BusUnavailable("the log is closed")

    async def _call(self, call: Callable[[Log], _T], *, last: bool = False) -> _T:
        self._require_open()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._writer.put(Call(future, call, last=last))
        return cast(_T, await future)

    def _settle(self, done: Done) -> None:
        """A group was committed, or failed: show it to readers, then answer."""
        grown: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        for job, result in zip(done.jobs, done.results, strict=True):
            self._queued_bytes -= job.size
            if isinstance(job, Append) and isinstance(result, Published) and not result.duplicate:
                grown[job.topic, result.partition].append(Message(result.partition, result.offset, job.value))
            elif isinstance(result, Topic):
                self._topics[result.name] = result
            elif isinstance(result, Deleted):
                self._forget(result)
        for lane in done.changed:
            views = self._views.setdefault(lane.topic, [])
            if lane.partition == len(views):
                views.append(_View(lane.lane_id, lane.beginning, lane.end))
            view = views[lane.partition]
            view.beginning, view.end = lane.beginning, lane.end
            view.bytes = lane.bytes
            metrics.BUS_BYTES.labels(lane.topic).set(sum(v.bytes for v in views))
        for job, result in zip(done.jobs, done.results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, LogStreamError):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        for (topic, partition), appended in grown.items():
            if topic not in self._views:
                continue
            view = self._view(topic, partition)
            self._recent.add(view.lane_id, appended)
            metrics.BUS_APPENDED_BYTES.labels(topic).inc(sum(len(m.value) for m in appended))
            view.wake()

    def _forget(self, deleted: Deleted) -> None:
        """A topic is gone: whoever waits for its records hears of it."""
        self._topics.pop(deleted.topic, None)
        for view in self._views.pop(deleted.topic, []):
            view.gone = True
            view.wake()
            self._recent.forget(view.lane_id)
        for metric in (metrics.BUS_BYTES, metrics.BUS_APPENDED_BYTES):
            with contextlib.suppress(KeyError):
                metric.remove(deleted.topic)

    # Reading

    async def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0
    ) -> Sequence[Message]:
        view = self._view(topic, partition)
        while True:
            self._require_open()
            if view.gone:
                raise NotFound(f"topic {topic!r} was deleted")
            if not view.beginning <= offset <= view.end:
                raise OffsetOutOfRange(
                    f"offset {offset} of {topic}/{partition} is outside {view.beginning} to {view.end}",
                    beginning=view.beginning, end=view.end,
                )  # fmt: skip
            if offset < view.end:
                recent = self._recent.read(view.lane_id, offset, max_bytes)
                if recent is not None:
                    return recent
                found = await self._reader.run(
                    partial(
                        reader.messages, lane_id=view.lane_id, partition=partition, offset=offset, max_bytes=max_bytes
                    )
                )
                if found and found[0].offset == offset:
                    return found
                # Retention was faster: what is known of the beginning follows in a moment.
                view.beginning = max(view.beginning, found[0].offset if found else view.end)
                continue
            if wait <= 0:
                return ()
            if view.grown is None:
                view.grown = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait((view.grown,), timeout=wait)
            if not done:
                return ()

    async def offsets(self, topic: str, partition: int) -> Offsets:
        view = self._view(topic, partition)
        return Offsets(view.beginning, view.end)

    async def consumer(self, topic: str, group: str, *, listener: RebalanceListener | None = None) -> "SqliteConsumer":
        self._topic(topic)
        await self._call(lambda log: log.join(topic, group))
        return SqliteConsumer(self, self._topic(topic), group, listener)

    async def committed(self, topic: str, group: str, partition: int) -> Committed:
        """A group's position in one partition."""
        self._require_open()
        lane_id = self._view(topic, partition).lane_id
        return await self._reader.run(partial(reader.committed, lane_id=lane_id, group=group))

    async def commit(
        self, topic: str, group: str, partition: int, position: Committed, settled: Settled | None
    ) -> None:
        """As `Consumer.commit`, for any group."""
        self._view(topic, partition)
        await self._call(lambda log: log.commit(log.lane(topic, partition), group, position, settled))

    async def ledger(self, topic: str, *, start: int | None = None, end: int | None = None) -> Sequence[LedgerEntry]:
        self._topic(topic)
        self._require_open()
        if start is None and end is None:
            return await self._reader.run(partial(reader.ledger, topic=topic))
        first = reader.MIN_MINUTE if start is None else minute_of(start)
        last = reader.MAX_MINUTE if end is None else -(-end // NS_PER_MINUTE)
        return await self._reader.run(partial(reader.ledger_between, topic=topic, first=first, end=last))

    async def check(self) -> None:
        self._require_room(0)
        await self._call(lambda log: log.check())

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._writer.stop()
        await self._writer.closed
        for views in self._views.values():
            for view in views:
                view.wake()
        await self._reader.close()
        self._lock.release()


class SqliteConsumer:
    """`logstream.bus.protocol.Consumer`: the only member of its group, so it owns every partition."""

    def __init__(self, bus: SqliteBus, topic: Topic, group: str, listener: RebalanceListener | None = None) -> None:
        self._bus = bus
        self._topic = topic
        self._group = group
        self._telling: asyncio.Task[None] | None = None
        if listener is not None:
            self._telling = asyncio.get_running_loop().create_task(self._tell(listener))

    async def _tell(self, listener: RebalanceListener) -> None:
        await listener.assigned(self.assignment())

    @property
    def topic(self) -> Topic:
        return self._topic

    def assignment(self) -> frozenset[int]:
        return frozenset(range(self._topic.partitions))

    async def committed(self, partition: int) -> Committed:
        return await self._bus.committed(self._topic.name, self._group, partition)

    async def read(self, partition: int, offset: int, *, max_bytes: int, wait: float = 0.0) -> Sequence[Message]:
        return await self._bus.read(self._topic.name, partition, offset, max_bytes=max_bytes, wait=wait)

    async def commit(self, partition: int, position: Committed, settled: Settled | None = None) -> None:
        await self._bus.commit(self._topic.name, self._group, partition, position, settled)

    async def close(self) -> None:
        """Nothing is held: the group's position stays, and records wait for it. Raises what `assigned` raised."""
        if self._telling is not None:
            await self._telling
