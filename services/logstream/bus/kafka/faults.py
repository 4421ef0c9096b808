"""librdkafka's errors as ours, and what is known about why the brokers cannot be reached."""

import threading
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from logstream.errors import BusUnavailable, Fenced, LogStreamError, NotFound, StartupError, TooLarge
from logstream.logs import get_logger

_UNKNOWN = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
})  # fmt: skip
_FENCED = frozenset({
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID,
    KafkaError.FENCED_MEMBER_EPOCH, KafkaError.STALE_MEMBER_EPOCH, KafkaError._ASSIGNMENT_LOST,
    KafkaError._FENCED,
})  # fmt: skip
_TOO_LARGE = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE,
})  # fmt: skip
_REPLICAS = frozenset({KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND})
_DENIED = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
})  # fmt: skip
_CREDENTIALS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
_AWAY = frozenset({
    KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT_QUEUE, KafkaError._RESOLVE,
})  # fmt: skip
MOMENTARY = frozenset({
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE, KafkaError._NOENT,
})  # fmt: skip
"""Brokers that are still telling each other: asked again within the request timeout."""
_REMEMBERED_SECONDS = 30.0


class Faults:
    """The latest failure of a connection, by kind: a question that timed out does not say why.

    Called from librdkafka's threads and ours.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._lock = threading.Lock()
        self._latest: tuple[float, KafkaError] | None = None
        self._logged_at = float("-inf")
        self._log = get_logger("bus")

    def note(self, error: KafkaError) -> None:
        """As librdkafka's `error_cb`."""
        now = time.monotonic()
        with self._lock:
            telling = self._telling(now)
            general = error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)
            # That all brokers are down follows from a reason, and says less.
            if not (general and telling is not None and telling.code() in (*_CREDENTIALS, KafkaError._SSL)):
                self._latest = (now, error)
            quiet = now - self._logged_at < 5.0
            if not quiet:
                self._logged_at = now
        if not quiet:
            self._log.warning("kafka_fault", reason=error.name(), error=error.str())

    def _telling(self, now: float) -> KafkaError | None:
        if self._latest is not None and now - self._latest[0] < _REMEMBERED_SECONDS:
            return self._latest[1]
        return None

    def clear(self) -> None:
        """The brokers answered."""
        with self._lock:
            self._latest = None

    def unreachable(self, what: str) -> BusUnavailable:
        """What to say when the brokers did not answer in time."""
        with self._lock:
            latest = self._telling(time.monotonic())
        if latest is None:
            return BusUnavailable(f"{what}: Kafka at {self._servers} did not answer in time", retry_after=2.0)
        if latest.code() in _CREDENTIALS:
            return BusUnavailable(
                f"{what}: Kafka at {self._servers} refused the credentials ({latest.str()})",
                retry_after=10.0, field="username",
            )  # fmt: skip
        if latest.code() == KafkaError._SSL:
            return BusUnavailable(
                f"{what}: no TLS connection to Kafka at {self._servers}: check ca_file, cert_file and the protocol"
                f" ({latest.str()})",
                retry_after=10.0, field="security_protocol",
            )  # fmt: skip
        return BusUnavailable(f"{what}: Kafka at {self._servers} cannot be reached ({latest.str()})", retry_after=2.0)

    def map(self, error: KafkaError, what: str) -> LogStreamError:
        """`error` as the exception to raise. what: what was being done, to begin the sentence with."""
        code = error.code()
        if code in _AWAY:
            return self.unreachable(what)
        if code in _UNKNOWN:
            return NotFound(f"{what}: there is no such topic or partition on Kafka")
        if code in _FENCED:
            return Fenced(f"{what}: another member of the group has the partition now ({error.name()})")
        if code in _TOO_LARGE:
            return TooLarge(f"{what}: larger than the topic's max.message.bytes", field="max.message.bytes")
        if code in _REPLICAS:
            return BusUnavailable(
                f"{what}: fewer replicas are in sync than min.insync.replicas asks for",
                retry_after=5.0, field="min.insync.replicas",
            )  # fmt: skip
        if code in _CREDENTIALS:
            return BusUnavailable(
                f"{what}: Kafka refused the credentials ({error.str()})", retry_after=10.0, field="username"
            )
        if code in _DENIED:
            return BusUnavailable(f"{what}: the user may not do this on Kafka ({error.name()})", retry_after=10.0)
        return BusUnavailable(f"{what}: {error.str()} ({error.name()})", retry_after=2.0)


def error_of(failure: BaseException) -> KafkaError | None:
    """The KafkaError that a KafkaException carries."""
    if isinstance(failure, KafkaException) and failure.args and isinstance(failure.args[0], KafkaError):
        return failure.args[0]
    return None


def started(make: Any, properties: Any) -> Any:
    """A client made by `make`. Raises StartupError when its properties are of no use."""
    try:
        return make(properties)
    except KafkaException as error:
        fault = error_of(error)
        raise StartupError(f"the settings of Kafka (LOGSTREAM_KAFKA_…): {fault.str() if fault else error}") from None
    except (ValueError, TypeError) as error:
        raise StartupError(f"the settings of Kafka (LOGSTREAM_KAFKA_…): {error}") from None
