"""Fixtures of all tests."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.engine import EngineProcess


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
