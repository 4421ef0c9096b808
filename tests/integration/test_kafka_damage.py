"""A topic whose bytes were damaged on the broker's disk: what can be read is read, what cannot is told."""

import asyncio
import struct
import uuid
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.support.kafka import Kafka

from logstream.bus.header import Header, Segment, decode
from logstream.bus.kafka import KafkaBus
from logstream.bus.known import read_known
from logstream.bus.protocol import Message
from logstream.clock import SystemClock
from logstream.errors import BusUnavailable
from logstream.settings import MIB, KafkaSettings

HEADER = Header(1, 1, 1, 1, (Segment("key1", 1),))
_LENGTH = struct.Struct(">qi")
_CRC_AT, _CHECKED_FROM, _RECORDS_FROM = 17, 21, 61
"""In a batch (KIP-98): the checksum, what it covers, the compressed records."""


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def damage(segment: Path, offset: int, *, checked: bool) -> None:
    """Spoil the batch that begins at `offset`; checked: its checksum fits, only its compression does not."""
    data = bytearray(segment.read_bytes())
    at = 0
    while _LENGTH.unpack_from(data, at)[0] != offset:
        at += _LENGTH.size + _LENGTH.unpack_from(data, at)[1]
    end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[1]
    data[at + _RECORDS_FROM : end] = b"\xa5" * (end - at - _RECORDS_FROM)
    if checked:
        struct.pack_into(">I", data, at + _CRC_AT, crc32c(bytes(data[at + _CHECKED_FROM : end])))
    segment.write_bytes(data)


async def with_damage(kafka: Kafka, offset: int, *, checked: bool) -> tuple[KafkaSettings, str]:
    """A topic of five records, one of which is spoilt."""
    topic = f"logstream.it-{uuid.uuid4().hex[:12]}"
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, replication_factor=1, min_insync_replicas=1,
        session_timeout_seconds=6, request_timeout_seconds=5, delivery_timeout_seconds=4,
    )  # fmt: skip
    bus = await KafkaBus.open(settings, SystemClock())
    try:
        await bus.create_topic(topic, partitions=1)
        for number in range(5):
            await bus.publish(topic, HEADER, b"%d" % number * 500)
    finally:
        await bus.close()
    await asyncio.to_thread(kafka.stop)
    [segment] = kafka._log.parent.rglob(f"{topic}-0/*.log")
    damage(segment, offset, checked=checked)
    await asyncio.to_thread(kafka.start)
    return settings, topic


@pytest.mark.parametrize("checked", [True, False], ids=["compression", "checksum"])
async def test_a_damaged_batch_is_told_and_its_neighbours_are_read(own_kafka: Kafka, checked: bool) -> None:
    settings, topic = await with_damage(own_kafka, 2, checked=checked)
    bus = await KafkaBus.open(settings, SystemClock())
    try:
        found: list[Message] = []
        at = 0
        async with asyncio.timeout(60):
            while at < 5:
                try:
                    messages = await bus.read(topic, 0, at, max_bytes=MIB, wait=1)
                except BusUnavailable:
                    continue
                found += messages
                at = found[-1].offset + 1 if found else 0
        assert [m.offset for m in found] == [0, 1, 3, 4]
        assert decode(found[2].value)[1] == b"3" * 500
    finally:
        await bus.close()


async def test_a_damaged_batch_at_the_end_is_told_and_does_not_stop_who_reads_up_to_it(own_kafka: Kafka) -> None:
    settings, topic = await with_damage(own_kafka, 4, checked=True)
    bus = await KafkaBus.open(settings, SystemClock())
    try:
        found = list(await read_known(bus, topic, 0, 3, max_bytes=MIB))
        if len(found) == 1:
            found += await read_known(bus, topic, 0, 4, max_bytes=MIB)
        assert [(m.offset, bool(m.value)) for m in found] == [(3, True), (4, False)]
        assert REGISTRY.get_sample_value("logstream_bus_unreadable_offsets_total", {"topic": topic}) == 1
        # What comes later is read where it lies.
        assert (await bus.publish(topic, HEADER, b"5")).offset == 5
        assert [m.offset for m in await read_known(bus, topic, 0, 5, max_bytes=MIB)] == [5]
    finally:
        await bus.close()
