"""Collector, processor and API as processes of their own: starting, waiting, readiness, stopping, exit statuses."""

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certificates import Authority
from tests.support.engine import EngineProcess
from tests.support.ports import free_ports
from tests.support.run import Service, run, services
from tests.support.up import PATIENCE, eventually

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.auth.roles import Role
from logstream.settings import AuthSettings
from logstream.stream import make_stream


class Site:
    """A folder with an embedded log and accounts that processes use one after another."""

    def __init__(self, folder: Path, engine: EngineProcess, started: list[Service]) -> None:
        self.folder = folder
        self._started = started
        # A stream, and so a database, of this test's own.
        self.stream = make_stream("default", namespace="run", generation=folder.name)
        self.environ = {
            "LOGSTREAM_RUN_BUS": "sqlite",
            "LOGSTREAM_RUN_DRAIN_SECONDS": "0",
            "LOGSTREAM_RUN_STREAMS": json.dumps(
                [{"name": "default", "namespace": "run", "generation": folder.name, "retention_days": 9}]
            ),
            "LOGSTREAM_BUS_PATH": str(folder / "bus"),
            "LOGSTREAM_AUTH_URL": f"sqlite+aiosqlite:///{folder / 'auth.db'}",
            "LOGSTREAM_STORE_URL": engine.url,
        }

    def start(self, kind: str, *arguments: str, **environ: str) -> Service:
        service = Service(kind, self.folder, {**self.environ, **environ}, *arguments)
        self._started.append(service)
        return service

    async def key(self) -> str:
        accounts = await Accounts.open(AuthSettings(url=self.environ["LOGSTREAM_AUTH_URL"]))
        try:
            await accounts.ensure_stream(self.stream, retention_days=9)
            admin = await accounts.users.create("ann@example.com", "a long enough one", role=Role.ADMIN)
            made = await accounts.create_key("k", scopes=(Scope.INGEST, Scope.READ), owner_id=admin.id)
        finally:
            await accounts.close()
        return made.text


@pytest.fixture
def site(tmp_path: Path, engine: EngineProcess) -> Iterator[Site]:
    with services() as started:
        yield Site(tmp_path, engine, started)


