"""Fixtures of all tests."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from logstream.errors import StartupError
from tests.support.cluster import Cluster, ForeignCluster, programs
from tests.support.engine import EngineProcess
from tests.support.kafka import ForeignKafka, Kafka
from tests.support.postgres import ForeignPostgres, Postgres
from tests.support.up import Cli, Up


def pytest_configure() -> None:
    """A run in the background of a shell ignores Ctrl-C, and so would every process that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says more about what else the machine does.
    settings.register_profile("logstream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("logstream")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane of Kubernetes before the tests that need it: the first time it takes minutes, which no
    test has."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or not {"cluster_session", "own_cluster"} & wanted:
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if terminal is not None:
            terminal.write_line(line)
            terminal.flush()

    # Who cannot have it hears why from the tests that ask for it.
    with contextlib.suppress(StartupError):
        if "LOGSTREAM_TEST_KUBECONFIG" not in os.environ:
            programs.control_plane(tell)
        programs.helm(tell)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The embedded ClickHouse engine, one for the whole run: use a database of your own.

    Who kills it restarts it.
    """
    process = EngineProcess(tmp_path_factory.mktemp("engine") / "data")
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A real `logstream up`, for the tests of a module that leave it running; it stops in good order."""
    folder = tmp_path_factory.mktemp("up")
    # As somebody else may have made it before.
    (folder / "data").mkdir(mode=0o755)
    running = Up(folder)
    try:
        yield running.ready()
        assert running.stop() == 0
    finally:
        running.sweep()


@pytest.fixture(scope="module")
def cli(up: Up) -> Cli:
    """The command line of somebody at home who is logged in to `up`."""
    home = Cli(up.folder / "home")
    home("login", "--file", str(up.data / "first-login.json"))
    return home


@pytest.fixture(scope="session")
def kafka_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka | ForeignKafka]:
    """What `kafka` gives to each test; ask for that one."""
    if bootstrap := os.environ.get("LOGSTREAM_TEST_KAFKA"):
        yield ForeignKafka(bootstrap)
        return
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
    except StartupError as error:
        _cannot_have("Kafka broker", error)
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def postgres_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres | ForeignPostgres]:
    """What `postgres` gives to each test; ask for that one."""
    if dsn := os.environ.get("LOGSTREAM_TEST_POSTGRES_DSN"):
        yield ForeignPostgres(dsn)
        return
    try:
        server = Postgres(tmp_path_factory.mktemp("postgres")).start()
    except StartupError as error:
        _cannot_have("Postgres server", error)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def kafka(kafka_session: Kafka | ForeignKafka) -> Kafka | ForeignKafka:
    """A real broker, one for the whole run: use topics and groups of your own. A test that kills or freezes it
    makes one of its own (`own_kafka`)."""
    kafka_session.ensure_running()
    return kafka_session


@pytest.fixture
def postgres(postgres_session: Postgres | ForeignPostgres) -> Postgres | ForeignPostgres:
    """A real server, one for the whole run: `url()` makes a fresh database. A test that kills or freezes it
    makes one of its own (`own_postgres`)."""
    postgres_session.ensure_running()
    return postgres_session


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module alone, which its tests may stop, kill and freeze."""
    broker = Kafka(tmp_path_factory.mktemp("own-kafka"))
    try:
        broker.start()
    except StartupError as error:
        _cannot_have("Kafka broker", error)
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this module alone, which its tests may stop, kill and freeze."""
    try:
        server = Postgres(tmp_path_factory.mktemp("own-postgres")).start()
    except StartupError as error:
        _cannot_have("Postgres server", error)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | ForeignCluster]:
    """What `cluster` gives to each test; ask for that one."""
    folder = tmp_path_factory.mktemp("cluster")
    given = os.environ.get("LOGSTREAM_TEST_KUBECONFIG")
    try:
        cluster = ForeignCluster(Path(given), folder) if given else Cluster(folder)
    except StartupError as error:
        _cannot_have("Kubernetes API server", error)
    try:
        cluster.ensure_running()
        yield cluster
    finally:
        if isinstance(cluster, Cluster):
            cluster.stop()


@pytest.fixture
def cluster(cluster_session: Cluster | ForeignCluster) -> Cluster | ForeignCluster:
    """A real API server with controllers and without nodes, one for the whole run: work in a `namespace`. A test that
    kills or freezes it makes one of its own (`own_cluster`)."""
    cluster_session.ensure_running()
    return cluster_session


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of this module alone, which its tests may stop, kill and freeze."""
    try:
        cluster = Cluster(tmp_path_factory.mktemp("own-cluster"))
    except StartupError as error:
        _cannot_have("Kubernetes API server", error)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def namespace(cluster: Cluster | ForeignCluster) -> Iterator[str]:
    """A fresh namespace in `cluster`; nobody waits until it is gone."""
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def helm(cluster: Cluster | ForeignCluster) -> Callable[..., str]:
    """Helm on `cluster`: `helm("install", …)` returns its standard output."""
    try:
        programs.helm()
    except StartupError as error:
        _cannot_have("Helm", error)
    return cluster.helm


def _cannot_have(what: str, error: StartupError) -> NoReturn:
    """Skip, and say so loudly; where everything should be there (CI=true), fail."""
    reason = f"NOT TESTED: no {what} on this machine: {error.message}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
