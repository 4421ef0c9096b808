"""Processes among servers that refuse them, were changed or lost something: they say what it is, and do not end."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.bad import scraped, site, value
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.run import PATIENT, Service, run
from tests.support.up import eventually

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

WRONG = "not-the-passw0rd"


def says(service: Service, name: str, *words: str) -> None:
    """/readyz names the dependency with these words, the log has them, and the process lives and does not spam."""

    def told() -> bool:
        status, body = service.get("/readyz")
        return status == 503 and all(word in body["checks"].get(name, "") for word in words)

    try:
        eventually(told, f"{service.kind} says {words} of {name}", PATIENT)
    except AssertionError:
        raise AssertionError(words, service.get("/readyz"), service.log[-2000:]) from None
    assert service.process.poll() is None
    assert service.get("/livez")[0] == 200
    assert any(word in line for word in words for line in service.log.splitlines()), service.log
    assert WRONG not in service.log


def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "logstream.yaml"
    path.write_text(
        json.dumps(
            {
                "kafka": {"min_insync_replicas": 0, "security_protocol": "TLS", "max_record_bytes": 1, "partition": 3},
                "processor": {"max_rows": 0},
            }
        )
    )
    environ = {"LOGSTREAM_KAFKA_COMPRESSION": "brotli", "LOGSTREAM_STORE_URL": "ftp://x"}
    done = run("processor", environ, "--config", str(path))
    assert done.returncode == 2
    names = {line.split()[1].rstrip(";:") for line in done.stderr.splitlines()}
    for name in (
        "kafka.min_insync_replicas", "kafka.security_protocol", "kafka.max_record_bytes", "kafka.partition",
        "processor.max_rows", "kafka.compression", "store.url",
    ):  # fmt: skip
        assert any(name in line for line in done.stderr.splitlines()), (name, names, done.stderr)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that asks for a password."""
    process = EngineProcess(tmp_path / "locked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGSTREAM_ENGINE_PASSWORD", "the right one")
        process.start()
    try:
        yield process
    finally:
        process.close()


async def change(url: str, sql: str) -> None:
    """In a database of accounts."""
    database = create_async_engine(url)
    async with database.begin() as connection:
        await connection.execute(text(sql))
    await database.dispose()


