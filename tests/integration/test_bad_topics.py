"""What others write into a stream's topic, through the real processes: neighbours are stored, letters say why."""

import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from tests.support.bad import Site, Tail, scraped, site, value
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.run import PATIENT, Service
from tests.support.up import eventually

from logstream.settings import MIB

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

STREAMS = (
    "foreign", "lies", "newer", "compacted", "transactions", "large", "position", "letters", "few", "old",
)  # fmt: skip
OLD = Path(__file__).parents[1] / "data" / "records_of_175562b.jsonl"


@dataclass
class Running:
    site: Site
    processor: Service
    api: Service

    def condition(self, name: str, code: str) -> bool:
        """Whether metric, /readyz and log all say that partitions of `name` wait because of `code`."""
        waiting = scraped(self.processor, "logstream_processor_waiting_partitions", stream=name, reason=code)
        checks = self.processor.get("/readyz")[1]["checks"]
        told = [e for e in self.processor.events() if e.get("stream") == name and code in (e["event"], e.get("code"))]
        return bool(waiting) and f"stream {name}" in checks["partitions"] and bool(told)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
    engine: EngineProcess,
    kafka_session: Kafka | ForeignKafka,
    postgres_session: Postgres | ForeignPostgres,
) -> Iterator[Running]:
    with site(
        tmp_path_factory.mktemp("bad"), bootstrap=kafka_session.bootstrap, store_url=engine.url,
        accounts_url=postgres_session.url(), names=STREAMS, request_timeout_seconds=5, max_record_bytes=2 * MIB,
    ) as made:  # fmt: skip
        for stream in made.streams.values():
            if stream.name == "compacted":
                made.make_topic(
                    stream.topic, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01",
                    delete_retention_ms="100", max_compaction_lag_ms="100",
                )  # fmt: skip
            elif stream.name == "large":
                made.make_topic(stream.topic, max_message_bytes=str(90 * MIB))
            elif stream.name == "position":
                made.make_topic(stream.topic)
        running = Running(made, made.start("processor"), made.start("api"))
        running.processor.ready()
        running.api.ready()
        yield running
        # No crash loop, and no crash.
        assert running.processor.process.poll() is None, running.processor.log[-3000:]
        assert running.api.process.poll() is None, running.api.log[-3000:]


AVRO = b"\x00\x00\x00\x00\x2a\x06foo\x04\x02\x0ebar baz\x00"
"""As a schema registry's serializer writes: a zero, four bytes of a schema's number, the record."""
FOREIGN: tuple[bytes | None, ...] = (
    os.urandom(500), b"", None, b"a line of text\n", b'{"message":"json"}', AVRO, b"LS", b"LS\x01",
    b"LS\x00" + bytes(60),
    b"LS\x01\x00\xff\xff\xff\xff" + bytes(46), b"LS\x01\x09" + value(1, 1)[4:], b"LS\x01\x01" + value(1, 1)[4:],
)  # fmt: skip


def test_foreign_bytes_are_letters_and_neighbours_are_stored(running: Running) -> None:
    made, topic = running.site, running.site.streams["foreign"].topic
    tail = Tail(made, running.api, "foreign")
    sent = 0
    for number, foreign in enumerate(FOREIGN):
        made.put(topic, [value(3, number)])
        made.put(topic, [foreign], key=b"theirs", headers={"trace": b"\x00\xff"}, timestamp=1)
        sent += 3
    # What another tool gives beside our value does not matter.
    made.put(topic, [value(3, 99)], key=b"k" * 1000, headers=[("a", None), ("a", b"x")], timestamp=86_400_000)
    sent += 3
    assert len(tail.records(sent)) == sent
    tail.close()
    found = made.settled(running.processor, running.api, "foreign", sent)
    assert found["records"] == 2 * len(FOREIGN) + 1
    letters = made.letters(running.api, "foreign")
    assert len(letters) == len(FOREIGN)
    assert all(letter["reason"] for letter in letters)
    assert running.processor.get("/readyz")[0] == 200


