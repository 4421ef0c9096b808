"""Records in a table of their own on the real engine, for tests that ask it questions in SQL."""

import asyncio
from collections.abc import Sequence
from typing import Any

from logstream.query.condition import Condition
from logstream.query.language import compile_query, parse
from logstream.query.language.patterned import finish
from logstream.query.language.result import Column
from logstream.record import Batch, Record
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.store import Store
from logstream.stream import make_stream

_RECEIVED = 1_790_000_000 * 10**9


class Table:
    """`records` as the rows 0, 1, … of a new table.

    It has an event loop of its own, since hypothesis is not async. granularity: rows a granule; with few, an index
    that skips too much is found out. merged: skip indexes are built, which inserts do not do.
    """

    def __init__(
        self, url: str, name: str, records: Sequence[Record], *, granularity: int | None = None, merged: bool = False
    ) -> None:
        self._runner = asyncio.Runner()
        self.stream = make_stream(name)
        self.name = f"{self.stream.database}.logs"
        self.store = self._runner.run(self._fill(url, Batch.of(records), granularity, merged))

    async def _fill(self, url: str, batch: Batch, granularity: int | None, merged: bool) -> Store:
        store = await Store.connect(StoreSettings(url=url))
        await store.migrate(self.stream, retention_days=10_950)
        if granularity is not None:
            await self._remake(store, granularity)
        source = block.Provenance(_RECEIVED, [("k", len(batch))], 1, 0, 0)
        sealed = block.seal(block.encode(batch), len(batch), source)
        await store.insert(self.stream, sealed, rows=len(batch), token="all")
        if merged:
            await store.command(f"OPTIMIZE TABLE {self.name} FINAL")
        return store

    async def _remake(self, store: Store, granularity: int) -> None:
        made = await store.query(f"SHOW CREATE TABLE {self.name}")
        create = str(made.rows[0][0]).replace("index_granularity = 8192", f"index_granularity = {granularity}")
        assert f"index_granularity = {granularity}" in create
        await store.command(f"DROP TABLE {self.name} SYNC")
        await store.command(create)

    def query(self, sql: str, parameters: dict[str, object]) -> list[tuple[Any, ...]]:
        settings = {"use_query_condition_cache": 0}
        return list(self._runner.run(self.store.query(sql, parameters, settings=settings)).rows)

    def rows(self, where: Condition) -> list[int]:
        """The numbers of the rows that `where` holds for, ascending."""
        sql = f"SELECT row FROM {self.name} WHERE {where.sql} ORDER BY row"
        return [row for (row,) in self.query(sql, where.parameters)]

    def ask(
        self, query: str, *, where: Condition | None = None, limit: int = 1000
    ) -> tuple[tuple[Column, ...], list[tuple[Any, ...]]]:
        """The answer to a query with pipes."""
        statement = compile_query(parse(query), table=self.name, where=where, limit=limit)
        rows = self.query(statement.sql, statement.parameters)
        if statement.patterns is not None:
            rows = finish(rows, statement.patterns).rows
        if statement.backwards:
            rows = rows[::-1]
        assert all(len(row) == len(statement.columns) for row in rows)
        return statement.columns, rows

    def close(self) -> None:
        self._runner.run(self.store.command(f"DROP DATABASE {self.stream.database} SYNC"))
        self._runner.run(self.store.close())
        self._runner.close()
