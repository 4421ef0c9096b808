"""A broker that stands still, a disk that is full, a backlog: memory stays bounded, 503 with Retry-After, and back."""

import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.bad import Site, scraped, site
from tests.support.disk import small_disk
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.run import PATIENT, Service
from tests.support.up import eventually

from logstream.bus.header import Header, encode, segments_of
from logstream.clock import SystemClock
from logstream.record import Batch, Record
from logstream.settings import MIB
from logstream.storage import block

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

SENDERS = 200
FROZEN_SECONDS = float(os.environ.get("LOGSTREAM_TEST_FROZEN_SECONDS", "20"))
BACKLOG_BYTES = int(os.environ.get("LOGSTREAM_TEST_BACKLOG_BYTES", str(256 * MIB)))


class Peak(threading.Thread):
    """The largest resident memory of a process while it runs, bytes."""

    def __init__(self, service: Service) -> None:
        super().__init__(name="peak", daemon=True)
        self._process = psutil.Process(service.process.pid)
        self.first = self.largest = self._process.memory_info().rss
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05) and self._process.is_running():
            self.largest = max(self.largest, self._process.memory_info().rss)

    def stop(self) -> int:
        """What it grew by."""
        self._over.set()
        self.join()
        return self.largest - self.first


@contextmanager
def sending(made: Site, collector: Service, senders: int, body: bytes) -> Iterator[list[tuple[int, float, bool]]]:
    """Requests from `senders` at once until the end; (status, seconds, whether it has Retry-After) of each."""
    answers: list[tuple[int, float, bool]] = []
    over = threading.Event()
    url, headers = f"http://127.0.0.1:{collector.port()}/ingest", {"Authorization": f"Bearer {made.keys['default']}"}

    def send() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=PATIENT) as answer:
                    status, after = answer.status, "Retry-After" in answer.headers
            except urllib.error.HTTPError as error:
                status, after = error.code, "Retry-After" in error.headers
                error.close()
            except OSError:
                status, after = 0, False
            answers.append((status, time.monotonic() - began, after))
            if status != 202:
                over.wait(0.5)

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENT)


def accepted(answers: list[tuple[int, float, bool]]) -> Callable[[], bool]:
    """Whether anything was accepted since now."""
    seen = len(answers)
    return lambda: any(status == 202 for status, _, _ in answers[seen:])


def test_a_broker_that_stands_still_costs_bounded_memory_and_answers_in_time(
    tmp_path: Path, engine: EngineProcess, own_kafka: Kafka, postgres: Postgres | ForeignPostgres
) -> None:
    queued, pending, timeout = 8 * MIB, 32 * MIB, 5.0
    with site(
        tmp_path, bootstrap=own_kafka.bootstrap, store_url=engine.url, accounts_url=postgres.url(), names=["default"],
        max_queued_bytes=queued, delivery_timeout_seconds=3, request_timeout_seconds=5,
    ) as made:  # fmt: skip
        made.make_topic(made.streams["default"].topic, 2)
        collector = made.start(
            "collector", LOGSTREAM_INGEST_MAX_PENDING_BYTES=str(pending),
            LOGSTREAM_COLLECTOR_PUBLISH_TIMEOUT_SECONDS=str(timeout),
        ).ready()  # fmt: skip
        body = b"".join(b'{"service":"shop","message":"%s"}\n' % os.urandom(480).hex().encode() for _ in range(256))
        with sending(made, collector, 4, body) as answers:
            eventually(accepted(answers), "lines are accepted", PATIENT)
        peak = Peak(collector)
        peak.start()
        own_kafka.pause()
        try:
            with sending(made, collector, SENDERS, body) as answers:
                time.sleep(FROZEN_SECONDS)
                eventually(lambda: collector.get("/readyz")[0] == 503, "it is not ready", PATIENT)
        finally:
            own_kafka.resume()
        grown = peak.stop()
        statuses = Counter(status for status, _, _ in answers)
        assert set(statuses) <= {202, 503}, statuses
        assert statuses[503] > SENDERS
        assert all(after for status, _, after in answers if status == 503)
        # Senders share the machine with the collector, so its own limit is not theirs to the second.
        assert max(seconds for _, seconds, _ in answers) < timeout + 30
        # Bodies with what they decode to, records twice, and what a connection costs.
        assert grown < 3 * pending + 2 * queued + SENDERS * MIB // 2, f"{grown / MIB:.0f} MiB"
        print(f"collector grew by {grown / MIB:.0f} MiB; {dict(statuses)}")
        with sending(made, collector, 4, body) as answers:
            eventually(accepted(answers), "lines are accepted again", PATIENT)
        collector.ready()