def post(port: int, key: str, lines: int = 1, *, tls: ssl.SSLContext | None = None) -> tuple[int, dict[str, str]]:
    scheme = "http" if tls is None else "https"
    body = b"".join(b'{"service":"shop","message":"line %d"}\n' % number for number in range(lines))
    request = urllib.request.Request(
        f"{scheme}://127.0.0.1:{port}/ingest", body, {"Authorization": f"Bearer {key}"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE, context=tls) as answer:
        return answer.status, dict(answer.headers)


async def test_one_after_another_they_do_what_logstream_up_does(site: Site) -> None:
    key = await site.key()
    collector = site.start("collector").ready()
    assert collector.get("/readyz", "requests")[1]["checks"] == {"log": "ok", "accounts": "ok"}
    assert post(collector.port(), key, 1000)[0] == 202
    assert collector.stop() == 0

    processor = site.start("processor")
    # The tables are made by it, with the retention that the accounts have.
    processor.ready()
    assert processor.get("/readyz")[1]["checks"] == {
        "log": "ok", "store": "ok", "schema": "ok", "partitions": "ok", "accounts": "ok",
    }  # fmt: skip
    with urllib.request.urlopen(f"http://127.0.0.1:{processor.port('probes')}/metrics") as answer:
        assert b"logstream_processor_stored_records_total" in answer.read()

    def stored() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{processor.port('probes')}/metrics") as answer:
            return b'logstream_processor_stored_records_total{stream="default"} 1000.0' in answer.read()

    eventually(stored, "1000 rows are stored")
    assert processor.stop() == 0

    api = site.start("api").ready()
    assert api.get("/readyz")[1]["checks"] == {"log": "ok", "accounts": "ok", "store": "ok", "schema": "ok"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{api.port()}/logs?limit=10000", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request) as answer:
        assert len(json.loads(answer.read())) == 1000
    assert api.stop() == 0


def test_an_api_makes_streams_and_the_first_admin(site: Site) -> None:
    environ = {"LOGSTREAM_RUN_ADMIN_EMAIL": "ann@example.com", "LOGSTREAM_RUN_ADMIN_PASSWORD": "a long enough one"}
    api = site.start("api", **environ)
    eventually(lambda: api.get("/livez", "requests")[0] == 200, "it answers")

    def login(password: str) -> int:
        body = json.dumps({"email": "ann@example.com", "password": password}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{api.port()}/api/v1/login", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    eventually(lambda: login("a long enough one") in (200, 201), "the admin can log in")
    # Nobody has made the table.
    status, body = api.get("/readyz")
    assert (status, body["checks"]["schema"]) == (503, "the table of stream default is not there yet")
    assert "a long enough one" not in api.log
    assert api.stop() == 0
    # A start with another password changes nothing.
    api = site.start("api", **{**environ, "LOGSTREAM_RUN_ADMIN_PASSWORD": "another long one"})
    eventually(lambda: login("a long enough one") in (200, 201), "the admin can log in again")
    assert api.stop() == 0


def test_a_processor_without_accounts_serves_the_streams_of_its_settings(site: Site) -> None:
    del site.environ["LOGSTREAM_AUTH_URL"]
    processor = site.start("processor").ready()
    assert "accounts" not in processor.get("/readyz")[1]["checks"]
    assert processor.stop() == 0


def test_a_processor_that_may_make_nothing_waits_for_the_tables(site: Site) -> None:
    del site.environ["LOGSTREAM_AUTH_URL"]
    processor = site.start("processor", LOGSTREAM_RUN_CREATE_MISSING="false")
    eventually(
        lambda: "table of stream default is not there yet" in str(processor.get("/readyz")[1]), "it says what it lacks"
    )
    assert processor.get("/readyz")[0] == 503
    other = Service(
        "processor", site.folder / "other", {**site.environ, "LOGSTREAM_BUS_PATH": str(site.folder / "other-bus")}
    )
    try:
        other.ready()
        processor.ready()
    finally:
        other.close()
    assert processor.stop() == 0


def test_several_processors_may_make_the_same_tables_at_once(site: Site, engine: EngineProcess) -> None:
    del site.environ["LOGSTREAM_AUTH_URL"]
    several = [site.start("processor", LOGSTREAM_BUS_PATH=str(site.folder / f"bus-{number}")) for number in range(3)]
    for processor in several:
        processor.ready()
    sql = f"SELECT count() FROM {site.stream.database}.logs FORMAT TSV"
    with urllib.request.urlopen(engine.url, sql.encode()) as answer:
        assert answer.read() == b"0\n"
    assert [processor.stop() for processor in several] == [0, 0, 0]


# Waiting


def test_a_process_waits_in_sight_for_what_is_away(site: Site) -> None:
    kafka, postgres = free_ports(2)
    collector = site.start(
        "collector",
        LOGSTREAM_RUN_BUS="kafka",
        LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{kafka}",
        LOGSTREAM_AUTH_URL=f"postgresql://nobody:hunter2@127.0.0.1:{postgres}/nowhere",
        LOGSTREAM_RUN_DRAIN_SECONDS="600",
    )
    eventually(lambda: collector.get("/livez")[0] == 200, "it is alive")
    eventually(lambda: "not reached yet" not in collector.get("/readyz")[1]["checks"]["log"], "the log's reason")
    status, body = collector.get("/readyz")
    assert status == 503
    assert body["status"] == "starting"
    # The port for requests says what is away, to probes and to those who send logs, and keeps the reason to itself.
    assert collector.get("/readyz", "requests")[0] == 503
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(collector.port(), "ls_whatever")
    assert refused.value.code == 503
    assert refused.value.headers["Retry-After"] == "2"
    assert b"starting; log" in refused.value.read()
    assert "hunter2" not in collector.log
    # Nobody was served: there is nothing to drain.
    assert collector.stop() == 0


def test_accounts_that_are_away_are_waited_for(site: Site) -> None:
    (postgres,) = free_ports(1)
    collector = site.start("collector", LOGSTREAM_AUTH_URL=f"postgresql://nobody:hunter2@127.0.0.1:{postgres}/nowhere")
    eventually(lambda: "nowhere" in str(collector.get("/readyz")[1]), "it says which database is away")
    status, body = collector.get("/readyz")
    assert (status, body["checks"]["log"]) == (503, "ok")
    assert "hunter2" not in str(body) + collector.log
    assert collector.stop() == 0


def test_a_store_that_is_away_keeps_a_processor_unready_but_running(site: Site) -> None:
    (port,) = free_ports(1)
    del site.environ["LOGSTREAM_AUTH_URL"]
    processor = site.start("processor", LOGSTREAM_STORE_URL=f"http://127.0.0.1:{port}")

    def told() -> bool:
        status, body = processor.get("/readyz")
        return status == 503 and body["checks"]["log"] == "ok" and "ClickHouse" in body["checks"]["store"]

    eventually(told, "it says what is away")
    assert processor.get("/livez")[0] == 200
    assert processor.stop() == 0


# Stopping


async def test_not_ready_at_once_and_served_while_it_drains(site: Site) -> None:
    key = await site.key()
    # Longer than any machine takes for what follows; how the time ends is in test_run_lifecycle.
    collector = site.start("collector", LOGSTREAM_RUN_DRAIN_SECONDS="600").ready()
    port = collector.port()
    assert kept_alive(port, key) == (202, None)
    collector.signal()
    eventually(lambda: collector.get("/readyz")[0] == 503, "it is not ready")
    assert collector.get("/readyz")[1]["status"] == "stopping"
    assert collector.get("/livez")[0] == 200
    # A balancer that has not heard yet sends it requests: they are answered, and their connections end.
    assert kept_alive(port, key) == (202, "close")
    collector.signal()
    assert collector.ended() == 0
    with pytest.raises(OSError):
        post(port, key)


def kept_alive(port: int, key: str) -> tuple[int, str | None]:
    """Status and the header Connection of the answer to a client that would keep its connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/ingest", b'{"message":"x"}', {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Connection")
    finally:
        connection.close()


async def test_a_request_under_way_is_answered_before_the_end(site: Site) -> None:
    key = await site.key()
    collector = site.start("collector").ready()
    body = b'{"service":"shop","message":"slow"}\n'
    with socket.create_connection(("127.0.0.1", collector.port()), timeout=PATIENCE) as connection:
        head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:10])
        eventually(lambda: b"pending_bytes" in metrics(collector), "its metrics answer")
        collector.signal()
        eventually(lambda: any(e["event"] == "stopping" for e in collector.events()), "it stops")
        time.sleep(0.3)
        connection.sendall(body[10:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 202")
    assert collector.ended() == 0


def metrics(service: Service) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port('probes')}/metrics") as answer:
        return bytes(answer.read())


async def test_a_second_signal_ends_it_at_once(site: Site) -> None:
    await site.key()
    collector = site.start("collector", LOGSTREAM_RUN_DRAIN_SECONDS="600").ready()
    collector.signal()
    eventually(lambda: collector.get("/readyz")[0] == 503, "it drains")
    assert collector.process.poll() is None
    collector.signal(signal.SIGINT)
    assert collector.ended() == 0


def test_a_loop_that_stands_still_ends_with_70(tmp_path: Path) -> None:
    program = (
        "import time\nfrom logstream.run import lifecycle\n"
        "async def main():\n    stand_still()\n"
        "def stand_still():\n    time.sleep(3600)\n"
        "raise SystemExit(lifecycle.run(main, hang_seconds=0.3))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 70
    # Where it stood.
    assert "stand_still" in done.stderr


def test_a_process_that_was_frozen_as_a_whole_goes_on(site: Site) -> None:
    """Its own clock went on without it: that is no event loop that stands still."""
    collector = site.start("collector", LOGSTREAM_RUN_HANG_SECONDS="4").ready()
    collector.signal(signal.SIGSTOP)
    time.sleep(5.5)
    collector.signal(signal.SIGCONT)
    collector.ready()
    assert collector.stop() == 0


# What cannot start


def test_wrong_settings_end_with_2_and_all_names(tmp_path: Path) -> None:
    path = tmp_path / "logstream.yaml"
    path.write_text("run: {bus: nats}\nkafka: {partitons: 3}\n")
    done = run("processor", {"LOGSTREAM_STORE_QUERY_TIMEOUT_SECONDS": "-1"}, "--config", str(path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    for name in ("run.bus", "kafka.partitons", "store.query_timeout_seconds"):
        assert name in done.stderr


def test_a_port_in_use_ends_with_1_and_one_sentence(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("collector", {**site.environ, "LOGSTREAM_COLLECTOR_PORT": str(port)})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"logstream: cannot listen on 127.0.0.1:{port}")


def test_a_log_folder_in_use_ends_with_1(site: Site) -> None:
    first = site.start("collector").ready()
    second = site.start("collector")
    assert second.ended() == 1
    assert second.log.splitlines()[-1].startswith("logstream: ")
    assert first.stop() == 0


def test_a_pair_that_is_none_ends_with_1(site: Site, tmp_path: Path) -> None:
    one, two = Authority(tmp_path / "a").issue("one"), Authority(tmp_path / "b").issue("two")
    environ = {"LOGSTREAM_TLS_CERT_FILE": str(one.cert_file), "LOGSTREAM_TLS_KEY_FILE": str(two.key_file)}
    collector = site.start("collector", **environ)
    assert collector.ended() == 1
    assert "no pair of certificate and key" in collector.log


def test_connections_are_checked_without_making_anything(site: Site, engine: EngineProcess) -> None:
    kafka, store = free_ports(2)
    environ = {
        **site.environ,
        "LOGSTREAM_RUN_BUS": "kafka",
        "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka}",
        "LOGSTREAM_STORE_URL": f"http://127.0.0.1:{store}",
    }
    assert run("api", environ, "--check-config").returncode == 0
    done = run("api", environ, "--check-connections")
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["log", "store", "accounts"]
    assert not (site.folder / "auth.db").exists()


# TLS


async def test_a_renewed_certificate_is_served_while_requests_are_under_way(site: Site, tmp_path: Path) -> None:
    key = await site.key()
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("served")
    collector = site.start(
        "collector",
        LOGSTREAM_TLS_CERT_FILE=str(pair.cert_file),
        LOGSTREAM_TLS_KEY_FILE=str(pair.key_file),
        LOGSTREAM_TLS_RELOAD_SECONDS="0.1",
    ).ready()
    trust = ssl.create_default_context(cafile=authority.ca_file)
    port = collector.port()
    over = threading.Event()
    statuses: list[int] = []
    failures: list[BaseException] = []

    def send() -> None:
        try:
            while not over.is_set():
                statuses.append(post(port, key, 10, tls=trust)[0])
        except BaseException as error:
            failures.append(error)

    def serial() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), ca_certs=str(authority.ca_file), timeout=PATIENCE)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    try:
        before = serial()
        authority.issue("served")
        eventually(lambda: serial() != before, "the new certificate is served")
        pair.key_file.write_text("broken")
        eventually(lambda: b'logstream_tls_reloads_total{outcome="refused"} 1.0' in metrics(collector), "it is refused")
        count = len(statuses)
        eventually(lambda: len(statuses) > count + 4, "requests go on")
    finally:
        over.set()
        for sender in senders:
            sender.join(PATIENCE)
    assert not failures
    assert set(statuses) == {202}
    assert collector.get("/readyz", "requests", tls=trust)[0] == 200
    assert collector.stop() == 0
