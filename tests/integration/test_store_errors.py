"""ClickHouse's error codes: each is known by the name the engine gives it, and none falls between the classes."""

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from tests.integration.test_store import store

from logstream.errors import StoreRefused, StoreUnavailable, TooLarge
from logstream.storage.errors import BUSY, REFUSED, TOO_MUCH, insert_error, query_error
from logstream.storage.store import Store

pytestmark = pytest.mark.engine
__all__ = ["store"]

# Parsing errors that no Native block can cause, and one of SQL text.
_NOT_OF_ROWS = {
    "CANNOT_PARSE_BACKUP_SETTINGS", "CANNOT_PARSE_ELF", "CANNOT_PARSE_DWARF", "CANNOT_PARSE_CAPN_PROTO_SCHEMA",
    "CANNOT_PARSE_PROTOBUF_SCHEMA", "CANNOT_PARSE_INTERVAL", "CANNOT_PARSE_YAML", "CANNOT_PARSE_PROMQL_QUERY",
}  # fmt: skip


async def engine_codes(store: Store) -> dict[int, str]:
    answer = await store.query("SELECT number, errorCodeToName(number) AS name FROM numbers(2000) WHERE name != ''")
    return {int(code): str(name) for code, name in answer.rows}


async def test_names_are_the_engines(store: Store) -> None:
    codes = await engine_codes(store)
    for table in (REFUSED, TOO_MUCH, BUSY):
        assert {code: codes.get(code) for code in table} == table


async def test_every_code_is_in_one_class(store: Store) -> None:
    for code, name in (await engine_codes(store)).items():
        error = DatabaseError(name, code=code, name=name)
        assert isinstance(insert_error(error), StoreRefused) == (code in REFUSED)
        expected = TooLarge if code in TOO_MUCH else StoreUnavailable if code in BUSY else StoreRefused
        assert type(query_error(error)) is (expected if code else StoreUnavailable)
    assert not REFUSED.keys() & BUSY.keys()
    assert not TOO_MUCH.keys() & (BUSY.keys() | REFUSED.keys())


async def test_every_parsing_error_is_the_rows_fault(store: Store) -> None:
    parsing = {name for name in (await engine_codes(store)).values() if name.startswith("CANNOT_PARSE_")}
    assert parsing - set(REFUSED.values()) <= _NOT_OF_ROWS


def test_without_a_code_it_may_work_later() -> None:
    assert isinstance(insert_error(OperationalError("Network Error")), StoreUnavailable)
    assert isinstance(query_error(OperationalError("Network Error")), StoreUnavailable)
