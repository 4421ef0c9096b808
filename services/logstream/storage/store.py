"""ClickHouse over HTTP: inserts, queries, migrations and retention of every stream's table.

The client is clickhouse-connect's async one; the embedded engine and a real ClickHouse differ by URL only.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage import migrations, schema
from logstream.storage.block import COLUMNS, PROVENANCE
from logstream.storage.errors import insert_error, query_error
from logstream.storage.passing import whole
from logstream.storage.progress import COST, RUNNING, Progress, kill, progress, tagged
from logstream.stream import Stream

_COLUMNS = tuple(name for name, _ in COLUMNS + PROVENANCE)
_CHUNK = 256 * 1024
_NO_TIMEOUT = 10 * 365 * 86_400
"""Seconds. The client's library cannot do without a number."""

INSERT_SETTINGS: Mapping[str, str] = {
    # The answer means "stored", and the log is the buffer: nothing else may buffer.
    "async_insert": "0",
    # Every block of the INSERT is joined into one, so that it becomes one part: one atomic step, one token.
    "min_insert_block_size_rows": "4000000000",
    "min_insert_block_size_bytes": "0",
    "max_insert_block_size": "4000000000",
    "max_insert_threads": "1",
    "max_threads": "1",
    "input_format_parallel_parsing": "0",
    "insert_deduplicate": "1",
    # Skip indexes are built by merges, once for many inserts; until then the newest few parts are read whole.
    "materialize_skip_indexes_on_insert": "0",
    # Planned ranges end where the day of received_at changes; if one did not, it must not become two parts.
    "max_partitions_per_insert_block": "1",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query. `rows` are tuples in the order of `column_names`."""

    column_names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


class Store:
    """One client for all streams. Safe for concurrent calls."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._streaming: AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._with_table: set[Stream] = set()

    @classmethod
    async def connect(cls, settings: StoreSettings) -> "Store":
        """A store for the ClickHouse at `settings.url`, which need not be up yet: the first call connects.

        Raises InvalidValue when the URL is not http:// or https:// with a host.
        """
        url = urlsplit(settings.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise InvalidValue(f"store url must be http://HOST:PORT: {settings.url!r}", field="store.url")
        return cls(settings)

    @property
    def query_seconds(self) -> float:
        """Execution time of a statement unless its settings say otherwise."""
        return self._settings.query_timeout_seconds

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    longest = max(self._settings.insert_timeout_seconds, self._settings.query_timeout_seconds)
                    self._client = await self._open(longest)
        return self._client

    async def _connected_for_streams(self) -> AsyncClient:
        if self._streaming is None:
            async with self._opening:
                if self._streaming is None:
                    self._streaming = await self._open(_NO_TIMEOUT)
        return self._streaming

    async def _open(self, silence_seconds: float) -> AsyncClient:
        """silence_seconds: how long the server may send nothing."""
        url = urlsplit(self._settings.url)
        try:
            return await create_async_client(
                interface=url.scheme,
                host=url.hostname,
                port=url.port or (8443 if url.scheme == "https" else 8123),
                proxy_path=url.path,
                username=self._settings.username,
                password=self._settings.password.get_secret_value(),
                database="default",
                # Blocks travel uncompressed: the engine is near, LZ4 costs more CPU a row than the copy it saves.
                compress=False,
                connect_timeout=5,
                send_receive_timeout=silence_seconds,
                client_name="logstream",
                query_retries=0,
                autogenerate_query_id=False,
            )
        except (ClickHouseError, OSError) as error:
            raise StoreUnavailable(f"ClickHouse at {url.hostname}:{url.port} cannot be reached: {error}") from error

    async def insert(self, stream: Stream, parts: Sequence[bytes | memoryview], *, rows: int, token: str) -> None:
        """Store sealed blocks (`logstream.storage.block.seal`; `parts` are their pieces, in order) as one part.

        All or nothing, and once: a repeat with the same `token` changes nothing. All rows must have been
        received on one UTC day. rows: how many there are, for the error text.

        Raises StoreUnavailable (retry with the same parts and token), StoreRefused (these rows never).
        """
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        # A known length spares chunked encoding on both sides.
        headers = {"Content-Length": str(sum(map(len, parts))), "Content-Type": "application/octet-stream"}
        try:
            async with asyncio.timeout(self._settings.insert_timeout_seconds):
                client = await self._connected()
                await client.raw_insert(
                    f"{stream.database}.{schema.TABLE}",
                    column_names=_COLUMNS,
                    insert_block=_chunks(parts),
                    settings=settings,
                    fmt="Native",
                    transport_settings=headers,
                )
        except TimeoutError as error:
            raise StoreUnavailable(
                f"insert of {rows} rows took longer than {self._settings.insert_timeout_seconds} s"
            ) from error
        except ClickHouseError as error:
            raise insert_error(error) from error
        except OSError as error:
            raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error

    async def append(self, table: str, columns: Sequence[str], data: bytes, *, fmt: str = "RowBinary") -> None:
        """Add rows to one of LogStream's own tables (`database.table`), as one part: all or nothing.

        Nothing keeps a repeat out: the table must not mind it. Raises StoreUnavailable, StoreRefused.
        """
        settings = {**INSERT_SETTINGS, "insert_deduplicate": "0"}
        try:
            async with asyncio.timeout(self._settings.insert_timeout_seconds):
                client = await self._connected()
                await client.raw_insert(table, column_names=columns, insert_block=data, settings=settings, fmt=fmt)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"insert into {table} took longer than {self._settings.insert_timeout_seconds} s"
            ) from error
        except ClickHouseError as error:
            raise insert_error(error) from error
        except OSError as error:
            raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error

    async def contains(self, stream: Stream, *, incarnation: int, partition: int, first: int, last: int) -> bool:
        """Whether any row of the bus records `first` … `last` is stored. Raises StoreUnavailable."""
        found = await self.query(
            f"SELECT 1 FROM {stream.database}.{schema.TABLE} WHERE incarnation = {{incarnation:UInt32}}"  # noqa: S608
            " AND partition = {partition:UInt16} AND offset BETWEEN {first:UInt64} AND {last:UInt64} LIMIT 1",
            {"incarnation": incarnation, "partition": partition, "first": first, "last": last},
            settings={"use_query_condition_cache": 0},
        )
        return bool(found.rows)

    async def query(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> Rows:
        """Run a SELECT with bound `parameters` ({name:Type} in the SQL).

        DateTime64(9) loses nanoseconds in Python's datetime: select toUnixTimestamp64Nano instead.
        Raises StoreUnavailable, TooLarge (over max_result_bytes), StoreRefused (the statement is wrong), and within
        a read (`logstream.storage.progress.COST`) TooExpensive (over another limit, also with the statements before).
        """
        limits, cost = self._limits(settings), COST.get()
        async with self._statement(limits) as client:
            result = await client.query(tagged(sql, cost), parameters=dict(parameters or {}), settings=limits)
        # Behind the statement, which has ended: there is nothing left to end in the engine.
        if cost is not None:
            cost.add(result.summary, limits)
        return Rows(tuple(result.column_names), cast(list[tuple[Any, ...]], result.result_rows))

    async def query_bytes(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        fmt: str,
        settings: Mapping[str, object] | None = None,
    ) -> bytes:
        """As `query`, the answer in ClickHouse's format `fmt`."""
        limits = self._limits(settings)
        async with self._statement(limits) as client:
            return await client.raw_query(
                tagged(sql, COST.get()), parameters=dict(parameters or {}), settings=limits, fmt=fmt
            )

    async def stream(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        fmt: str,
        settings: Mapping[str, object] | None = None,
    ) -> AsyncGenerator[bytes]:
        """As `query_bytes`, in pieces as they come; while none is taken, the engine waits.

        Nothing limits it but `settings`: a filter that finds little may have nothing to say for a long time. Ends only
        when the answer was whole. Close it (`aclosing`): an answer left half-way ends its statement in the engine.
        Raises as `query`, between any two pieces.
        """
        limits = {"max_execution_time": 0, "max_result_bytes": 0, **(settings or {})}
        cost = COST.get()
        try:
            with nullcontext() if cost is None else cost.statement():
                client = await self._connected_for_streams()
                answer = await client.raw_stream(
                    tagged(sql, cost), parameters=dict(parameters or {}), settings=limits, fmt=fmt
                )
                async with answer as chunks, aclosing(whole(chunks)) as pieces:
                    async for piece in pieces:
                        yield piece
        except ClickHouseError as error:
            raise query_error(error, limits if cost is not None else None) from error
        except (OSError, aiohttp.ClientError) as error:
            raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error

    async def progress(self) -> dict[str, Progress]:
        """Reads that run in the engine now, by tag. Raises StoreUnavailable."""
        return progress((await self.query(RUNNING)).rows)

    async def kill(self, tag: str) -> None:
        """End what a read has under way in the engine. Raises StoreUnavailable."""
        async with asyncio.timeout(5):
            await self.query(kill(tag))

    def _limits(self, settings: Mapping[str, object] | None) -> dict[str, object]:
        return {
            "max_execution_time": self._settings.query_timeout_seconds,
            "max_result_bytes": self._settings.max_result_bytes,
            "result_overflow_mode": "throw",
            **(settings or {}),
        }

    @asynccontextmanager
    async def _statement(self, limits: Mapping[str, object] | None = None) -> AsyncIterator[AsyncClient]:
        """limits: of a read; a server that should have ended it by itself is taken to hang two seconds later."""
        seconds = float(cast(float, limits["max_execution_time"])) + 2 if limits else None
        cost = COST.get()
        try:
            async with asyncio.timeout(seconds):
                with nullcontext() if cost is None else cost.statement():
                    yield await self._connected()
        except TimeoutError as error:
            raise StoreUnavailable("ClickHouse does not answer in time") from error
        except ClickHouseError as error:
            raise query_error(error, limits if cost is not None else None) from error
        except OSError as error:
            raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error

    async def _command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        async with self._statement() as client:
            await client.command(sql, parameters=dict(parameters) if parameters else None)

    async def migrate(self, stream: Stream, *, retention_days: int) -> None:
        """Bring the stream's database to this release's schema and set its retention. Idempotent."""
        for statement in migrations.PREPARE:
            await self._command(statement.format(database=stream.database))
        answer = await self.query(migrations.APPLIED.format(database=stream.database))
        for migration in migrations.pending({version for (version,) in answer.rows}):
            for statement in migration.statements:
                await self._command(statement.format(database=stream.database))
            await self._command(
                migrations.RECORD.format(database=stream.database),
                {"version": migration.version, "name": migration.name},
            )
        await self.set_retention(stream, retention_days)

    async def set_retention(self, stream: Stream, days: int) -> None:
        """Keep rows `days` days from now on, rows already stored included. Nothing happens when it is so already.

        Raises InvalidValue outside 1 … `schema.MAX_RETENTION_DAYS`.
        """
        if not 1 <= days <= schema.MAX_RETENTION_DAYS:
            raise InvalidValue(
                f"retention_days must be 1 to {schema.MAX_RETENTION_DAYS}: {days}",
                field="retention_days",
                limit=schema.MAX_RETENTION_DAYS,
            )
        if await self.retention(stream) != days:
            await self._command(f"ALTER TABLE {stream.database}.{schema.TABLE} MODIFY TTL {schema.ttl(days)}")

    async def retention(self, stream: Stream) -> int | None:
        """Days rows are kept now; None when nothing expires."""
        answer = await self.query(
            "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": stream.database, "table": schema.TABLE},
        )
        found = re.search(r" TTL .*toIntervalDay\((\d+)\)", answer.rows[0][0]) if answer.rows else None
        return int(found[1]) if found else None

    async def check(self, streams: Iterable[Stream] = ()) -> None:
        """Raises StoreUnavailable when ClickHouse does not answer within 3 s, or one of `streams` has no table yet."""
        client = await self._connected()
        if not await client.ping(3.0):
            raise StoreUnavailable("ClickHouse does not answer")
        for stream in set(streams) - self._with_table:
            answer = await self.query(
                "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {table:String}",
                {"database": stream.database, "table": schema.TABLE},
            )
            if not answer.rows[0][0]:
                raise StoreUnavailable(f"the table of stream {stream.name} is not there yet")
            self._with_table.add(stream)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        clients = (self._client, self._streaming)
        self._client = self._streaming = None
        for client in clients:
            if client is not None:
                await client.close()


async def _chunks(parts: Sequence[bytes | memoryview]) -> AsyncIterator[bytes]:
    """`parts` joined into pieces of about `_CHUNK` bytes: few writes, and never a copy of the whole body."""
    waiting: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