def test_a_backlog_on_many_partitions_costs_bounded_memory(
    tmp_path: Path,
    engine: EngineProcess,
    kafka: Kafka | ForeignKafka,
    postgres: Postgres | ForeignPostgres,
) -> None:
    held, ahead = 32 * MIB, 8 * MIB
    with site(
        tmp_path, bootstrap=kafka.bootstrap, store_url=engine.url, accounts_url=postgres.url(), names=["default"],
        read_buffer_bytes=ahead,
    ) as made:  # fmt: skip
        topic = made.streams["default"].topic
        made.make_topic(topic, 64)
        now = SystemClock().now_ns()
        rows = [Record(now, "shop", 3, "x" * MIB, {"row": str(row)}) for row in range(2)]
        record = encode(Header(2, now, now, now, segments_of([("key1", 2)])), block.encode(Batch.of(rows)))
        records = BACKLOG_BYTES // len(record)
        for partition in range(64):
            made.put(topic, [record] * (records // 64), partition=partition, compress=True)
        processor = made.start(
            "processor", LOGSTREAM_PROCESSOR_MAX_HELD_BYTES=str(held), LOGSTREAM_PROCESSOR_MAX_BYTES=str(8 * MIB),
            LOGSTREAM_PROCESSOR_INSERT_SLOTS="2",
        )  # fmt: skip
        processor.port("probes")
        peak = Peak(processor)
        peak.start()
        processor.ready()
        eventually(lambda: made.stored("default") == 2 * (records // 64) * 64, "all is stored", 4 * PATIENT)
        grown = peak.stop()
        limit = held + 4 * ahead + 2 * 2 * 8 * MIB + 64 * MIB + 128 * MIB
        print(
            f"processor grew by {grown / MIB:.0f} MiB to {peak.largest / MIB:.0f} MiB, the limit is {limit / MIB:.0f}"
        )
        # A broker's answer is as large as the largest record may be. Held, read ahead (ours and librdkafka's, twice
        # over while they are copied), INSERTs under way, and modules that are loaded late.
        assert grown < limit
        assert (scraped(processor, "logstream_processor_held_bytes") or 0) <= held


# Skips where no broker can be had; the one here is of its own.
@pytest.mark.usefixtures("kafka_session")
def test_a_broker_whose_disk_is_full_is_a_503_until_it_has_room(
    tmp_path: Path, engine: EngineProcess, postgres: Postgres | ForeignPostgres
) -> None:
    with small_disk(tmp_path / "disk", 96) as disk:
        kafka = Kafka(disk.path / "kafka", {"log.segment.bytes": str(4 * MIB)})
        kafka.start()
        try:
            with site(
                tmp_path / "site", bootstrap=kafka.bootstrap, store_url=engine.url, accounts_url=postgres.url(),
                names=["default"], delivery_timeout_seconds=3, request_timeout_seconds=5,
            ) as made:  # fmt: skip
                made.make_topic(made.streams["default"].topic)
                collector = made.start("collector", LOGSTREAM_COLLECTOR_PUBLISH_TIMEOUT_SECONDS="5").ready()
                body = b'{"service":"shop","message":"%s"}\n' % os.urandom(100_000).hex().encode()
                with sending(made, collector, 2, body) as answers:
                    eventually(accepted(answers), "lines are accepted", PATIENT)
                    disk.fill()
                    eventually(lambda: answers[-1][0] == 503, "it answers 503", PATIENT)
                    eventually(lambda: collector.get("/readyz")[0] == 503, "it is not ready", PATIENT)
                    assert collector.process.poll() is None
                    assert {status for status, _, _ in answers} <= {202, 503}
                    assert all(after for status, _, after in answers if status == 503)
                    disk.empty()
                    # A broker whose disk failed ends by itself, as Kafka does; whoever looks after it starts it.
                    kafka.ensure_running()
                    eventually(accepted(answers), "lines are accepted again", PATIENT)
                collector.ready()
        finally:
            kafka.kill()
