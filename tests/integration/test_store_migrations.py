"""Migrations by several processes at once, and by one that dies half-way."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping

import pytest
from tests.integration.test_store import count, record, sealed, store
from tests.support.engine import EngineProcess

from logstream.errors import StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.migrations import MIGRATIONS
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine
__all__ = ["store"]

_names = itertools.count()
STATEMENTS = sum(len(migration.statements) for migration in MIGRATIONS)


class Died(Exception):
    pass


class MortalStore(Store):
    """Dies before its n-th change."""

    left = -1

    async def command(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> None:
        if self.left == 0:
            raise Died
        self.left -= 1
        await super().command(sql, parameters, settings=settings)


@pytest.fixture
async def mortal(engine: EngineProcess) -> AsyncIterator[MortalStore]:
    store = MortalStore(StoreSettings(url=engine.url))
    try:
        yield store
    finally:
        await store.close()


async def complete(store: Store, stream: Stream) -> None:
    answer = await store.query(f"SELECT DISTINCT version FROM {stream.database}.schema_migrations ORDER BY version")
    assert [version for (version,) in answer.rows] == [migration.version for migration in MIGRATIONS]
    await store.insert(stream, sealed([record()]), rows=1, token="t")
    assert await count(store, stream) == 1
    assert await store.retention(stream) == 10_000


async def test_any_number_of_processes_may_migrate_at_once(engine: EngineProcess, store: Store) -> None:
    stream = make_stream(f"migrations-{next(_names)}")

    async def process() -> None:
        own = await Store.connect(StoreSettings(url=engine.url))
        try:
            while True:
                try:
                    await own.migrate(stream, retention_days=10_000)
                    return
                except StoreUnavailable:
                    # As every caller does; nothing else may come of it.
                    await asyncio.sleep(0.05)
        finally:
            await own.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(process() for _ in range(4)))
    await complete(store, stream)


@pytest.mark.parametrize("changes", range(0, STATEMENTS + 6, 3))
async def test_a_migration_that_was_left_half_way_goes_on(mortal: MortalStore, store: Store, changes: int) -> None:
    stream = make_stream(f"migrations-{next(_names)}")
    mortal.left = changes
    try:
        await mortal.migrate(stream, retention_days=10_000)
    except Died:
        assert mortal.left == 0
    await store.migrate(stream, retention_days=10_000)
    await complete(store, stream)
