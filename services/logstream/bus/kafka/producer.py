"""Appending: librdkafka's idempotent producer, bounded in bytes, its answers handed to the event loop."""

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from logstream import metrics
from logstream.bus.kafka import config
from logstream.bus.kafka.faults import Faults, error_of, started
from logstream.bus.kafka.stranded import Stranded
from logstream.bus.protocol import DEAD_LETTERS, Published
from logstream.errors import BusFull, BusUnavailable, LogStreamError, TooLarge
from logstream.logs import get_logger
from logstream.settings import KafkaSettings

_POLL_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Waiting:
    """One record that the broker has not answered for."""

    answer: "asyncio.Future[Published]"
    producer: Producer
    topic: str
    size: int
    began: float


@dataclass(frozen=True, slots=True)
class _Settled:
    waiting: _Waiting
    partition: int
    offset: int
    error: KafkaError | None


class Appender:
    """Used from one event loop. Records are handed out in the order of `append`, partition by partition."""

    def __init__(self, settings: KafkaSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._properties = config.client(settings, on_error=faults.note) | config.producer(settings)
        self._producer, self._stranded = self._start()
        self._queued_bytes = 0
        self._queued = 0
        self._idle: asyncio.Future[None] | None = None
        self._lock = threading.Lock()
        self._settled: list[_Settled] = []
        self._stop = False
        self._log = get_logger("bus")
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)
        self._thread.start()

    def _start(self) -> tuple[Producer, Stranded]:
        stranded = Stranded()
        return started(Producer, self._properties | stranded.properties), stranded

    def require_room(self, size: int) -> None:
        """Raises BusFull when `size` more bytes would be too many to wait for the broker."""
        limit = self._settings.max_queued_bytes
        if self._stop:
            raise BusUnavailable("the log is closed")
        if self._queued_bytes and self._queued_bytes + size > limit:
            raise BusFull(
                f"{self._queued_bytes} bytes wait for Kafka's answer, the limit is {limit}",
                retry_after=2.0, field="max_queued_bytes", limit=limit,
            )  # fmt: skip

    async def append(self, topic: str, partition: int, value: bytes) -> Published:
        """Returns once all replicas that must have the record have it.

        Raises TooLarge, BusFull, NotFound, BusUnavailable; the last one, which comes within the delivery
        timeout, leaves it open whether the record was appended.
        """
        size = len(value)
        limit = config.largest(self._settings, letters=topic.endswith(DEAD_LETTERS))
        if size > limit:
            raise TooLarge(
                f"a record of {size} bytes is larger than the log takes: send several requests",
                field="max_record_bytes", limit=limit,
            )  # fmt: skip
        self.require_room(size)
        producer = self._producer
        waiting = _Waiting(self._loop.create_future(), producer, topic, size, time.perf_counter())
        try:
            producer.produce(topic, value, partition=partition, on_delivery=partial(self._delivered, waiting))
        except BufferError:
            raise BusFull("too many records wait for Kafka's answer", retry_after=2.0) from None
        except KafkaException as failure:
            error = error_of(failure)
            if error is not None:
                self._replace_broken(producer, error)
            raise self._failure(topic, partition, error) from failure
        self._queued_bytes += size
        self._queued += 1
        try:
            return await waiting.answer
        finally:
            # A failure's traceback holds this frame, and the record: it must not hold the failure, too.
            del waiting

    def _failure(self, topic: str, partition: int, error: KafkaError | None) -> LogStreamError:
        what = f"appending to {topic!r}/{partition}"
        return self._faults.map(error, what) if error is not None else BusUnavailable(f"{what} failed")

    def _replace_broken(self, producer: Producer, error: KafkaError) -> None:
        """After an error that librdkafka's producer does not recover from; what waits there fails by itself.

        Only some ways of being told of it mark the error as fatal; others have a code for it.
        """
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._replace(producer, reason=error.name(), error=error.str())

    def _replace(self, producer: Producer, *, reason: str, error: str = "") -> None:
        if producer is not self._producer:
            return
        self._log.error("kafka_producer_replaced", reason=reason, error=error)
        metrics.BUS_CLIENTS_RENEWED.labels("producer").inc()
        self._producer, self._stranded = self._start()

    # In librdkafka's callbacks, that is in our thread

    def _run(self) -> None:
        producer = self._producer
        while not self._stop:
            self._poll(producer, _POLL_SECONDS)
            if producer is not self._producer:
                # Its answers are due within the delivery timeout, and are not to be lost.
                ends = time.monotonic() + self._settings.delivery_timeout_seconds + 1.0
                while len(producer) and time.monotonic() < ends and not self._stop:
                    self._poll(producer, 0.1)
                producer = self._producer

    def _poll(self, producer: Producer, seconds: float) -> None:
        try:
            producer.poll(seconds)
        except KafkaException as failure:
            # That it is broken is raised here, whoever asks. Answers go on coming.
            error = error_of(failure)
            if error is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._replace_broken, producer, error)
        if producer is self._producer and self._stranded.is_so:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(partial(self._replace, producer, reason="lost every broker"))

    def _delivered(self, waiting: _Waiting, error: KafkaError | None, message: Message) -> None:
        settled = _Settled(waiting, message.partition() or 0, message.offset() or 0, error)
        with self._lock:
            self._settled.append(settled)
            first = len(self._settled) == 1
        if first:
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                return

    # In the event loop

    def _answer(self) -> None:
        with self._lock:
            settled, self._settled = self._settled, []
        now = time.perf_counter()
        for done in settled:
            waiting = done.waiting
            self._queued_bytes -= waiting.size
            self._queued -= 1
            if done.error is None:
                metrics.BUS_APPENDED_BYTES.labels(waiting.topic).inc(waiting.size)
                metrics.BUS_APPEND_SECONDS.observe(now - waiting.began)
            else:
                self._replace_broken(waiting.producer, done.error)
            if waiting.answer.done():
                continue
            if done.error is None:
                waiting.answer.set_result(Published(done.partition, done.offset))
            else:
                waiting.answer.set_exception(self._failure(waiting.topic, done.partition, done.error))
        if not self._queued and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    async def close(self) -> None:
        """What was appended is answered first, which takes at most the delivery timeout."""
        if self._queued:
            self._idle = self._loop.create_future()
            await asyncio.wait((self._idle,), timeout=self._settings.delivery_timeout_seconds + 2.0)
        self._stop = True
        await asyncio.to_thread(self._thread.join)
