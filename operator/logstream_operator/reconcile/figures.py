"""What a stream has taken and stored: asked for now and then, apart from reconciling, and told when it changed.

The journal in ClickHouse counts what came to its end; what lies behind it in Kafka is in flight. Of that the oldest
few records are read, for their number of log entries and their age; with more than those, the rest is estimated by
their mean: a backlog of gigabytes is not read to be counted.
"""

import asyncio

from logstream.bus.header import decode_block
from logstream.bus.protocol import Topic
from logstream.clock import NS_PER_SECOND
from logstream.errors import LogStreamError
from logstream.logs import get_logger
from logstream.storage.journal import make_journal
from logstream_operator.external.topics import Topics
from logstream_operator.reconcile.context import Context, Key, make_store, make_topics
from logstream_operator.reconcile.known import Figures, Place, Source
from logstream_operator.reconcile.report import write_figures
from logstream_operator.status.logstream import is_lagging

_LOOKED_AT_RECORDS = 64
"""Of one partition."""
_LOOKED_AT_BYTES = 4 * 1024 * 1024
_AT_ONCE = 4

_log = get_logger("operator")


async def watch_figures(context: Context) -> None:
    """Until it is cancelled. A stream whose figures cannot be had keeps the last ones; its conditions say why."""
    every = context.settings.operator.status_seconds
    slots = asyncio.Semaphore(_AT_ONCE)
    while True:
        began = context.clock.monotonic()
        await asyncio.gather(
            *(_look(context, slots, place, source) for place, source in list(context.known.sources.items()))
        )
        await asyncio.sleep(max(1.0, every - (context.clock.monotonic() - began)))


async def _look(context: Context, slots: asyncio.Semaphore, place: Place, source: Source) -> None:
    async with slots:
        try:
            async with asyncio.timeout(20):
                found = await figures(context, source)
                await _note(context, place, source, found)
        except (LogStreamError, TimeoutError) as error:
            _log.debug("no_figures", namespace=place[0], name=place[1], reason=str(error))


async def _note(context: Context, place: Place, source: Source, found: Figures) -> None:
    before = context.known.figures.get(source.stream.stream_id)
    if before == found:
        return
    context.known.figures[source.stream.stream_id] = found
    was = None if before is None else before.oldest_unsaved_seconds
    if is_lagging(found.oldest_unsaved_seconds) != is_lagging(was):
        # Conditions follow from it.
        context.enqueue(Key("LogStream", *place), None)
    else:
        await write_figures(context, place, found)


async def figures(context: Context, source: Source) -> Figures:
    """Raises BusUnavailable, StoreUnavailable, NotFound."""
    topic = Topic(source.stream.topic, source.incarnation, source.partitions)
    async with (
        context.kafka.use(source.kafka, lambda: make_topics(source.kafka)) as topics,
        context.stores.use(source.store, lambda: make_store(source.store)) as store,
    ):
        # The journal first: what comes to its end meanwhile is then counted as waiting, not twice.
        snapshot = await make_journal(store).snapshot(topic)
        bounds = await topics.offsets(source.stream, source.partitions)
        waiting, oldest = 0, None
        for partition, bound in enumerate(bounds):
            first = max(bound.beginning, snapshot.last.get(partition, -1) + 1)
            if first < bound.end:
                rows, received_at = await _waiting(topics, topic.name, partition, first, bound.end)
                waiting += rows
                if received_at is not None:
                    oldest = received_at if oldest is None else min(oldest, received_at)
    stored = sum(outcome.stored for outcome in snapshot.totals.values())
    dead = sum(outcome.dead_lettered for outcome in snapshot.totals.values())
    repeated = sum(outcome.deduplicated for outcome in snapshot.totals.values())
    age = None if oldest is None else round(max(0.0, (context.clock.now_ns() - oldest) / NS_PER_SECOND), 1)
    return Figures(stored + dead + repeated + waiting, stored, dead, waiting, age)


async def _waiting(topics: Topics, name: str, partition: int, first: int, end: int) -> tuple[int, int | None]:
    """Log entries from `first` to `end`, and when the oldest was received (ns)."""
    rows, seen, oldest = 0, 0, None
    offset = first
    size = 0
    while offset < end and seen < _LOOKED_AT_RECORDS and size < _LOOKED_AT_BYTES:
        messages = await topics.read(name, partition, offset, max_bytes=_LOOKED_AT_BYTES)
        if not messages:
            break
        for message in messages:
            if message.offset >= end or seen >= _LOOKED_AT_RECORDS:
                break
            seen += 1
            size += len(message.value)
            try:
                header, _ = decode_block(message.value)
            except LogStreamError:
                # Not one of ours; the processor puts it aside.
                continue
            rows += header.rows
            oldest = header.received_at if oldest is None else min(oldest, header.received_at)
        offset = messages[-1].offset + 1
    await topics.leave(name, partition)
    left = end - first - seen
    return rows + (round(left * rows / seen) if seen and left > 0 else 0), oldest
