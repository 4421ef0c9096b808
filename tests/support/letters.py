"""Dead letters made by hand, and a look at what their replays did."""

from collections import Counter
from collections.abc import Sequence

from logstream.bus.header import Header, MalformedRecord, decode
from logstream.bus.protocol import Bus, Journal, Message
from logstream.clock import NS_PER_SECOND, Clock
from logstream.letters.format import LetterId
from logstream.letters.replay import Replayer
from logstream.processor.letter import Letter
from logstream.record import Batch, Record
from logstream.settings import IngestLimits, KafkaSettings
from logstream.storage.block import decode as decode_block
from logstream.storage.block import encode
from logstream.stream import Stream


async def open_kafka(bootstrap: str, clock: Clock, *, journal: Journal | None = None) -> Bus:
    """A bus on a broker of tests."""
    from logstream.bus.kafka import KafkaBus

    settings = KafkaSettings(bootstrap_servers=bootstrap, partitions=1, replication_factor=1, min_insync_replicas=1)
    return await KafkaBus.open(settings, clock, journal=journal)


def letter(stream: Stream, clock: Clock, number: int, **changes: object) -> Letter:
    """A letter of one row, "poison NUMBER", which stood at offset NUMBER of partition 0."""
    record = Record(1_000 + number, "s", 3, f"poison {number}", {"n": str(number)})
    fields: dict[str, object] = {
        "stream": stream.name, "incarnation": 7, "partition": 0, "offset": number, "row": 0, "rows": 1,
        "key_id": "key1", "received_at": clock.now_ns(), "died_at": clock.now_ns(), "reason": "Constraint violated",
        "clickhouse_code": 469, "raw": encode(Batch.of([record])), "record": record,
    }  # fmt: skip
    return Letter(**fields | changes)  # type: ignore[arg-type]


async def put(bus: Bus, stream: Stream, *letters: Letter) -> list[LetterId]:
    """Where the letters went; without the processor's claims, as on a bus that forgot them."""
    places = []
    for each in letters:
        published = await bus.publish(stream.dead_letter_topic, each.header(), each.payload(), partition=each.partition)
        places.append(LetterId(published.partition, published.offset))
    return places


async def records_of(bus: Bus, topic: str, partition: int = 0) -> list[Message]:
    """All records of a partition."""
    found: list[Message] = []
    offsets = await bus.offsets(topic, partition)
    at = offsets.beginning
    while at < offsets.end and (read := await bus.read(topic, partition, at, max_bytes=1 << 20, wait=2)):
        found += read
        at = read[-1].offset + 1
    return found


def rows_of(messages: Sequence[Message]) -> Counter[str]:
    """Messages of the rows that a processor would store: each claim once."""
    seen: set[tuple[bytes, bytes]] = set()
    rows: Counter[str] = Counter()
    for message in messages:
        head, payload = _decode(message)
        claim = (head.idempotency_key, head.fingerprint)
        if any(claim[0]) and claim in seen:
            continue
        seen.add(claim)
        rows.update(record.message for record in decode_block(payload, head.rows))
    return rows


def _decode(message: Message) -> tuple[Header, memoryview]:
    try:
        return decode(message.value)
    except MalformedRecord as error:
        raise AssertionError(f"record {message.offset} cannot be read") from error


class Crash(Exception):
    """The process is gone."""


class Mortal(Replayer):
    """Ends before the first row, after some rows, or before they are written down."""

    def __init__(self, other: Replayer, step: str) -> None:
        super().__init__(other._box, IngestLimits(), lease_seconds=other._lease_ns / NS_PER_SECOND)
        self._step = step

    async def _send(self, partition, ready, claimed):  # type: ignore[no-untyped-def]
        if self._step == "send":
            raise Crash
        if self._step == "some":
            await super()._send(partition, dict(list(ready.items())[:2]), claimed)
            raise Crash
        return await super()._send(partition, ready, claimed)

    async def _arrived(self, partition, arrived, claimed):  # type: ignore[no-untyped-def]
        if self._step == "arrived":
            raise Crash
        await super()._arrived(partition, arrived, claimed)