def test_who_is_refused_says_by_whom_and_waits(
    tmp_path: Path,
    engine: EngineProcess,
    locked: EngineProcess,
    kafka: Kafka | ForeignKafka,
    postgres: Postgres | ForeignPostgres,
) -> None:
    if kafka.secure is None:
        pytest.skip("NOT TESTED: this broker asks nobody who they are")
    url = postgres.url()
    wrong_url = make_url(url).set(password=WRONG).render_as_string(hide_password=False)
    newer_url = postgres.url()
    with site(
        tmp_path, bootstrap=kafka.bootstrap, store_url=engine.url, accounts_url=newer_url, names=["default"]
    ) as made:
        asyncio.run(change(newer_url, "UPDATE auth_state SET version = version + 1"))
        sasl = {
            "LOGSTREAM_AUTH_URL": url,
            "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.secure.sasl_plaintext,
            "LOGSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "LOGSTREAM_KAFKA_USERNAME": kafka.secure.username,
            "LOGSTREAM_KAFKA_PASSWORD": WRONG,
        }
        plain = {"LOGSTREAM_AUTH_URL": url}
        denied = [made.start(kind, **sasl) for kind in ("collector", "processor")]
        plaintext = made.start("collector", **{**plain, "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.secure.sasl_ssl})
        accounts = made.start("collector", LOGSTREAM_AUTH_URL=wrong_url)
        too_new = made.start("api")
        store = made.start("processor", LOGSTREAM_STORE_URL=locked.url, LOGSTREAM_STORE_PASSWORD=WRONG, **plain)
        for service in denied:
            says(service, "log", "refused the credentials")
        says(plaintext, "log", "Kafka at")
        says(accounts, "accounts", "password")
        says(too_new, "accounts", "use the newer LogStream")
        says(store, "store", "ClickHouse")
        # Requests are answered meanwhile.
        status, headers = made.send(denied[0], "default")
        assert (status, "retry-after" in {name.lower() for name in headers}) == (503, True)
        # It is tried again, and not as fast as can be.
        time.sleep(5)
        for service in (*denied, plaintext, accounts, too_new, store):
            assert service.process.poll() is None, service.log
            assert len(service.log.splitlines()) < 60, service.log
        # What can be mended outside heals without a restart.
        asyncio.run(change(newer_url, "UPDATE auth_state SET version = version - 1"))
        eventually(lambda: "newer" not in str(too_new.get("/readyz")[1]), "the API goes on", PATIENT)


def test_tables_that_are_lost_or_changed_make_their_partitions_wait(
    tmp_path: Path, engine: EngineProcess, kafka: Kafka | ForeignKafka, postgres: Postgres | ForeignPostgres
) -> None:
    names = ["dropped", "column", "journal", "later", "well"]
    with site(
        tmp_path, bootstrap=kafka.bootstrap, store_url=engine.url, accounts_url=postgres.url(), names=names
    ) as made:
        processor, api = made.start("processor").ready(), made.start("api").ready()

        def waits(name: str, code: str, *words: str) -> None:
            def told() -> bool:
                # What is asked next may fail for the same reason under another code.
                counts = [
                    scraped(processor, "logstream_processor_waiting_partitions", stream=name, reason=reason)
                    for reason in {code, "store_unavailable"}
                ]
                said = processor.get("/readyz")[1]["checks"]["partitions"]
                here = [part for part in said.split("; ") if part.startswith(f"stream {name},")]
                return 1 in counts and any(all(word in part for word in words) for part in here)

            try:
                eventually(told, f"{name} waits: {code}", PATIENT)
            except AssertionError:
                raise AssertionError(name, processor.get("/readyz"), processor.log[-3000:]) from None
            assert any(event.get("stream") == name and event["event"] == code for event in processor.events())

        for name in names:
            made.put(made.streams[name].topic, [value(2, 1)])
        for name in names:
            eventually(lambda name=name: made.stored(name) == 2, f"{name} is stored", PATIENT)  # type: ignore[misc]
        database = {name: made.streams[name].database for name in names}
        made.sql(f"DROP DATABASE {database['dropped']} SYNC")
        made.sql(f"ALTER TABLE {database['column']}.logs DROP COLUMN span_id")
        made.sql(f"DROP TABLE {database['journal']}.journal SYNC")
        # As a later release leaves it: it only adds.
        made.sql(f"ALTER TABLE {database['later']}.logs ADD COLUMN colour String DEFAULT 'red'")
        made.sql(f"INSERT INTO {database['later']}.schema_migrations (version, name) VALUES (999, 'colours')")
        for name in names:
            made.put(made.streams[name].topic, [value(2, 2)])
        for name in ("later", "well"):
            eventually(lambda name=name: made.stored(name) == 4, f"{name} is stored", PATIENT)  # type: ignore[misc]
        waits("dropped", "store_unavailable", "does not exist")
        waits("column", "store_unavailable", "span_id")
        waits("journal", "commit_failed", "journal")
        assert processor.get("/readyz")[0] == 503
        # Nothing was given up.
        for name in ("column", "journal"):
            assert made.letters(api, name) == []
        # Mended by hand, it goes on by itself.
        made.sql(f"ALTER TABLE {database['column']}.logs ADD COLUMN span_id String")
        eventually(lambda: made.stored("column") == 4, "the column is back", PATIENT)
        # What a processor can make, it makes when it starts.
        made.sql(
            f"DELETE FROM {database['journal']}.schema_migrations WHERE version IN (3) SETTINGS mutations_sync = 1"
        )
        assert processor.stop() == 0
        processor.start().ready()
        made.settled(processor, api, "later", 4)
        eventually(lambda: made.stored("journal") == 4, "the journal is made anew", PATIENT)
        eventually(lambda: made.stored("dropped") >= 2, "the database is made anew", PATIENT)
        eventually(lambda: processor.get("/readyz")[0] == 200, "all is well", PATIENT)


def test_a_topic_that_is_deleted_under_way(
    tmp_path: Path, engine: EngineProcess, kafka: Kafka | ForeignKafka, postgres: Postgres | ForeignPostgres
) -> None:
    with site(
        tmp_path, bootstrap=kafka.bootstrap, store_url=engine.url, accounts_url=postgres.url(), names=["gone", "more"],
        delivery_timeout_seconds=3, request_timeout_seconds=5,
    ) as made:  # fmt: skip
        collector, processor, api = (made.start(kind) for kind in ("collector", "processor", "api"))
        for service in (processor, collector, api):
            service.ready()
        assert made.send(collector, "gone", 3)[0] == 202
        eventually(lambda: made.stored("gone") == 3, "lines are stored", PATIENT)
        topic = made.streams["gone"].topic
        made.delete_topic(topic)
        # Whatever is answered until it is back, it is nothing that makes a sender give up.
        statuses: list[int] = []

        def accepted() -> bool:
            statuses.append(made.send(collector, "gone", 3)[0])
            return statuses[-1] == 202

        eventually(accepted, "lines are accepted again", PATIENT)
        assert set(statuses) <= {202, 503}, statuses
        assert any(event["event"] == "topic_missing" for event in processor.events())
        eventually(lambda: made.stored("gone") >= 6, "they are stored", PATIENT)
        eventually(lambda: processor.get("/readyz")[0] == 200, "all is well", PATIENT)

        # Partitions are added: collectors use them. Until their leaders are known a sender may have to come again.
        first = {"Idempotency_Key": "before"}
        assert made.send(collector, "more", 1, **first)[0] == 202
        admin = made.admin
        for future in admin.create_partitions([NewPartitions(made.streams["more"].topic, 4)]).values():
            future.result(PATIENT)
        assert made.send(collector, "more", 1, **first)[0] == 202

        def spread() -> bool:
            assert made.send(collector, "more", 1)[0] in {202, 503}
            return len(set(made.sql(
                f"SELECT partition FROM {made.streams['more'].database}.logs GROUP BY partition FORMAT TSV"
            ).split("\n"))) == 4  # fmt: skip

        eventually(spread, "all partitions are used", PATIENT)
        # A key that is repeated from now on finds its partition again.

        def idle() -> bool:
            status, books = made.ask(api, "more", "/api/v1/ledger")
            return status == 200 and books["total"]["in_flight"] == 0

        eventually(idle, "nothing is in flight", PATIENT)
        before = made.sql_count("more", "1")
        again = {"Idempotency_Key": "after"}
        for _ in range(3):
            assert made.send(collector, "more", 5, **again)[0] == 202
        eventually(lambda: made.sql_count("more", "1") >= before + 5, "it is stored", PATIENT)

        def balanced() -> bool:
            status, books = made.ask(api, "more", "/api/v1/ledger")
            total = books["total"] if status == 200 else {}
            return status == 200 and total["in_flight"] == 0 and total["deduplicated"] >= 10

        eventually(balanced, "the repeats were dropped", PATIENT)
        assert made.stored("more") == before + 5
