"""clickhouse-connect, unmodified, against the embedded engine."""

from collections.abc import AsyncIterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.support.engine import EngineProcess

pytestmark = pytest.mark.engine


@pytest.fixture
async def client(engine: EngineProcess) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(dsn=engine.url)
    await client.command("CREATE DATABASE IF NOT EXISTS engine_client")
    try:
        yield client
    finally:
        await client.close()


async def test_bound_parameters_arrive_as_they_were_sent(client: AsyncClient) -> None:
    text = "it's a \\ and a \t, a \n and 'ü'"
    result = await client.query(
        "SELECT {a:String}, {b:Array(Int32)}, {c:Nullable(String)}", parameters={"a": text, "b": [1, 2], "c": None}
    )
    assert result.result_rows == [(text, [1, 2], None)]


async def test_insert_and_read_back(client: AsyncClient) -> None:
    await client.command("CREATE OR REPLACE TABLE engine_client.t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    summary = await client.insert("engine_client.t", [[1, "x"], [2, "y"]], column_names=["a", "b"])
    assert summary.written_rows == 2
    await client.raw_insert("engine_client.t", ["a", "b"], insert_block=b"3\tz\n", fmt="TabSeparated")
    assert (await client.query("SELECT * FROM engine_client.t ORDER BY a")).result_rows == [
        (1, "x"),
        (2, "y"),
        (3, "z"),
    ]


async def test_an_error_has_its_code(client: AsyncClient) -> None:
    with pytest.raises(DatabaseError) as caught:
        await client.query("SELECT * FROM engine_client.nothing")
    assert caught.value.code == 60
    assert "UNKNOWN_TABLE" in str(caught.value)
