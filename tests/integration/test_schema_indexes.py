"""The filters of the table let searches skip granules, for the very SQL that searches send."""

import json
import time
from collections.abc import AsyncIterator

import pytest
from tests.support.engine import EngineProcess

from logstream.query.filter import LogFilter, to_sql
from logstream.query.logs import where
from logstream.settings import StoreSettings
from logstream.storage import schema
from logstream.storage.store import Store

pytestmark = pytest.mark.engine

DATABASE = "schema_indexes"
TABLE = f"{DATABASE}.{schema.TABLE}"


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Store]:
    """A table of a dozen granules, one of which holds a rare message."""
    store = await Store.connect(StoreSettings(url=engine.url))
    for sql in (
        f"DROP DATABASE IF EXISTS {DATABASE}",
        f"CREATE DATABASE {DATABASE}",
        *(sql.replace("{database}", DATABASE) for sql in (schema.CREATE_LOGS, *schema.ADD_INDEXES)),
        (
            f"INSERT INTO {TABLE} (timestamp, message, metadata, received_at)"
            " SELECT now64(9) - toIntervalMillisecond(500 * number),"
            " if(number = 50000, 'Rare needle timed out here', 'Order of a session'),"
            " map('request', toString(number)), now64(9) FROM numbers(100000)"
        ),
        f"OPTIMIZE TABLE {TABLE} FINAL",
    ):
        await store.command(sql)
    yield store
    await store.command(f"DROP DATABASE {DATABASE}")
    await store.close()


async def _granules(store: Store, where: str, parameters: dict[str, object], index: str) -> tuple[int, int]:
    """How many the filter was asked about, and how many it left."""
    sql = f"EXPLAIN indexes = 1, json = 1 SELECT count() FROM {TABLE} WHERE {where}"
    answer = await store.query(sql, parameters, settings={"use_query_condition_cache": 0})
    (plan,) = json.loads("\n".join(line for (line,) in answer.rows))
    node = plan["Plan"]
    while "Indexes" not in node:
        (node,) = node["Plans"]
    found = next(i for i in node["Indexes"] if index in {i.get("Name"), i["Type"]})
    return found["Initial Granules"], found["Selected Granules"]


async def test_whole_words_of_a_searched_phrase_skip_granules(store: Store) -> None:
    phrase = to_sql(LogFilter.of(search="re NEEDLE timed ou"))
    asked, left = await _granules(store, phrase.sql, phrase.parameters, "message_words")
    assert asked > 5
    assert left == 1


async def test_the_exact_value_of_a_metadata_key_skips_granules(store: Store) -> None:
    asked, left = await _granules(store, "metadata['request'] = {value:String}", {"value": "50000"}, "metadata_values")
    assert asked > 5
    assert left == 1


@pytest.mark.parametrize("minutes", [(0, 10), (300, 310), (700, 900)])
async def test_bounds_of_time_skip_granules_by_the_primary_key(store: Store, minutes: tuple[int, int]) -> None:
    now = time.time_ns()
    begin, end = (now - offset * 60 * 10**9 for offset in reversed(minutes))
    condition = where(LogFilter(start=begin, end=end))
    asked, left = await _granules(store, condition.sql, dict(condition.parameters), "PrimaryKey")
    assert asked > 10
    # Fourteen hours lie in the table, about an hour in a granule.
    assert left <= 2 + (minutes[1] - minutes[0]) // 60 + 1
