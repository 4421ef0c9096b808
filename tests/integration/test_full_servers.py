"""The real Kafka and the real Postgres as processes: listeners, kills, freezes, and no orphans."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.kafka import Kafka, Secure
from tests.support.postgres import Postgres
from tests.support.up import eventually

from logstream.standalone.full.kafka_server import answers


def _secure(kafka: Any) -> Secure:
    if kafka.secure is None:
        pytest.skip("NOT TESTED: the broker that was given has no secure listeners we know of")
    return kafka.secure  # type: ignore[no-any-return]


def _context(secure: Secure, *, trust: Path | None = None, cert: Path | None = None, key: Path | None = None) -> Any:
    context = ssl.create_default_context(cafile=str(trust or secure.ca_file))
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


async def _send(topic: str, value: bytes, **options: Any) -> None:
    producer = AIOKafkaProducer(acks="all", request_timeout_ms=10_000, **options)
    try:
        await producer.start()
        await asyncio.wait_for(producer.send_and_wait(topic, value, partition=0), 60)
    finally:
        await producer.stop()


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
        assert answer.topic_errors[0][1] == 0
    finally:
        await admin.close()


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 60)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_every_listener_lets_in_who_may_come_in(kafka: Any) -> None:
    secure = _secure(kafka)
    await _create(kafka.bootstrap, "listeners")
    login = {"sasl_plain_username": secure.username, "sasl_plain_password": secure.password}
    certificate = _context(secure, cert=secure.cert_file, key=secure.key_file)
    ways: list[dict[str, Any]] = [
        {"bootstrap_servers": kafka.bootstrap},
        {"bootstrap_servers": secure.ssl, "security_protocol": "SSL", "ssl_context": certificate},
    ]
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        sasl = {"sasl_mechanism": mechanism, **login}
        ways += [
            {"bootstrap_servers": secure.sasl_plaintext, "security_protocol": "SASL_PLAINTEXT", **sasl},
            {
                "bootstrap_servers": secure.sasl_ssl,
                "security_protocol": "SASL_SSL",
                "ssl_context": _context(secure),
                **sasl,
            },
        ]
    for number, way in enumerate(ways):
        await _send("listeners", str(number).encode(), **way)
    assert await _read(kafka.bootstrap, "listeners", len(ways)) == [str(n).encode() for n in range(len(ways))]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused(kafka: Any, mechanism: str) -> None:
    secure = _secure(kafka)
    with pytest.raises(KafkaError):
        await _send(
            "listeners", b"", bootstrap_servers=secure.sasl_plaintext, security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism, sasl_plain_username=secure.username, sasl_plain_password="wrong",
        )  # fmt: skip


async def test_a_stranger_s_certificate_is_refused(kafka: Any) -> None:
    secure = _secure(kafka)
    stranger = _context(secure, cert=secure.stranger_cert_file, key=secure.stranger_key_file)
    nobody = _context(secure)
    distrustful = _context(secure, trust=secure.stranger_ca_file, cert=secure.cert_file, key=secure.key_file)
    for context in (stranger, nobody, distrustful):
        with pytest.raises(KafkaError):
            await _send("listeners", b"", bootstrap_servers=secure.ssl, security_protocol="SSL", ssl_context=context)


async def test_a_killed_broker_comes_back_with_its_log(own_kafka: Kafka) -> None:
    await _create(own_kafka.bootstrap, "kept")
    await _send("kept", b"before", bootstrap_servers=own_kafka.bootstrap)
    pid = own_kafka.pid
    await asyncio.to_thread(own_kafka.kill)
    assert not psutil.pid_exists(pid)
    await asyncio.to_thread(own_kafka.start)
    await _send("kept", b"after", bootstrap_servers=own_kafka.bootstrap)
    assert await _read(own_kafka.bootstrap, "kept", 2) == [b"before", b"after"]


async def test_a_frozen_broker_does_not_answer_until_it_goes_on(own_kafka: Kafka) -> None:
    host, _, port = own_kafka.bootstrap.partition(":")
    own_kafka.pause()
    assert not await asyncio.to_thread(answers, host, int(port), 0.5)
    own_kafka.resume()
    await asyncio.to_thread(eventually, lambda: answers(host, int(port)), "the broker answers")


async def test_postgres_keeps_its_data_over_a_kill(own_postgres: Postgres) -> None:
    url = own_postgres.url()
    await _execute(url, "create table t (a integer)", "insert into t values (7)")
    await asyncio.to_thread(own_postgres.kill)
    await asyncio.to_thread(own_postgres.start)
    assert await _execute(url, "select a from t") == 7
    assert "password" not in own_postgres.log()


async def test_a_frozen_postgres_goes_on(own_postgres: Postgres) -> None:
    url = own_postgres.url()
    own_postgres.pause()
    asking = asyncio.create_task(_execute(url, "select 1"))
    done, _ = await asyncio.wait((asking,), timeout=0.5)
    assert not done
    own_postgres.resume()
    assert await asking == 1


async def test_postgres_asks_for_the_password(own_postgres: Postgres) -> None:
    url = own_postgres.url()
    password = url.rpartition("@")[0].rpartition(":")[2]
    with pytest.raises(Exception, match="password authentication failed"):
        await _execute(url.replace(password, "wrong"), "select 1")


async def _execute(url: str, *statements: str) -> Any:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            results = [await connection.execute(text(statement)) for statement in statements]
            return results[-1].scalar() if results[-1].returns_rows else None
    finally:
        await engine.dispose()


_STARTS_POSTGRES = """
import sys, time
from pathlib import Path
from tests.support.postgres import Postgres
server = Postgres(Path(sys.argv[1])).start()
print(server.pid, flush=True)
time.sleep(600)
"""


def _tree(starter: subprocess.Popen[str], pid: int) -> list[psutil.Process]:
    return [psutil.Process(starter.pid), *psutil.Process(starter.pid).children(recursive=True)]


@pytest.mark.parametrize("victim", ["starter", "keeper"])
def test_a_server_does_not_outlive_who_started_it(tmp_path: Path, victim: str, postgres: Any) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTS_POSTGRES, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), "services"])},
    )  # fmt: skip
    try:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        server = psutil.Process(pid)
        family = [server, *server.children(recursive=True)]
        killed = starter.pid if victim == "starter" else server.ppid()
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 60
        _, alive = psutil.wait_procs(family, timeout=max(0.0, deadline - time.monotonic()))
        assert not alive
    finally:
        starter.kill()
        starter.wait()
        if starter.stdout is not None:
            starter.stdout.close()