def test_headers_that_lie_are_letters(running: Running) -> None:
    made, topic = running.site, running.site.streams["lies"].topic
    good = value(5, 1)
    rows = good[:8] + struct.pack("<I", 6) + good[12:]
    many_rows = struct.pack("<I", 1_000_000)
    lies = [
        rows,
        # Rows and segments agree, and the payload has less.
        good[:8] + many_rows + good[12:59] + many_rows + good[63:],
        good[:52] + struct.pack("<H", 65_535) + good[54:],
        good[: len(good) // 2],
        good[:-1],
        good[:4] + struct.pack("<I", 54) + good[8:],
        good[:12] + struct.pack("<q", 2**62) + good[20:],
        good[:12] + struct.pack("<q", -1) + good[20:],
        good + b"behind the last column",
    ]
    for number, lie in enumerate(lies):
        made.put(topic, [value(2, 100 + number), lie])
    made.put(topic, [value(2, 200)])
    made.settled(running.processor, running.api, "lies", 2 * len(lies) + 2)
    letters = made.letters(running.api, "lies")
    assert len(letters) == len(lies), letters
    assert running.processor.get("/readyz")[0] == 200


def test_a_record_of_an_earlier_release_is_read(running: Running) -> None:
    """Bytes that the encoder of commit 175562b wrote, before there were extensions."""
    made = running.site
    examples = [json.loads(line) for line in OLD.read_text().splitlines()]
    made.put(made.streams["old"].topic, [bytes.fromhex(example["value"]) for example in examples])
    # A later revision: an extension that nobody knows, and a longer header.
    later = value(3, 1)
    length = struct.unpack_from("<I", later, 4)[0]
    extension = b"\xc8" + struct.pack("<H", 300) + os.urandom(300)
    later = later[:4] + struct.pack("<I", length + len(extension)) + later[8:length] + extension + later[length:]
    made.put(made.streams["old"].topic, [later])
    rows = sum(example["rows"] for example in examples) + 3
    made.settled(running.processor, running.api, "old", rows)
    assert not made.letters(running.api, "old")
    assert [example["message"] for example in examples] == made.sql(
        f"SELECT any(message) FROM {made.streams['old'].database}.logs WHERE offset < {len(examples)} AND row = 0"
        " GROUP BY offset ORDER BY offset FORMAT TSV"
    ).split("\n")


def test_marks_of_transactions_make_gaps_and_nobody_waits_for_an_open_one(running: Running) -> None:
    made, topic = running.site, running.site.streams["transactions"].topic

    def transact(commit: bool, seed: int) -> Producer:
        producer = Producer({
            "bootstrap.servers": made.bootstrap, "transactional.id": f"other-{topic}-{seed}", "log_level": 0,
        })  # fmt: skip

        producer.init_transactions(PATIENT)
        producer.begin_transaction()
        producer.produce(topic, value(2, seed), partition=0)
        producer.produce(topic, b"theirs", partition=0)
        producer.flush(PATIENT)
        if commit:
            producer.commit_transaction(PATIENT)
        return producer

    made.put(topic, [value(2, 1)])
    transact(True, 2)
    made.put(topic, [value(2, 3)])
    hanging = transact(False, 4)
    made.put(topic, [value(2, 5)])
    # What was appended behind the open one is stored all the same.
    made.settled(running.processor, running.api, "transactions", 10)
    hanging.abort_transaction(PATIENT)
    # The topic ends with a mark: that is not waited for, either.
    # Seven records, two marks; the last one is written after the answer.
    eventually(lambda: made.end(topic) == 7 + 2, "the mark is there", PATIENT)
    made.settled(running.processor, running.api, "transactions", 10)
    tail = Tail(made, running.api, "transactions")
    made.put(topic, [value(2, 6)])
    assert len(tail.records(2)) == 2
    tail.close()
    made.settled(running.processor, running.api, "transactions", 12)
    assert len(made.letters(running.api, "transactions")) == 2


def test_a_compacted_topic_keeps_its_neighbours(running: Running) -> None:
    """Not a good idea: compaction may take what was not stored yet. What is left is stored."""
    made, topic = running.site, running.site.streams["compacted"].topic
    running.processor.signal(signal.SIGSTOP)
    try:
        for seed in range(6):
            made.put(topic, [value(2, seed)], key=b"one")
            made.put(topic, [value(2, 100 + seed)], key=f"key {seed}".encode())
            time.sleep(0.15)
        made.put(topic, [None], key=b"key 0")
        eventually(lambda: made.held(topic) < 12, "the log was compacted", PATIENT)
        left = made.held(topic)
    finally:
        running.processor.signal(signal.SIGCONT)
    eventually(lambda: bool(made.letters(running.api, "compacted")), "the tombstone is a letter", PATIENT)
    rows = made.stored("compacted")
    assert 2 <= rows <= 2 * left
    status, books = made.ask(running.api, "compacted", "/api/v1/ledger")
    assert (status, books["balanced"], books["total"]["in_flight"]) == (200, True, 0)
    assert "offsets_without_records" in running.processor.log


def test_a_newer_record_makes_its_partition_wait_and_its_reader_says_so(running: Running) -> None:
    made, topic = running.site, running.site.streams["newer"].topic
    newer = b"LS\x02" + value(1, 1)[3:]
    made.put(topic, [value(2, 1), newer, value(2, 2)])
    eventually(lambda: made.stored("newer") == 2, "what stands before it is stored", PATIENT)
    eventually(lambda: running.condition("newer", "newer_version"), "it says what it waits for", PATIENT)
    assert running.processor.get("/readyz")[0] == 503
    # Nobody knows how many rows it has; what stands behind it is in flight.
    status, books = made.ask(running.api, "newer", "/api/v1/ledger")
    assert (status, books["balanced"], books["total"]["in_flight"]) == (200, True, 2)
    assert made.letters(running.api, "newer") == []
    # Nor do the others wait.
    made.put(made.streams["foreign"].topic, [value(1, 1234)])
    eventually(lambda: made.sql_count("foreign", "metadata['id'] = '1234-0'") == 1, "others are stored", PATIENT)
    # Where nobody wants to wait, an operator deletes the record; here, by its offset.
    admin = made.admin
    for future in admin.delete_records([TopicPartition(topic, 0, 2)]).values():
        future.result(PATIENT)
    running.processor.stop()
    running.processor.start().ready()
    eventually(lambda: made.stored("newer") == 4, "it goes on behind it", PATIENT)


def test_a_position_of_a_later_release_makes_its_partition_wait(running: Running) -> None:
    made, stream = running.site, running.site.streams["position"]
    made.put(stream.topic, [value(2, 1)])
    eventually(lambda: made.stored("position") == 2, "rows are stored", PATIENT)
    running.processor.stop()
    made.commit(stream.topic, f"{stream.topic}.processor", TopicPartition(stream.topic, 0, 1, '{"v":2,"plan":[]}'))
    made.put(stream.topic, [value(2, 2)])
    running.processor.start()
    eventually(lambda: running.condition("position", "position_cannot_be_read"), "it says what it waits for", PATIENT)
    assert made.stored("position") == 2
    # As its sentence says: committed without it.
    running.processor.stop()
    made.commit(stream.topic, f"{stream.topic}.processor", TopicPartition(stream.topic, 0, 1))
    running.processor.start().ready()
    made.settled(running.processor, running.api, "position", 4)


def test_a_dead_letter_topic_that_is_missing_is_made_again(running: Running) -> None:
    made, stream = running.site, running.site.streams["letters"]
    made.put(stream.topic, [value(2, 1), b"theirs"])
    eventually(lambda: len(made.letters(running.api, "letters")) == 1, "there is a letter", PATIENT)
    made.delete_topic(stream.dead_letter_topic)
    made.put(stream.topic, [b"theirs, too", value(2, 2)])
    eventually(lambda: made.stored("letters") == 4, "the neighbour is stored", PATIENT)
    eventually(lambda: len(made.letters(running.api, "letters")) == 1, "there is a letter again", PATIENT)
    eventually(lambda: running.processor.get("/readyz")[0] == 200, "all is well", PATIENT)


def test_partitions_are_added_while_running(running: Running) -> None:
    """Their letters get partitions, too; tails, ledger and verification take them in."""
    made, stream = running.site, running.site.streams["few"]
    tail = Tail(made, running.api, "few")
    made.put(stream.topic, [value(2, 1), b"theirs"])
    assert len(tail.records(2)) == 2
    admin = made.admin
    for future in admin.create_partitions([NewPartitions(stream.topic, 3)]).values():
        future.result(PATIENT)
    made.put(stream.topic, [value(2, 2), b"theirs"], partition=2)
    # The one who listens is sent away, and comes back with its cursor.
    tail = tail.again()
    found = tail.records(2)
    assert [record["metadata"]["id"] for record in found] == ["2-0", "2-1"]
    made.put(stream.topic, [value(2, 3)], partition=2)
    assert [record["metadata"]["id"] for record in tail.records(2)] == ["3-0", "3-1"]
    tail.close()
    made.settled(running.processor, running.api, "few", 6)
    assert len(made.letters(running.api, "few")) == 2


def test_a_record_larger_than_the_settings_is_stored_or_told(running: Running) -> None:
    made, topic = running.site, running.site.streams["large"].topic
    rows = 60_000
    good = value(rows, 1)
    # Settings take 2 MiB.
    assert len(good) > 2 * MIB
    made.put(topic, [value(2, 2), os.urandom(3 * MIB), good, value(2, 3), os.urandom(40 * MIB), value(2, 4)])
    made.settled(running.processor, running.api, "large", rows + 6)
    letters = made.letters(running.api, "large")
    assert len(letters) == 2
    assert all("are too many for a dead letter: the first 262144 are here" in letter["reason"] for letter in letters)
