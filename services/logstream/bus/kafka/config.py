"""Settings as librdkafka's properties."""

from collections.abc import Callable

from confluent_kafka import KafkaError

from logstream.settings import MIB, KafkaSettings

Properties = dict[str, str | int | float | bool | Callable[[KafkaError], None]]

DAY_MS = 86_400_000
_FRAME_BYTES = 64 * 1024
"""What a request or an answer may hold beside records."""
_LETTER_BYTES = 64 * 1024
"""What a dead letter may hold beside its record."""
_REQUEST_BYTES = 95 * MIB
"""Kafka's own limit of a request is 100 MiB (socket.request.max.bytes)."""


def client(settings: KafkaSettings, *, on_error: Callable[[KafkaError], None]) -> Properties:
    """What every client is made with. on_error: called in a thread of the client's when its connections fail."""
    timeout_ms = int(settings.request_timeout_seconds * 1000)
    properties: Properties = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "logstream",
        "security.protocol": settings.security_protocol,
        "socket.timeout.ms": timeout_ms,
        "socket.connection.setup.timeout.ms": timeout_ms,
        # As fast as a broker comes back, not as librdkafka's ten seconds would have it.
        "reconnect.backoff.max.ms": 2_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        "error_cb": on_error,
        # It would say the same several times a second; `faults` tells it once.
        "log_level": 2,
    }
    if settings.security_protocol.startswith("SASL"):
        properties |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.username,
            "sasl.password": settings.password.get_secret_value(),
        }
    if settings.security_protocol.endswith("SSL"):
        if settings.ca_file is not None:
            properties["ssl.ca.location"] = str(settings.ca_file)
        if settings.cert_file is not None and settings.key_file is not None:
            properties |= {
                "ssl.certificate.location": str(settings.cert_file),
                "ssl.key.location": str(settings.key_file),
            }
        if settings.key_password.get_secret_value():
            properties["ssl.key.password"] = settings.key_password.get_secret_value()
    return properties


def largest(settings: KafkaSettings, *, letters: bool) -> int:
    """Bytes of the largest record of a topic. A dead letter holds a whole record as base64, in JSON."""
    size = settings.max_record_bytes
    return min(_REQUEST_BYTES, size * 4 // 3 + _LETTER_BYTES) if letters else size


def producer(settings: KafkaSettings) -> Properties:
    """Beside those of `client`."""
    return {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": settings.compression,
        # The collector has joined what came together already.
        "linger.ms": 1,
        "batch.size": MIB,
        "message.max.bytes": largest(settings, letters=True) + _FRAME_BYTES,
        "delivery.timeout.ms": int(settings.delivery_timeout_seconds * 1000),
        # Ours is the bound that counts; these only must not be smaller.
        "queue.buffering.max.kbytes": 2 * (settings.max_queued_bytes + largest(settings, letters=True)) // 1024,
        "queue.buffering.max.messages": 1_000_000,
    }


def reader(settings: KafkaSettings, *, buffer_bytes: int) -> Properties:
    """Beside those of `client`, for one that reads the partitions it is told. buffer_bytes: read ahead, of all."""
    return {
        # Never used: positions are committed by members of groups only.
        "group.id": "logstream.reader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        # Marks of transactions and what compaction took have offsets and are never handed out: so their end is known.
        "enable.partition.eof": True,
        # What we acknowledged must not wait for somebody else's transaction to end.
        "isolation.level": "read_uncommitted",
        # Not "check.crcs": librdkafka 2.16 aborts the process at a wrong checksum (seen with a batch spoilt on the
        # broker's disk), and so would every process that reads the topic, again and again.
        "check.crcs": False,
        "queued.max.messages.kbytes": max(1024, buffer_bytes // 2 // 1024),
        "fetch.queue.backoff.ms": 10,
        # How long one more partition waits for the answer to a question about the others.
        "fetch.wait.max.ms": 200,
        # Of a partition, in one answer. What of it comes when the partition is paused is dropped, and asked for again.
        "fetch.message.max.bytes": MIB // 2,
        "fetch.max.bytes": settings.max_record_bytes + _FRAME_BYTES,
        "message.max.bytes": settings.max_record_bytes,
        # A topic may hold larger records than the settings say, and one alone is handed out whatever its size.
        "receive.message.max.bytes": settings.max_record_bytes + 2 * _REQUEST_BYTES,
    }


def member(settings: KafkaSettings, group: str) -> Properties:
    """Beside those of `client`, for a member of `group`, which reads nothing."""
    return {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(settings.session_timeout_seconds * 1000),
        "heartbeat.interval.ms": int(min(3.0, settings.session_timeout_seconds / 3) * 1000),
        "max.poll.interval.ms": int(max(settings.rebalance_timeout_seconds, settings.session_timeout_seconds) * 1000),
        "queued.max.messages.kbytes": 1024,
    }


def topic(settings: KafkaSettings, *, letters: bool, retention_days: int | None = None) -> dict[str, str]:
    """What a topic is made with. retention_days: instead of what the settings say."""
    hours = settings.dead_letter_retention_hours if letters else settings.retention_hours
    milliseconds = int(hours * 3_600_000) if retention_days is None else retention_days * DAY_MS
    return {
        "max.message.bytes": str(largest(settings, letters=letters) + _FRAME_BYTES),
        "retention.ms": str(milliseconds),
        "min.insync.replicas": str(settings.min_insync_replicas),
        "cleanup.policy": "delete",
    }
