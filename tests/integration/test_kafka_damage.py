"""A topic whose bytes were damaged on the broker's disk: what can be read is read, what cannot is told."""

import asyncio
import struct
import uuid
from pathlib import Path

import pytest
from tests.support.kafka import Kafka

from logstream.bus.header import Header, Segment, decode
from logstream.bus.kafka import KafkaBus
from logstream.bus.protocol import Message
from logstream.clock import SystemClock
from logstream.errors import BusUnavailable
from logstream.settings import MIB, KafkaSettings

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


@pytest.mark.parametrize("checked", [True, False], ids=["compression", "checksum"])
async def test_a_damaged_batch_is_told_and_its_neighbours_are_read(own_kafka: Kafka, checked: bool) -> None:
    topic = f"logstream.it-{uuid.uuid4().hex[:12]}"
    settings = KafkaSettings(
        bootstrap_servers=own_kafka.bootstrap, replication_factor=1, min_insync_replicas=1,
        session_timeout_seconds=6, request_timeout_seconds=5, delivery_timeout_seconds=4,
    )  # fmt: skip
    header = Header(1, 1, 1, 1, (Segment("key1", 1),))
    bus = await KafkaBus.open(settings, SystemClock())
    try:
        await bus.create_topic(topic, partitions=1)
        for number in range(5):
            await bus.publish(topic, header, b"%d" % number * 500)
    finally:
        await bus.close()
    await asyncio.to_thread(own_kafka.stop)
    [segment] = own_kafka._log.parent.rglob(f"{topic}-0/*.log")
    damage(segment, 2, checked=checked)
    await asyncio.to_thread(own_kafka.start)

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
