"""Collector, processor and API as processes on real servers, and producers that write what they like."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.auth.roles import Role
from logstream.bus.header import Header, encode, segments_of
from logstream.clock import SystemClock
from logstream.record import Batch
from logstream.settings import AuthSettings
from logstream.storage import block
from logstream.stream import Stream, make_stream
from tests.support.processor import records
from tests.support.run import PATIENT, Service, services
from tests.support.up import PATIENCE, eventually

KEY_ID = "key1"


def value(rows: int, seed: int, *, received_at: int | None = None, **header: Any) -> bytes:
    """A record as a collector writes it; a while ago unless told otherwise: verification looks at past minutes."""
    batch = records(rows, seed=seed)
    times = [record.timestamp for record in batch]
    made = Header(
        rows, SystemClock().now_ns() - 600 * 10**9 if received_at is None else received_at, min(times), max(times),
        segments_of([(KEY_ID, rows)]), **header,
    )  # fmt: skip
    return encode(made, block.encode(Batch.of(batch)))


def scraped(service: Service, name: str, **labels: str) -> float | None:
    """The value of one of the service's metrics; None when it has no such line."""
    wanted = {f'{key}="{text}"' for key, text in labels.items()}
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port('probes')}/metrics", timeout=PATIENCE) as answer:
        for line in answer.read().decode().splitlines():
            head, _, number = line.rpartition(" ")
            found, _, rest = head.partition("{")
            if found == name and wanted <= set(rest.rstrip("}").split(",")):
                return float(number)
    return None


