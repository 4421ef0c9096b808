"""What the query language promises to be fast does skip granules, for the SQL it prints."""

import json
from collections.abc import AsyncIterator

import pytest
from tests.support.engine import EngineProcess

from logstream.query.language import parse, to_sql
from logstream.settings import StoreSettings
from logstream.storage import schema
from logstream.storage.store import Store

pytestmark = pytest.mark.engine

DATABASE = "language_indexes"
TABLE = f"{DATABASE}.{schema.TABLE}"


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    """A table of a dozen granules, one of which holds a rare message."""
    store = await Store.connect(StoreSettings(url=engine.url))
    for sql in (
        f"CREATE DATABASE {DATABASE}",
        *(sql.replace("{database}", DATABASE) for sql in (schema.CREATE_LOGS, *schema.ADD_INDEXES)),
        (
            f"INSERT INTO {TABLE} (timestamp, message, trace_id, metadata, received_at) SELECT"
            " toDateTime64('2026-01-31 00:00:00', 9, 'UTC') + number / 1000,"
            " if(number = 50000, 'Rare needle at 10.99.88.77, timed out', 'Order of a session'),"
            " leftPad(toString(number), 32, '0'),"
            " map('request', toString(number), 'id', concat('long-', leftPad(toString(number), 28, '0'))), now64(9)"
            " FROM numbers(100000)"
        ),
        f"OPTIMIZE TABLE {TABLE} FINAL",
    ):
        await store.command(sql)
    yield store
    await store.command(f"DROP DATABASE {DATABASE}")
    await store.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("NEEDLE", "words"),
        ("10.99.88.77", "message_words"),
        ("needle*", None),
        ("10.99.88.*", "message_words"),
        ('"rare needle at"', "message_words"),
        ("needle 88", "message_words"),
        ("order needle", "words"),
        ("(needle OR nothinglikeit) -zebra", "words"),
        ("request:50000", "pairs"),
        ("request:(50000 OR 50001)", "pairs"),
        ("request:50000 needle", "pairs"),
        ("id:long-0000000000000000000000050000", "metadata_values"),
        ("id:(long-0000000000000000000000050000 OR x)", "metadata_values"),
        ("trace_id:00000000000000000000000000050000", "traces"),
        ("/needle/", None),
        ("request>99998", None),
    ],
)
async def test_granules_are_skipped(store: Store, query: str, index: str | None) -> None:
    where = to_sql(parse(query).filter)
    sql = f"EXPLAIN indexes = 1, json = 1 SELECT service FROM {TABLE} WHERE {where.sql}"
    answer = await store.query(sql, where.parameters, settings={"use_query_condition_cache": 0})
    (plan,) = json.loads("\n".join(line for (line,) in answer.rows))
    node = plan["Plan"]
    while "Plans" in node and "Indexes" not in node:
        (node,) = node["Plans"]
    left = {i.get("Name", i["Type"]): i["Selected Granules"] for i in node.get("Indexes", [])}
    if index is None:
        assert all(granules > 10 for granules in left.values())
    else:
        assert 1 <= left[index] <= 3
