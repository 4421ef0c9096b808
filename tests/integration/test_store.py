"""The store against the real engine: inserts are whole, once, and one part."""

import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from tests.support.engine import EngineProcess

from logstream.errors import InvalidValue, StoreRefused, StoreUnavailable, TooLarge
from logstream.record import Batch, Record
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.migrations import MIGRATIONS
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream

pytestmark = pytest.mark.engine

DAY_NS = 86_400 * 10**9
NOW_NS = 1_790_000_000 * 10**9
_names = itertools.count()


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    store = await Store.connect(StoreSettings(url=engine.url, max_result_bytes=1024 * 1024))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def stream(store: Store) -> Stream:
    stream = make_stream(f"store-{next(_names)}")
    await store.migrate(stream, retention_days=10_000)
    return stream


def sealed(records: Sequence[Record], *, offset: int = 0, received_at: int = NOW_NS) -> tuple[bytes | memoryview, ...]:
    body = block.encode(Batch.of(records))
    return block.seal(body, len(records), block.Provenance(received_at, [("k1", len(records))], 7, 3, offset))


def record(number: int = 0, *, timestamp: int = NOW_NS, message: str = "") -> Record:
    return Record(timestamp, "checkout", 3, message or f"line {number}", {"n": str(number)}, "trace", "span")


async def parts(store: Store, stream: Stream) -> int:
    answer = await store.query(
        "SELECT count() FROM system.parts WHERE active AND table = 'logs' AND database = {d:String}",
        {"d": stream.database},
    )
    return int(answer.rows[0][0])


async def count(store: Store, stream: Stream) -> int:
    return int((await store.query(f"SELECT count() FROM {stream.database}.logs")).rows[0][0])


async def test_migrating_again_changes_nothing(store: Store, stream: Stream) -> None:
    await store.insert(stream, sealed([record()]), rows=1, token="t")
    await store.migrate(stream, retention_days=10_000)
    answer = await store.query(f"SELECT version, name FROM {stream.database}.schema_migrations ORDER BY version")
    assert answer.rows == [(m.version, m.name) for m in MIGRATIONS]
    assert answer.column_names == ("version", "name")
    assert await count(store, stream) == 1


async def test_many_blocks_become_one_part(store: Store, stream: Stream) -> None:
    blocks = [sealed([record(i) for i in range(700)], offset=offset) for offset in range(150)]
    pieces = [piece for one in blocks for piece in one]
    await store.insert(stream, pieces, rows=105_000, token="t")
    assert await count(store, stream) == 105_000
    assert await parts(store, stream) == 1


async def test_every_value_comes_back(store: Store, stream: Stream) -> None:
    records = [
        Record(-2_208_988_800 * 10**9, "a", 1, "the year 1900", {"k": "v", "": "é\n"}, "0af7", "b7ad"),
        Record(-1, "b", 2, "just before the epoch", {}, "", ""),
        Record(NOW_NS + 123_456_789, "c", 6, "né\0\u2028😀", {"x.y": ""}, "", ""),
        Record((1 << 63) - 1, "d", 5, "", {}, "", ""),
    ]
    await store.insert(stream, sealed(records, offset=41), rows=4, token="t")
    columns = "toUnixTimestamp64Nano(timestamp), service, toInt8(level), message, metadata, trace_id, span_id"
    answer = await store.query(f"SELECT {columns} FROM {stream.database}.logs ORDER BY row")
    assert [Record(*row) for row in answer.rows] == records
    source = "toUnixTimestamp64Nano(received_at), key_id, incarnation, partition, offset, row"
    answer = await store.query(f"SELECT {source} FROM {stream.database}.logs ORDER BY row")
    assert answer.rows == [(NOW_NS, "k1", 7, 3, 41, row) for row in range(4)]


@pytest.mark.parametrize("timestamp", [-2_208_988_800 * 10**9, -1, NOW_NS, 5_680_000_000 * 10**9, (1 << 63) - 1])
async def test_a_time_range_finds_its_rows_in_every_century(store: Store, stream: Stream, timestamp: int) -> None:
    others = [record(i, timestamp=NOW_NS + i * 10**9) for i in range(20_000)]
    await store.insert(stream, sealed([*others, record(message="here", timestamp=timestamp)]), rows=20_001, token="t")
    answer = await store.query(
        f"SELECT message FROM {stream.database}.logs WHERE timestamp = fromUnixTimestamp64Nano({{t:Int64}}, 'UTC')"
        " AND message = 'here'",
        {"t": timestamp},
    )
    assert answer.rows == [("here",)]


