"""What a partition's worker has read from the log and not yet brought to its end."""

import asyncio
import contextlib
from collections.abc import Sequence

from logstream import metrics
from logstream.bus.protocol import Consumer
from logstream.errors import BusUnavailable, OffsetOutOfRange
from logstream.logs import get_logger
from logstream.processor.budget import Account
from logstream.processor.health import Health
from logstream.processor.plan import Item, item_of
from logstream.processor.retry import Stopped, sleep, unless_stopped
from logstream.settings import MIB, ProcessorSettings

_READ_BYTES = 8 * MIB
_IDLE_SECONDS = 60.0


class Intake:
    """Records of one partition, in order; offsets may have gaps. Memory: as `account` allows, and one record."""

    def __init__(
        self,
        settings: ProcessorSettings,
        consumer: Consumer,
        partition: int,
        *,
        stream: str,
        account: Account,
        health: Health,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._partition = partition
        self._stream = stream
        self._account = account
        self._health = health
        self._stop = stop
        self._log = get_logger("processor").bind(stream=stream, partition=partition)
        self._newer = False
        self._waits = False
        self.items: list[Item] = []
        self.rows = 0
        self.position = 0
        """The next offset to read."""

    @property
    def bytes(self) -> int:
        return self._account.held

    @property
    def full(self) -> bool:
        """Whether there is one INSERT's worth, or no room for more."""
        return (
            self._newer
            or self.rows >= self._settings.max_rows
            or self.bytes >= self._settings.max_bytes
            or self._account.room <= 0
        )

    @property
    def _step(self) -> int:
        return min(_READ_BYTES, self._settings.max_bytes, max(1, self._account.room))

    async def wait(self) -> None:
        """Until there is a record, or until it shall stop. Raises what `read` raises."""
        with contextlib.suppress(Stopped):
            # A log that was closed answers at once, before what waits for it can be cancelled.
            while not self.items and not self._stop.is_set():
                # Of a sleeping partition nothing is reserved: it takes the first record, whatever its size.
                await unless_stopped(self.read(1, wait=_IDLE_SECONDS), self._stop)

    async def fill(self) -> None:
        """Read what the log has now, up to one INSERT's worth."""
        while not self.full and await self.read(self._step):
            pass

    async def fill_beyond(self, items: Sequence[Item]) -> None:
        """Read up to one INSERT's worth behind `items`."""
        held_rows, held_bytes = sum(item.rows for item in items), sum(len(item.value) for item in items)
        while (
            not self._stop.is_set()
            and not self._newer
            and self.rows - held_rows < self._settings.max_rows
            and self.bytes - held_bytes < self._settings.max_bytes
            and self._account.room > 0
            and await self.read(self._step)
        ):
            pass

    async def read(self, max_bytes: int, wait: float = 0.0) -> bool:
        """Take records from the log; whether there were any. A log that is away is asked again, after a pause.

        Records that the log lost are counted and passed. Raises Fenced, NotFound.
        """
        try:
            messages = await self._consumer.read(self._partition, self.position, max_bytes=max_bytes, wait=wait)
        except BusUnavailable as error:
            self._report("log_unavailable", error.message)
            await sleep(self._settings.retry_seconds, self._stop)
            return False
        except OffsetOutOfRange as error:
            await self._out_of_range(error)
            return False
        if self._waits:
            self._waits = False
            self._health.clear(self._stream, self._partition)
        for message in messages:
            item = item_of(message)
            self._newer = self._newer or item.newer
            self.items.append(item)
            self.rows += item.rows
            self._account.take(len(item.value))
            self.position = item.offset + 1
        return bool(messages)

    async def _out_of_range(self, error: OffsetOutOfRange) -> None:
        if self.position < error.beginning:
            # The log keeps what was not committed, as long as it may: it was told to forget, or it is damaged.
            self._log.error("records_lost", first=self.position, last=error.beginning - 1)
            metrics.PROCESSOR_LOST.labels(self._stream).inc(error.beginning - self.position)
            self.position = error.beginning
            return
        # Going on at the end would give new records the identity of stored ones.
        self._report(
            "log_ends_early",
            f"the log ends at offset {error.end}, but everything before {self.position} was stored or planned: it lost "
            "records. Wait until it is whole again, or make the topic anew",
        )
        await sleep(max(1.0, self._settings.retry_seconds), self._stop)

    async def newer(self) -> None:
        """A record at hand is of a newer format: say so, and wait. Raises Stopped."""
        item = next(item for item in self.items if item.newer)
        self._report("newer_version", f"offset {item.offset}: {item.reason}")
        await self._stop.wait()
        raise Stopped

    def _report(self, code: str, message: str) -> None:
        self._waits = True
        if self._health.report(self._stream, self._partition, code, message):
            self._log.error(code, reason=message)

    def forget(self, count: int) -> None:
        """The first `count` came to their end."""
        for item in self.items[:count]:
            self.rows -= item.rows
            self._account.give(len(item.value))
        del self.items[:count]

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.items.clear()
        self.rows = 0
        self._account.close()
