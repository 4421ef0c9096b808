"""Removing a stream's database."""

import itertools

import pytest
from tests.integration.test_store import count, record, sealed, store, stream
from tests.support.engine import EngineProcess

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine
__all__ = ["store", "stream"]

_names = itertools.count()


async def databases(store: Store) -> set[str]:
    answer = await store.query("SELECT name FROM system.databases")
    return {name for (name,) in answer.rows}


async def test_all_of_a_stream_goes_and_nothing_of_another(store: Store, stream: Stream) -> None:
    # Names that begin alike.
    doomed = make_stream(f"drop-{next(_names)}")
    other = make_stream(doomed.name, namespace=f"local-{doomed.name}")
    for each in (doomed, other):
        await store.migrate(each, retention_days=10_000)
    for each in (doomed, other, stream):
        await store.insert(each, sealed([record()]), rows=1, token="t")
    await store.check([doomed])
    before = await databases(store)
    await store.drop(doomed)
    assert await databases(store) == before - {doomed.database}
    assert await count(store, other) == await count(store, stream) == 1
    with pytest.raises(StoreUnavailable, match="not there yet"):
        await store.check([doomed])


async def test_removing_again_and_making_anew(store: Store) -> None:
    stream = make_stream(f"drop-{next(_names)}")
    await store.drop(stream)
    await store.migrate(stream, retention_days=10_000)
    await store.insert(stream, sealed([record()]), rows=1, token="t")
    await store.drop(stream)
    await store.drop(stream)
    await store.migrate(stream, retention_days=10_000)
    assert await count(store, stream) == 0
    # Its token is forgotten, too.
    await store.insert(stream, sealed([record()]), rows=1, token="t")
    assert await count(store, stream) == 1


async def test_a_table_larger_than_clickhouse_lets_go_unasked(store: Store, engine: EngineProcess) -> None:
    """Its limit is 50 GB; that it can be lifted by the statement is what counts."""
    stream = make_stream(f"drop-{next(_names)}")
    await store.migrate(stream, retention_days=10_000)
    await store.insert(stream, sealed([record(i) for i in range(100)]), rows=100, token="t")
    sent: list[dict[str, object]] = []

    class Noting(Store):
        async def command(self, sql, parameters=None, *, settings=None):  # type: ignore[no-untyped-def]
            sent.append({"sql": sql, **(settings or {})})
            await super().command(sql, parameters, settings=settings)

    noting = Noting(store._settings)
    try:
        await noting.drop(stream)
    finally:
        await noting.close()
    [statement] = sent
    assert statement["sql"] == f"DROP DATABASE IF EXISTS {stream.database} SYNC"
    assert statement["max_table_size_to_drop"] == 0
    assert stream.database not in await databases(store)


@pytest.mark.parametrize("stream_id", ["", "a;b", "a` b", "a.logs", "A"])
async def test_an_id_that_no_stream_has_is_refused(store: Store, stream_id: str) -> None:
    with pytest.raises(InvalidValue, match="id"):
        await store.drop(Stream("x", stream_id))