async def test_a_repeated_token_stores_nothing(store: Store, stream: Stream) -> None:
    for _ in range(3):
        await store.insert(stream, sealed([record(1), record(2)]), rows=2, token="7:3:0-0")
    await store.insert(stream, sealed([record(3)]), rows=1, token="7:3:0-0")
    assert await count(store, stream) == 2
    await store.insert(stream, sealed([record(1), record(2)]), rows=2, token="7:3:1-1")
    assert await count(store, stream) == 4


async def test_a_repeated_token_is_known_after_a_kill(engine: EngineProcess, store: Store, stream: Stream) -> None:
    await store.insert(stream, sealed([record(1)]), rows=1, token="7:3:0-0")
    engine.kill()
    with pytest.raises(StoreUnavailable):
        await store.insert(stream, sealed([record(2)]), rows=1, token="7:3:1-1")
    with pytest.raises(StoreUnavailable):
        await store.check()
    engine.restart()
    await store.check()
    await store.insert(stream, sealed([record(1)]), rows=1, token="7:3:0-0")
    await store.insert(stream, sealed([record(2)]), rows=1, token="7:3:1-1")
    assert await count(store, stream) == 2


async def test_contains_looks_at_incarnation_partition_and_offset(store: Store, stream: Stream) -> None:
    await store.insert(stream, [*sealed([record(1)], offset=10), *sealed([record(2)], offset=12)], rows=2, token="t")

    async def contains(first: int, last: int, incarnation: int = 7, partition: int = 3) -> bool:
        return await store.contains(stream, incarnation=incarnation, partition=partition, first=first, last=last)

    assert await contains(10, 10)
    assert await contains(0, 100)
    assert not await contains(11, 11)
    assert not await contains(13, 100)
    assert not await contains(10, 10, incarnation=8)
    assert not await contains(10, 10, partition=2)


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"\xff" * 40, lambda b: b[:20] + b"?" * 9 + b[29:]])
async def test_damaged_blocks_are_refused_whole(store: Store, stream: Stream, damage: "object") -> None:
    good = b"".join(sealed([record(1)]))
    assert callable(damage)
    with pytest.raises(StoreRefused):
        await store.insert(stream, [good, damage(good)], rows=2, token="t")
    assert await count(store, stream) == 0
    await store.insert(stream, [good], rows=1, token="t")
    assert await count(store, stream) == 1


# Not strict: a real ClickHouse, and an engine that inserts from a file, tell.
async def test_rows_received_on_two_days_are_not_taken_as_one_insert(store: Store, stream: Stream) -> None:
    two_days = [*sealed([record(1)]), *sealed([record(2)], offset=1, received_at=NOW_NS + DAY_NS)]
    with pytest.raises(StoreUnavailable):
        await store.insert(stream, two_days, rows=2, token="t")
    assert await count(store, stream) == 0


async def test_a_table_that_is_not_there_is_no_fault_of_the_rows(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        await store.insert(make_stream("store-nowhere"), sealed([record()]), rows=1, token="t")


async def test_connecting_needs_no_engine() -> None:
    store = await Store.connect(StoreSettings(url="http://127.0.0.1:1"))
    with pytest.raises(StoreUnavailable):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await store.query("SELECT 1")
    await store.close()
    with pytest.raises(InvalidValue, match=r"store url"):
        await Store.connect(StoreSettings(url="127.0.0.1:8123"))


async def test_query_binds_parameters(store: Store) -> None:
    hostile = "'; DROP TABLE x; -- \\' \n {a:String}"
    answer = await store.query("SELECT {a:String} AS a, {b:Array(Int64)} AS b", {"a": hostile, "b": [1, -2]})
    assert answer.column_names == ("a", "b")
    assert answer.rows == [(hostile, [1, -2])]
    assert await store.query_bytes("SELECT {a:UInt8} AS x", {"a": 3}, fmt="JSONEachRow") == b'{"x":3}\n'


async def test_failed_queries_say_what_went_wrong(store: Store) -> None:
    with pytest.raises(StoreRefused) as refused:
        await store.query("SELECT nothing_like_this")
    assert refused.value.clickhouse_code == 47
    with pytest.raises(TooLarge):
        await store.query("SELECT toString(number), repeat('x', 1000) FROM numbers(100000)")
    with pytest.raises(StoreUnavailable):
        await store.query("SELECT sleepEachRow(0.1) FROM numbers(100)", settings={"max_execution_time": 0.2})
