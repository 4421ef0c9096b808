"""Fixtures of all tests."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.engine import EngineProcess
from tests.support.up import Cli, Up


def pytest_configure() -> None:
    """A run in the background of a shell ignores Ctrl-C, and so would every process that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
