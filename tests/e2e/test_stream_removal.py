"""A stream is deleted by a person, the process that should remove it is killed: its topics and database go all the
same, and what others have stays. On `logstream up`, and on a real broker."""

import json
import os
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.run import PATIENT, Service, services
from tests.support.up import PATIENCE, Cli, Up, eventually

pytestmark = [pytest.mark.slow, pytest.mark.engine]

ADMIN = ("ann@example.com", "a long enough one")


def asked(url: str, sql: str) -> list[str]:
    with urllib.request.urlopen(url, sql.encode(), timeout=PATIENCE) as answer:
        return list(answer.read().decode().split())


def call(method: str, url: str, token: str = "", body: object = None) -> tuple[int, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def everything(topics: Callable[[], set[str]], databases: Callable[[], set[str]], stream_id: str) -> set[str]:
    """What is there of a stream; all topics and databases count whose name has its id."""
    name = "logstream_" + stream_id.replace("-", "_")
    return {topic for topic in topics() if stream_id in topic} | {base for base in databases() if name in base}


def names(stream_id: str) -> set[str]:
    return {
        f"logstream.{stream_id}", f"logstream.{stream_id}.deadletters", "logstream_" + stream_id.replace("-", "_"),
    }  # fmt: skip


def test_on_the_embedded_log(up: Up, cli: Cli) -> None:
    def topics() -> set[str]:
        with closing(sqlite3.connect(f"file:{up.data / 'bus' / 'log.db'}?mode=ro", uri=True)) as log:
            return {name for (name,) in log.execute("SELECT name FROM topics")}

    def rows_left(topic_id: int) -> int:
        """Of a topic that was deleted."""
        with closing(sqlite3.connect(f"file:{up.data / 'bus' / 'log.db'}?mode=ro", uri=True)) as log:
            [(first,)] = log.execute("SELECT id FROM lanes WHERE topic IN (?, ?)", (topic_id, -topic_id)).fetchall()
            (left,) = log.execute(
                "SELECT count(*) FROM entries WHERE id >= ? << 40 AND id < (? + 1) << 40", (first, first)
            ).fetchone()
            return int(left)

    def databases() -> set[str]:
        return set(asked(up.url("ClickHouse"), "SHOW DATABASES"))

    first = json.loads((up.data / "first-login.json").read_text())["admin"]
    body = {"email": first["email"], "password": first["password"]}
    token = call("POST", up.url("API") + "/api/v1/login", body=body)[1]["token"]

    def ledger(name: str) -> dict[str, Any]:
        status, books = call("GET", up.url("API") + f"/api/v1/ledger?stream={name}", token)
        assert status == 200, books
        total: dict[str, Any] = books["total"]
        return total

    for name in ("doomed", "doomed-too"):
        cli("streams", "create", name)
    ids = {row["name"]: row["stream_id"] for row in cli.rows("streams", "list")}
    for name in ("doomed", "doomed-too"):
        made = json.loads(cli("keys", "create", "sender", "--stream", name, "--scope", "ingest", "-o", "json"))
        lines = b"".join(b'{"service":"shop","message":"line %d"}\n' % number for number in range(100))
        assert call("POST", up.url("collector") + "/ingest", made["secret"], lines)[0] == 202
        eventually(lambda name=name: ledger(name)["stored"] == 100, "stored")  # type: ignore[misc]
    with closing(sqlite3.connect(f"file:{up.data / 'bus' / 'log.db'}?mode=ro", uri=True)) as log:
        query = "SELECT id FROM topics WHERE name = ?"
        (topic_id,) = log.execute(query, (f"logstream.{ids['doomed']}",)).fetchone()
    assert rows_left(topic_id) > 0
    cli("streams", "delete", "doomed", "--confirm", "doomed")
    up.kill_child("app")
    up.wait_until_it_answers()
    eventually(lambda: not everything(topics, databases, ids["doomed"]), "all of it is gone")
    eventually(lambda: rows_left(topic_id) == 0, "its records are gone, too")
    for name in ("default", "doomed-too"):
        assert everything(topics, databases, ids[name]) == names(ids[name])
    assert ledger("doomed-too")["present"] == 100
    eventually(lambda: cli.run("streams", "create", "doomed").returncode == 0, "the name is free")
    assert (ledger("doomed")["accepted"], ledger("doomed")["present"]) == (0, 0)


@pytest.mark.timeout(600)
def test_on_a_real_broker(
    tmp_path: Path, engine: EngineProcess, kafka: Kafka | ForeignKafka, postgres: Postgres | ForeignPostgres
) -> None:
    broker = AdminClient({"bootstrap.servers": kafka.bootstrap})
    unique = uuid4().hex

    def topics() -> set[str]:
        return set(broker.list_topics(timeout=PATIENCE).topics)

    def databases() -> set[str]:
        return set(asked(engine.url, "SHOW DATABASES"))

    def dead_letter_days(stream_id: str) -> float:
        resource = ConfigResource(ResourceType.TOPIC, f"logstream.{stream_id}.deadletters")
        [found] = broker.describe_configs([resource], request_timeout=PATIENCE).values()
        return int(found.result()["retention.ms"].value) / 86_400_000

    environ = {
        "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "LOGSTREAM_KAFKA_PARTITIONS": "2",
        "LOGSTREAM_KAFKA_REPLICATION_FACTOR": "1",
        "LOGSTREAM_KAFKA_MIN_INSYNC_REPLICAS": "1",
        "LOGSTREAM_AUTH_URL": postgres.url(),
        "LOGSTREAM_STORE_URL": engine.url,
        "LOGSTREAM_RUN_BUS": "kafka",
        "LOGSTREAM_RUN_STREAMS": json.dumps([{"name": "default", "namespace": "e2e", "generation": unique}]),
        "LOGSTREAM_RUN_ADMIN_EMAIL": ADMIN[0],
        "LOGSTREAM_RUN_ADMIN_PASSWORD": ADMIN[1],
        "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
    }
    with services() as started:
        started += [Service(kind, tmp_path, environ) for kind in ("collector", "processor", "api")]
        collector, processor, api = started
        for service in started:
            service.ready()
        url = f"http://127.0.0.1:{api.port()}"
        _, login = call("POST", f"{url}/api/v1/login", body={"email": ADMIN[0], "password": ADMIN[1]})
        token = login["token"]
        ids = {}
        for name in ("doomed", "doomed-too"):
            status, made = call("POST", f"{url}/api/v1/streams", token, {"name": name, "dead_letter_days": 3})
            # A busy machine may need longer than the answer waits; what follows waits for it.
            assert (status, made["status"] in ("ready", "creating")) == (201, True), made
            ids[name] = made["stream_id"]
            body = {"name": "sender", "scopes": ["ingest"], "stream": name}
            _, key = call("POST", f"{url}/api/v1/keys", token, body)
            ingest = f"http://127.0.0.1:{collector.port()}/ingest"

            def sent(key: Any = key, ingest: str = ingest) -> bool:
                return call("POST", ingest, key["secret"], {"service": "shop", "message": "a line"})[0] == 202

            eventually(sent, "the key is known", PATIENT)
            database = "logstream_" + ids[name].replace("-", "_")
            eventually(
                lambda database=database: asked(engine.url, f"SELECT count() FROM {database}.logs") == ["1"],  # type: ignore[misc]
                "stored", PATIENT,
            )  # fmt: skip
        assert dead_letter_days(ids["doomed"]) == dead_letter_days(ids["doomed-too"]) == 3
        assert call("PATCH", f"{url}/api/v1/streams/doomed-too", token, {"dead_letter_days": 5})[0] == 200
        eventually(lambda: dead_letter_days(ids["doomed-too"]) == 5, "dead letters are kept for five days")
        status, answer = call("DELETE", f"{url}/api/v1/streams/doomed?confirm=doomed", token)
        assert (status, answer["status"]) == (202, "deleting")
        # Whoever could remove it now, is gone before it is due.
        for service in (api, processor):
            os.kill(service.process.pid, signal.SIGKILL)
            service.ended()
        assert everything(topics, databases, ids["doomed"]) == names(ids["doomed"])
        processor.start().ready()
        eventually(lambda: not everything(topics, databases, ids["doomed"]), "all of it is gone", PATIENT)
        assert everything(topics, databases, ids["doomed-too"]) == names(ids["doomed-too"])
        assert asked(engine.url, f"SELECT count() FROM logstream_{ids['doomed-too'].replace('-', '_')}.logs") == ["1"]
        api.start().ready()
        url = f"http://127.0.0.1:{api.port()}"
        assert call("GET", f"{url}/api/v1/streams/doomed", token)[0] == 404

        def again() -> bool:
            return call("POST", f"{url}/api/v1/streams", token, {"name": "doomed"})[0] == 201

        eventually(again, "the name is free", PATIENT)
