"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest

from tests.support.engine import EngineProcess


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