@dataclass
class Site:
    """Streams, each with a key that may do all, and processes that serve them."""

    folder: Path
    bootstrap: str
    store_url: str
    environ: dict[str, str]
    streams: dict[str, Stream]
    keys: dict[str, str]
    started: list[Service]
    config: dict[str, Any] = field(default_factory=dict)

    def start(self, kind: str, **environ: str) -> Service:
        path = self.folder / "logstream.yaml"
        path.write_text(json.dumps(self.config))
        service = Service(kind, self.folder, {**self.environ, **environ}, "--config", str(path))
        self.started.append(service)
        return service

    def sql(self, text: str) -> str:
        with urllib.request.urlopen(self.store_url, text.encode(), timeout=PATIENCE) as answer:
            return str(answer.read().decode().strip())

    def stored(self, name: str) -> int:
        """Rows, each of which must be there once."""
        of = f"FROM {self.streams[name].database}.logs"
        count, unique = self.sql(
            f"SELECT count(), uniqExact(incarnation, partition, offset, row) {of} FORMAT TSV"
        ).split("\t")
        assert count == unique
        return int(count)

    # Topics

    @property
    def admin(self) -> AdminClient:
        """Keep it while it is asked."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def make_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        config = {key.replace("_", "."): text for key, text in settings.items()}
        admin = self.admin
        for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
            future.result(PATIENT)

    def delete_topic(self, name: str) -> None:
        admin = self.admin
        for future in admin.delete_topics([name], operation_timeout=30).values():
            future.result(PATIENT)

    def put(
        self, topic: str, values: Sequence[bytes | None], partition: int = 0, *, compress: bool = False, **how: Any
    ) -> list[int]:
        """Append as somebody else's producer; the offsets."""
        offsets: list[int] = []
        failures: list[str] = []

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failures.append(str(error))
            else:
                offsets.append(message.offset())

        producer = Producer({"bootstrap.servers": self.bootstrap, "message.max.bytes": 90_000_000, "log_level": 0,
            "compression.type": "lz4" if compress else "none",
        })  # fmt: skip

        for each in values:
            producer.produce(topic, each, partition=partition, on_delivery=delivered, **how)
            producer.flush(PATIENT)
        assert not failures, failures
        return offsets

    def end(self, topic: str) -> int:
        """Of partition 0."""
        with _consumer(self.bootstrap, "end") as consumer:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENT)[1])

    def held(self, topic: str) -> int:
        """Records in partition 0, counted by reading them."""
        with _consumer(self.bootstrap, "held") as consumer:
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            count = 0
            while True:
                message = consumer.poll(PATIENT)
                if message is None or message.error() is not None:
                    return count
                count += 1

    def commit(self, topic: str, group: str, position: TopicPartition) -> None:
        """As a tool for groups does, while no member is there."""

        def committed() -> bool:
            with _consumer(self.bootstrap, group) as consumer:
                try:
                    done = consumer.commit(offsets=[position], asynchronous=False)
                except KafkaException:
                    return False
                return all(each.error is None for each in done)

        eventually(committed, f"the position of {group} is committed", PATIENT)

    def sql_count(self, name: str, where: str) -> int:
        return int(self.sql(f"SELECT count() FROM {self.streams[name].database}.logs WHERE {where} FORMAT TSV"))

    # The API

    def ask(self, api: Service, name: str, path: str, *, post: Any = None, seconds: float = PATIENT) -> tuple[int, Any]:
        """Status and body of an answer; JSON lines as a list."""
        body = None if post is None else json.dumps(post).encode()
        headers = {"Authorization": f"Bearer {self.keys[name]}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{api.port()}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                text = answer.read()
                if "ndjson" in answer.headers["Content-Type"]:
                    return answer.status, [json.loads(line) for line in text.splitlines()]
                return answer.status, json.loads(text)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def send(self, collector: Service, name: str, lines: int = 1, **headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers of one request to /ingest."""
        body = b"".join(b'{"service":"shop","message":"line %d"}\n' % number for number in range(lines))
        request = urllib.request.Request(
            f"http://127.0.0.1:{collector.port()}/ingest", body,
            {"Authorization": f"Bearer {self.keys[name]}", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=PATIENT) as answer:
                return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers)

    def letters(self, api: Service, name: str) -> list[dict[str, Any]]:
        status, body = self.ask(api, name, "/api/v1/deadletters?limit=100")
        assert status == 200, body
        return list(body["deadletters"])

    def settled(self, processor: Service, api: Service, name: str, rows: int) -> dict[str, Any]:
        """Once `rows` are stored and nothing waits; the verification, whose books must balance."""
        eventually(lambda: self.stored(name) >= rows, f"{rows} rows of {name} are stored", PATIENT)
        books: dict[str, Any] = {}

        def empty() -> bool:
            status, body = self.ask(api, name, "/api/v1/ledger")
            books.update(body if status == 200 else {"error": body})
            return status == 200 and body["total"]["in_flight"] == 0

        try:
            eventually(empty, "nothing is in flight", PATIENT)
        except AssertionError:
            raise AssertionError(books, processor.log[-3000:]) from None
        assert books["balanced"], books
        assert self.stored(name) == rows
        eventually(
            lambda: scraped(processor, "logstream_processor_lag_records", stream=name) == 0, "the lag is 0", PATIENT
        )
        status, lines = self.ask(api, name, "/api/v1/ledger/verify", post={})
        assert status == 200, lines
        assert "verification" in lines[-1], lines[-1]
        found: dict[str, Any] = lines[-1]["verification"]
        assert found["balanced"], found
        assert found["in_flight"] == 0, found
        assert found["stored"] == rows, found
        return found


@contextmanager
def _consumer(bootstrap: str, group: str) -> Iterator[Consumer]:
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "enable.partition.eof": True, "enable.auto.commit": False,
        # The end is the log's, not that of the last transaction which is decided.
        "isolation.level": "read_uncommitted", "log_level": 0,
    })  # fmt: skip
    try:
        yield consumer
    finally:
        consumer.close()


class Tail:
    """One who listens over Server-Sent Events."""

    def __init__(self, site: Site, api: Service, name: str, cursor: str = "") -> None:
        self._of = site, api, name
        self.cursor = cursor
        self._socket = socket.create_connection(("127.0.0.1", api.port()), timeout=PATIENT)
        query = f"?cursor={cursor}" if cursor else ""
        request = f"GET /api/v1/tail{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.keys[name]}\r\n\r\n"
        self._socket.sendall(request.encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 200 " in status, (status, self._file.read(2000))
        self.next("heartbeat")

    def next(self, kind: str = "records") -> Any:
        """The next frame of that kind; an error frame fails."""
        while True:
            line = self._file.readline()
            assert line, "the tail was closed"
            if line.startswith(b"data: "):
                frame = json.loads(line[6:])
                assert frame["type"] != "error", frame
                self.cursor = frame["cursor"]
                if frame["type"] == kind:
                    return frame

    def again(self) -> "Tail":
        """Once the server ended it: with the cursor of its last frame."""
        while line := self._file.readline():
            if line.startswith(b"data: "):
                frame = json.loads(line[6:])
                if frame["type"] == "error":
                    break
                assert frame["type"] == "heartbeat", frame
                self.cursor = frame["cursor"]
        self.close()
        return Tail(*self._of, self.cursor)

    def records(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            found += self.next()["records"]
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


async def _accounts(url: str, streams: Mapping[str, Stream]) -> dict[str, str]:
    accounts = await Accounts.open(AuthSettings(url=url))
    try:
        admin = await accounts.users.create("ann@example.com", "a long enough one", role=Role.ADMIN)
        keys = {}
        for name, stream in streams.items():
            await accounts.ensure_stream(stream, retention_days=3650)
            made = await accounts.create_key("k", scopes=tuple(Scope), owner_id=admin.id, stream=name)
            keys[name] = made.text
        return keys
    finally:
        await accounts.close()


@contextmanager
def site(
    folder: Path, *, bootstrap: str, store_url: str, accounts_url: str, names: Sequence[str], **kafka: Any
) -> Iterator[Site]:
    """Nothing is started yet; what is, ends with it. names: of streams. kafka: settings, beside those of one broker."""
    unique = uuid4().hex
    streams = {name: make_stream(name, namespace="bad", generation=unique) for name in names}
    keys = asyncio.run(_accounts(accounts_url, streams))
    environ = {
        "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "LOGSTREAM_AUTH_URL": accounts_url,
        "LOGSTREAM_STORE_URL": store_url,
    }
    config = {
        "run": {"drain_seconds": 0},
        "kafka": {
            "partitions": 1, "replication_factor": 1, "min_insync_replicas": 1, "session_timeout_seconds": 6, **kafka,
        },
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    with services() as started:
        yield Site(folder, bootstrap, store_url, environ, streams, keys, started, config)
