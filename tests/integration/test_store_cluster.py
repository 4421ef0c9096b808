"""The cluster's schema and SQL on an engine that is a cluster of one: Distributed tables are real, replication is not.

There is no Keeper here, so Replicated… engines and ON CLUSTER are taken out of what is sent; the text that a cluster is
sent is parsed by the engine below, and held against files in `tests/unit/test_storage_cluster.py`.
"""

import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.test_store import NOW_NS, count, record, sealed
from tests.support.clusters import FORMS, statements
from tests.support.engine import EngineProcess
from tests.support.engine_cluster import CLUSTER, ClusterEngine
from tests.support.processor import publish, records, running

from logstream.bus.protocol import Claimed, Outcome, Settled, Topic
from logstream.errors import Conflict, InvalidValue, StoreUnavailable
from logstream.query.filter import LogFilter
from logstream.query.logs import LogReader
from logstream.settings import StoreSettings
from logstream.storage import schema
from logstream.storage.cluster import DDL_SETTINGS, READ_SETTINGS, insert_settings
from logstream.storage.journal import make_journal
from logstream.storage.migrations import MIGRATIONS
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

_names = itertools.count()


class KeeperlessStore(Store):
    """The store, but for what needs Keeper."""

    async def command(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> None:
        sql = sql.replace(f" ON CLUSTER '{CLUSTER}'", "")
        sql = re.sub(r"Replicated(\w*MergeTree)\('[^']*', '\{replica\}'(?:, )?", r"\1(", sql)
        sql = re.sub(r"\breplicated_deduplication_window = (\d+), \w+ = \d+", r"non_\g<0>", sql)
        sql = sql.replace(", replicated_deduplication_window_seconds = 604800", "")
        await super().command(sql, parameters, settings=settings)


@pytest.fixture(scope="module")
def cluster_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    process = ClusterEngine(tmp_path_factory.mktemp("cluster") / "data")
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
async def store(cluster_engine: EngineProcess) -> AsyncIterator[Store]:
    store = await KeeperlessStore.connect(StoreSettings(url=cluster_engine.url, cluster=CLUSTER))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def stream(store: Store) -> Stream:
    stream = make_stream(f"cluster-{next(_names)}")
    await store.migrate(stream, retention_days=10_000)
    return stream


async def engines(store: Store, stream: Stream) -> dict[str, str]:
    answer = await store.query(
        "SELECT name, engine FROM system.tables WHERE database = {d:String}", {"d": stream.database}
    )
    return dict(answer.rows)


async def test_lines_lie_in_the_local_table_and_are_read_through_the_distributed(store: Store, stream: Stream) -> None:
    await store.migrate(stream, retention_days=10_000)
    found = await engines(store, stream)
    assert found["logs"] == "Distributed"
    assert found["logs_local"] == "MergeTree"
    await store.insert(stream, sealed([record(1), record(2)]), rows=2, token="7:3:0-0", partition=3)
    await store.insert(stream, sealed([record(1), record(2)]), rows=2, token="7:3:0-0", partition=3)
    assert await count(store, stream) == 2
    # A column that ClickHouse makes, and that a migration added.
    answer = await store.query(f"SELECT count() FROM {stream.database}.logs WHERE has(pairs, 'n=2')")
    assert answer.rows == [(1,)]
    answer = await store.query(f"SELECT DISTINCT version FROM {stream.database}.schema_migrations")
    assert {version for (version,) in answer.rows} == {migration.version for migration in MIGRATIONS}


async def test_a_removed_stream_is_gone_with_all_its_tables(store: Store, stream: Stream) -> None:
    other = make_stream(f"cluster-{next(_names)}")
    await store.migrate(other, retention_days=10_000)
    await store.insert(stream, sealed([record(1)]), rows=1, token="t", partition=3)
    await store.drop(stream)
    await store.drop(stream)
    assert await engines(store, stream) == {}
    assert await engines(store, other)


async def test_lines_are_found_and_counted_as_on_one_server(store: Store, stream: Stream) -> None:
    records = [record(i, timestamp=NOW_NS + i * 20 * 10**9) for i in range(30)]
    await store.insert(stream, sealed(records), rows=30, token="t", partition=3)
    reader = LogReader(store)
    newest = await reader.logs(stream, LogFilter(), limit=5, now_ns=NOW_NS + 3600 * 10**9)
    assert [line.message for line in newest] == [f"line {i}" for i in range(29, 24, -1)]
    minutes = await reader.stats(stream, LogFilter(), limit=100)
    assert sum(minute.count for minute in minutes) == 30
    replayed = await reader.replay(stream, LogFilter(), incarnation=7, partition=3, start=(0, 5), end=1, limit=100)
    assert [line.row for line in replayed] == list(range(5, 30))


async def test_the_projection_answers_through_the_distributed_table(store: Store, stream: Stream) -> None:
    await store.insert(stream, sealed([record(i) for i in range(1000)]), rows=1000, token="t", partition=3)
    answer = await store.query(
        f"SELECT {schema.MINUTE} AS minute, service, level, count() FROM {stream.database}.logs "
        "GROUP BY minute, service, level",
        settings={"force_optimize_projection": 1},
    )
    assert [row[3] for row in answer.rows] == [1000]


async def test_contains_asks_every_replica(store: Store, stream: Stream) -> None:
    await store.insert(stream, [*sealed([record(1)], offset=10), *sealed([record(2)], offset=12)], rows=2, token="t")

    async def contains(first: int, last: int, **more) -> bool:  # type: ignore[no-untyped-def]
        place = {"incarnation": 7, "partition": 3, **more}
        return await store.contains(stream, first=first, last=last, **place)

    assert await contains(10, 10)
    assert await contains(0, 100)
    assert await contains(12, 12, rows=(0, 4))
    assert not await contains(12, 12, rows=(1, 4))
    assert not await contains(11, 11)
    assert not await contains(10, 10, incarnation=8)
    assert not await contains(10, 10, partition=2)


async def test_what_was_acknowledged_is_read_from_every_replica(store: Store, stream: Stream) -> None:
    table = f"{stream.database}.schema_migrations"
    answer = await store.query_acknowledged(
        f"SELECT uniqExact(version) FROM {store.acknowledged(table)} WHERE version > {{v:UInt32}}", {"v": 0}
    )
    assert answer.rows == [(len(MIGRATIONS),)]
    assert store.acknowledged(table) != table


async def test_the_journal_is_read_from_every_replica(store: Store, stream: Stream) -> None:
    journal = make_journal(store)
    topic = Topic(stream.topic, 7, 4)
    for first, last in ((0, 4), (5, 9), (5, 9)):
        claim = Claimed(bytes([first]) * 16, b"f" * 16, time.time_ns())
        await journal.record(topic, 3, Settled(first, last, {("k1", 5): Outcome(3, 1, 0)}, [claim]))
    assert await make_journal(store).totals(topic, None, None) == {"k1": Outcome(6, 2, 0)}
    assert len(set(await journal.claims(topic, 3, 0))) == 2


async def test_the_processor_stores_lines_and_buries_the_bad(store: Store, stream: Stream, tmp_path: Path) -> None:
    await store.command(
        f"ALTER TABLE {stream.database}.logs_local ADD CONSTRAINT poison CHECK message NOT LIKE '%7-11'"
    )
    async with running(tmp_path / "bus", "", stream, store=store, journalled=True) as run:
        for seed in range(10):
            await publish(run.bus, stream, records(20, seed=seed))
        await run.settled()
        assert await run.scalar("count()") == 199
        entry = (await run.ledger())["key1"]
        assert (entry.stored, entry.dead_lettered) == (199, 1)


async def test_retention_is_the_local_tables(store: Store, stream: Stream) -> None:
    assert await store.retention(stream) == 10_000
    await store.set_retention(stream, 9_000)
    assert await store.retention(stream) == 9_000


async def test_tables_of_one_server_are_not_taken_for_a_clusters(cluster_engine: EngineProcess, store: Store) -> None:
    stream = make_stream(f"cluster-{next(_names)}")
    alone = await Store.connect(StoreSettings(url=cluster_engine.url))
    try:
        await alone.migrate(stream, retention_days=7)
        with pytest.raises(Conflict, match="made for one server"):
            await store.migrate(stream, retention_days=7)
        other = make_stream(f"cluster-{next(_names)}")
        await store.migrate(other, retention_days=7)
        with pytest.raises(Conflict, match="made for a cluster"):
            await alone.migrate(other, retention_days=7)
    finally:
        await alone.close()


@pytest.mark.parametrize(
    ("cluster", "more_urls", "reason"),
    [
        ("nowhere", "", "knows no cluster 'nowhere'"),
        (CLUSTER, ";http://127.0.0.1:9", "has 1 shards, store url names 2"),
    ],
)
async def test_settings_that_do_not_fit_the_servers_are_refused(
    cluster_engine: EngineProcess, cluster: str, more_urls: str, reason: str
) -> None:
    store = await KeeperlessStore.connect(StoreSettings(url=cluster_engine.url + more_urls, cluster=cluster))
    try:
        with pytest.raises(InvalidValue, match=reason):
            await store.migrate(make_stream("cluster-none"), retention_days=7)
        with pytest.raises(InvalidValue, match=reason):
            await store.check([make_stream("cluster-none")])
    finally:
        await store.close()


async def test_with_several_shards_the_partition_tells_which(cluster_engine: EngineProcess, stream: Stream) -> None:
    store = await Store.connect(StoreSettings(url=f"http://127.0.0.1:9;{cluster_engine.url}", cluster=CLUSTER))
    try:
        await store.insert(stream, sealed([record(1)]), rows=1, token="t", partition=3)
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
            await store.insert(stream, sealed([record(1)]), rows=1, token="u", partition=2)
        with pytest.raises(ValueError, match="partition"):
            await store.insert(stream, sealed([record(1)]), rows=1, token="v")
    finally:
        await store.close()


@pytest.mark.parametrize("form", FORMS)
async def test_the_engine_can_read_every_statement(store: Store, form: str) -> None:
    for sql in statements(FORMS[form]):
        # Fails on what cannot be parsed; the engines' names are looked at by nobody before they are run.
        printed = await store.query("SELECT formatQuery({sql:String})", {"sql": sql})
        assert "logstream_local_web_0badc0de" in printed.rows[0][0]


async def test_the_engine_knows_every_setting(store: Store) -> None:
    sent = {*DDL_SETTINGS, *READ_SETTINGS, *insert_settings("auto")}
    answer = await store.query(
        "SELECT name FROM system.settings WHERE name IN {names:Array(String)}", {"names": [*sent]}
    )
    assert {name for (name,) in answer.rows} == sent
    tables = {name for sql in statements(FORMS["on_cluster"]) for name in re.findall(r"\b(\w+_window\w*) =", sql)}
    answer = await store.query(
        "SELECT name FROM system.merge_tree_settings WHERE name IN {names:Array(String)}", {"names": [*tables]}
    )
    assert {name for (name,) in answer.rows} == tables
