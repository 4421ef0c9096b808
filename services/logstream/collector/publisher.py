"""Group commit: small requests of one moment share one block, one record on the bus, one fsync.

A request is answered only after `Bus.publish` has returned for the record that holds its rows; when that
fails, all requests in it fail alike. What waits is bounded by the collector's budget of pending bytes.
"""

import asyncio
from dataclasses import dataclass, field

from logstream.bus.header import NO_KEY, Header, segments_of
from logstream.bus.protocol import Bus, Claim, Published
from logstream.clock import Clock
from logstream.errors import BusUnavailable, KeyReused, LogStreamError, NotFound, ShuttingDown, TooLarge, Unavailable
from logstream.logs import get_logger
from logstream.record import Batch
from logstream.settings import MIB
from logstream.storage import block

_log = get_logger("collector")

_ENCODE_FROM = 100
"""Rows from which the encoder's fixed costs do not matter."""
_SETTLE_BYTES = MIB
_TELL_SECONDS = 5.0
"""A condition that meets every request is logged no more often."""
_FLUSH_BYTES = 8 * MIB
"""A block is published when it is this large, however few its rows: it must stay within one INSERT."""


@dataclass(slots=True)
class _Group:
    """Requests that wait together."""

    builder: block.Builder = field(default_factory=block.Builder)
    few: list[Batch] = field(default_factory=list)
    """Batches too short to be worth encoding one by one."""
    few_size: int = 0
    senders: list[tuple[str, int]] = field(default_factory=list)
    answers: list["asyncio.Future[LogStreamError | None]"] = field(default_factory=list)
    rows: int = 0

    def add(self, batch: Batch, key_id: str) -> None:
        """Take in the rows; they are encoded while they are in the processor's cache, and need not be kept."""
        if len(batch) < _ENCODE_FROM:
            self.few.append(batch)
            self.few_size += _text_size(batch)
            if self.few_size > _SETTLE_BYTES:
                self.settle()
        else:
            self.settle()
            self.builder.add(batch)
        self.senders.append((key_id, len(batch)))
        self.rows += len(batch)

    def settle(self) -> None:
        """Encode what was too short alone."""
        if self.few:
            self.builder.add(Batch.join(self.few))
            self.few = []
            self.few_size = 0

    def is_large(self) -> bool:
        """Whether it holds enough bytes for one block."""
        return self.builder.size + self.few_size >= _FLUSH_BYTES


def _text_size(batch: Batch) -> int:
    """Characters of messages and metadata: nested names, written out, may be many times what was sent."""
    size = sum(map(len, batch.messages))
    for metadata in batch.metadata:
        size += sum(map(len, metadata)) + sum(map(len, metadata.values()))
    return size


def _bare(error: LogStreamError) -> LogStreamError:
    """`error` without what led to it, whose frames hold the rows, and it: a cycle that only the garbage collector
    would find, and while the log is away each refused block would stay until then."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


class Publisher:
    """Publishes for one topic. Everything runs on one event loop."""

    def __init__(
        self, bus: Bus, topic: str, clock: Clock, *, flush_rows: int, flush_seconds: float, timeout_seconds: float
    ) -> None:
        self._bus = bus
        self.topic = topic
        self._clock = clock
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._timeout = timeout_seconds
        self._group = _Group()
        self._timer: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._closed = False
        self._told_at = float("-inf")

    def is_small(self, rows: int) -> bool:
        """Whether a request of this size should be joined with others."""
        return rows * 2 < self._flush_rows

    def join(self, batch: Batch, key_id: str) -> "asyncio.Future[LogStreamError | None]":
        """Add the rows to the block being gathered.

        The future's result is None once they are durable, or the error because of which they may not be
        (BusUnavailable, BusFull …), for the caller to raise. Raises ShuttingDown.
        """
        if self._closed:
            raise ShuttingDown("the collector is shutting down")
        loop = asyncio.get_running_loop()
        group = self._group
        answer = loop.create_future()
        group.add(batch, key_id)
        group.answers.append(answer)
        if group.rows >= self._flush_rows or group.is_large():
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._flush_seconds, self._flush)
        return answer

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._group.answers:
            group, self._group = self._group, _Group()
            task = asyncio.get_running_loop().create_task(self._publish_group(group))
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)

    async def _publish_group(self, group: _Group) -> None:
        failure: LogStreamError | None = None
        try:
            group.settle()
            if group.builder.rows != group.rows:
                # Taking in a batch failed halfway: what is here may be no block.
                raise RuntimeError("the block has other rows than were sent")
            header = Header(
                rows=group.rows,
                received_at=self._clock.now_ns(),
                min_timestamp=group.builder.low,
                max_timestamp=group.builder.high,
                segments=segments_of(group.senders),
            )
            await self._publish(header, group.builder.body(), None)
        except LogStreamError as error:
            failure = _bare(error)
        except BaseException as error:
            # Cancellation too: no request is left waiting, and none is told that its rows are safe.
            failure = BusUnavailable(f"the log failed unexpectedly: {type(error).__name__}")
            if not isinstance(error, Exception):
                raise
            _log.exception("flush failed", rows=group.rows)
        finally:
            for answer in group.answers:
                if not answer.done():
                    answer.set_result(failure)

    async def publish(
        self, body: bytes, *, rows: int, low: int, high: int, key_id: str, received_at: int, claim: Claim | None
    ) -> Published:
        """Publish an encoded block as a record of its own.

        low, high: smallest and largest timestamp, ns.
        Raises BusUnavailable, BusFull, KeyReused, TooLarge, ShuttingDown.
        """
        if self._closed:
            raise ShuttingDown("the collector is shutting down")
        header = Header(
            rows=rows,
            received_at=received_at,
            min_timestamp=low,
            max_timestamp=high,
            segments=segments_of([(key_id, rows)]),
            idempotency_key=claim.key if claim is not None else NO_KEY,
            fingerprint=claim.fingerprint if claim is not None else NO_KEY,
        )
        return await self._publish(header, body, claim)

    async def _publish(self, header: Header, body: bytes, claim: Claim | None) -> Published:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._bus.publish(self.topic, header, body, claim=claim)
        except (Unavailable, KeyReused, TooLarge):
            raise
        except NotFound as error:
            # Somebody deleted it. Processors make it again, and senders must not take that for their mistake.
            self._tell_missing(error.message)
            raise BusUnavailable("the stream's topic is not there now; it is made again", retry_after=5.0) from error
        except TimeoutError:
            raise BusUnavailable(
                f"the log did not answer within {self._timeout:g} seconds; the records may have been stored",
                field="publish_timeout_seconds",
                limit=self._timeout,
            ) from None
        except Exception as error:
            # Whatever it is, the sender's request was in order, and it is not known to be stored.
            _log.exception("publish failed", rows=header.rows)
            raise BusUnavailable(f"the log failed unexpectedly: {type(error).__name__}") from error

    def _tell_missing(self, reason: str) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            _log.error("topic_missing", topic=self.topic, reason=reason)

    async def close(self) -> None:
        """Publish what waits, then take no more."""
        self._closed = True
        self._flush()
        while self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)
