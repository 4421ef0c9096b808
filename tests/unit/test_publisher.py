"""Group commit: what is joined, what fails together, what is answered when."""

import asyncio

import pytest

from logstream.bus.header import Header, Segment
from logstream.bus.protocol import Bus, Claim, Published
from logstream.clock import ManualClock
from logstream.collector.publisher import Publisher
from logstream.errors import BusFull, BusUnavailable, LogStreamError, ShuttingDown
from logstream.record import Batch, Record
from logstream.storage import block


class MemoryBus:
    """Keeps what is published; waits or fails when told to."""

    def __init__(self) -> None:
        self.records: list[tuple[Header, list[Record]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: BaseException | None = None

    async def publish(self, topic: str, header: Header, payload: bytes, *, claim: Claim | None = None) -> Published:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.records.append((header, list(block.decode(payload, header.rows))))
        return Published(0, len(self.records) - 1)


def publisher(bus: MemoryBus, *, rows: int = 100, seconds: float = 0.001, timeout: float = 5.0) -> Publisher:
    as_bus: Bus = bus  # type: ignore[assignment]  # publishing is all that is used
    return Publisher(as_bus, "topic", ManualClock(), flush_rows=rows, flush_seconds=seconds, timeout_seconds=timeout)


def batch(*messages: str) -> Batch:
    return Batch.of([Record(i, "s", 3, message) for i, message in enumerate(messages)])


async def test_requests_of_one_moment_are_one_record() -> None:
    bus = MemoryBus()
    group = publisher(bus)
    answers = [group.join(batch("a"), "k1"), group.join(batch("b", "c"), "k1"), group.join(batch("d"), "k2")]
    assert await asyncio.gather(*answers) == [None, None, None]
    [(header, records)] = bus.records
    assert [r.message for r in records] == ["a", "b", "c", "d"]
    assert header.segments == (Segment("k1", 3), Segment("k2", 1))
    assert (header.rows, header.min_timestamp, header.max_timestamp) == (4, 0, 1)
    assert header.received_at == ManualClock().now_ns()


async def test_a_full_block_does_not_wait() -> None:
    bus = MemoryBus()
    group = publisher(bus, rows=2, seconds=1000)
    assert not group.is_small(1)
    await asyncio.wait_for(asyncio.gather(group.join(batch("a"), "k"), group.join(batch("b"), "k")), 5)
    assert [len(records) for _, records in bus.records] == [2]


async def test_nothing_is_answered_before_the_log_has_it() -> None:
    bus = MemoryBus()
    bus.open.clear()
    group = publisher(bus, seconds=0)
    first = group.join(batch("a"), "k")
    await asyncio.sleep(0.01)
    second = group.join(batch("b"), "k")  # gathers while the first is under way
    await asyncio.sleep(0.01)
    assert not first.done()
    assert not second.done()
    bus.open.set()
    assert await asyncio.gather(first, second) == [None, None]
    assert len(bus.records) == 2


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(BusFull("full"), BusFull), (BusUnavailable("away"), BusUnavailable), (ValueError("?"), BusUnavailable)],
)
async def test_a_failure_is_everybodys(failure: Exception, expected: type[LogStreamError]) -> None:
    bus = MemoryBus()
    bus.failure = failure
    group = publisher(bus)
    answers = await asyncio.gather(group.join(batch("a"), "k"), group.join(batch("b"), "k"))
    assert [type(answer) for answer in answers] == [expected, expected]
    bus.failure = None
    assert await group.join(batch("c"), "k") is None


async def test_a_log_that_does_not_answer() -> None:
    bus = MemoryBus()
    bus.open.clear()
    group = publisher(bus, timeout=0.01)
    answer = await group.join(batch("a"), "k")
    assert isinstance(answer, BusUnavailable)
    assert answer.field == "publish_timeout_seconds"
    with pytest.raises(BusUnavailable):
        await group.publish(block.encode(batch("a")), rows=1, low=0, high=0, key_id="k", received_at=0, claim=None)


async def test_a_cancelled_flush_is_no_success() -> None:
    bus = MemoryBus()
    bus.open.clear()
    group = publisher(bus, seconds=0)
    answer = group.join(batch("a"), "k")
    await asyncio.sleep(0.01)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    assert isinstance(await answer, BusUnavailable)


async def test_a_block_of_its_own_carries_its_claim() -> None:
    bus = MemoryBus()
    claim = Claim(b"k" * 16, b"f" * 16)
    body = block.encode(batch("a"))
    published = await publisher(bus).publish(body, rows=1, low=3, high=4, key_id="k", received_at=5, claim=claim)
    assert published == Published(0, 0)
    [(header, _)] = bus.records
    assert header == Header(1, 5, 3, 4, (Segment("k", 1),), claim.key, fingerprint=claim.fingerprint)


async def test_closing_publishes_what_waits_and_takes_no_more() -> None:
    bus = MemoryBus()
    group = publisher(bus, seconds=1000)
    answer = group.join(batch("a"), "k")
    await group.close()
    assert answer.result() is None
    assert len(bus.records) == 1
    with pytest.raises(ShuttingDown):
        group.join(batch("b"), "k")
    with pytest.raises(ShuttingDown):
        await group.publish(b"", rows=1, low=0, high=0, key_id="k", received_at=0, claim=None)
