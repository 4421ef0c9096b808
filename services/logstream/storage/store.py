"""ClickHouse over HTTP: inserts, queries, migrations and retention of every stream's table.

The client is clickhouse-connect's async one; the embedded engine, a real ClickHouse and a cluster of them differ by
settings only.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, cast

import aiohttp
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from logstream.errors import StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.block import COLUMNS, PROVENANCE
from logstream.storage.cluster import READ_SETTINGS, Cluster, enough, insert_settings, is_stored, quorum
from logstream.storage.connection import check_files
from logstream.storage.errors import query_error
from logstream.storage.passing import whole
from logstream.storage.progress import COST, RUNNING, Progress, added, kill, progress, tagged
from logstream.storage.rows import Rows
from logstream.storage.servers import Servers
from logstream.storage.tables import Tables
from logstream.stream import Stream

__all__ = ["INSERT_SETTINGS", "Rows", "Store"]

_COLUMNS = tuple(name for name, _ in COLUMNS + PROVENANCE)
_CHUNK = 256 * 1024
_EVERY_REPLICA: Mapping[str, object] = {
    # Those that do not answer are counted instead, see `cluster.enough`.
    "skip_unavailable_shards": 1,
    "use_query_condition_cache": 0,
}

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


class Store:
    """One client for all streams. Safe for concurrent calls."""

    def __init__(self, settings: StoreSettings) -> None:
        """Raises InvalidValue, as `connect` does, but for certificate files."""
        self._settings = settings
        self._servers = Servers(settings)
        self._cluster = Cluster(settings.cluster) if settings.cluster else None
        self._tables = Tables(settings, self, len(self._servers.shards))
        self._read_settings = {} if self._cluster is None else dict(READ_SETTINGS)
        self._insert_settings = dict(INSERT_SETTINGS)
        if self._cluster is not None:
            self._insert_settings |= insert_settings(settings.insert_quorum)

    @classmethod
    async def connect(cls, settings: StoreSettings) -> "Store":
        """A store for the ClickHouse at `settings.url`, which need not be up yet: the first call connects.

        Raises InvalidValue: a URL that is not http:// or https:// with a host, a name that no cluster can have, a
        certificate that cannot be read.
        """
        check_files(settings)
        return cls(settings)

    @property
    def query_seconds(self) -> float:
        """Execution time of a statement unless its settings say otherwise."""
        return self._settings.query_timeout_seconds

    @property
    def distributed(self) -> bool:
        """Whether `logs` is spread over a cluster: then what one server's system tables say is not the whole."""
        return self._cluster is not None

    def local(self, stream: Stream) -> str:
        """The table (database.table) that holds a stream's lines on the server that is asked."""
        return f"{stream.database}.{self._tables.local}"

    async def insert(
        self,
        stream: Stream,
        parts: Sequence[bytes | memoryview],
        *,
        rows: int,
        token: str,
        partition: int | None = None,
    ) -> None:
        """Store sealed blocks (`logstream.storage.block.seal`; `parts` are their pieces, in order) as one part.

        All or nothing, and once: a repeat with the same `token` changes nothing. All rows must have been
        received on one UTC day. rows: how many there are, for the error text. partition: of the log, which tells the
        shard; needed where there are several.

        Raises StoreUnavailable (retry with the same parts and token), StoreRefused (these rows never).
        """
        shards = self._servers.shards
        if partition is None and len(shards) > 1:
            raise ValueError("with several shards an insert needs the partition of its rows")
        table = self.local(stream)
        settings = {**self._insert_settings, "insert_deduplication_token": token}
        # A known length spares chunked encoding on both sides.
        headers = {"Content-Length": str(sum(map(len, parts))), "Content-Type": "application/octet-stream"}

        async def send(client: AsyncClient) -> None:
            await client.raw_insert(
                table,
                column_names=_COLUMNS,
                insert_block=_chunks(parts),
                settings=settings,
                fmt="Native",
                transport_settings=headers,
            )

        await self._servers.write(
            shards[(partition or 0) % len(shards)],
            send,
            seconds=self._settings.insert_timeout_seconds,
            what=f"insert of {rows} rows",
        )

    async def append(self, table: str, columns: Sequence[str], data: bytes, *, fmt: str = "RowBinary") -> None:
        """Add rows to one of LogStream's own tables (`database.table`), as one part: all or nothing.

        Nothing keeps a repeat out: the table must not mind it. Raises StoreUnavailable, StoreRefused.
        """
        settings = {**self._insert_settings, "insert_deduplicate": "0"}

        async def send(client: AsyncClient) -> None:
            await client.raw_insert(table, column_names=columns, insert_block=data, settings=settings, fmt=fmt)

        await self._servers.write(
            self._servers.home, send, seconds=self._settings.insert_timeout_seconds, what=f"insert into {table}"
        )

    async def contains(
        self,
        stream: Stream,
        *,
        incarnation: int,
        partition: int,
        first: int,
        last: int,
        rows: tuple[int, int] | None = None,
    ) -> bool:
        """Whether any row of the bus records `first` … `last` is stored. rows: first and last number within them.

        On a cluster every replica is asked, of every shard, so that neither replication lag nor another number of
        shards hides what was acknowledged. Raises StoreUnavailable, also while that cannot be told.
        """
        condition = (
            "incarnation = {incarnation:UInt32} AND partition = {partition:UInt16}"
            " AND offset BETWEEN {first:UInt64} AND {last:UInt64}"
        )
        parameters = {"incarnation": incarnation, "partition": partition, "first": first, "last": last}
        if rows is not None:
            condition += " AND row BETWEEN {first_row:UInt32} AND {last_row:UInt32}"
            parameters |= {"first_row": rows[0], "last_row": rows[1]}
        table = self.local(stream)
        if self._cluster is None:
            found = await self.query(
                f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1",  # noqa: S608
                parameters,
                settings={"use_query_condition_cache": 0},
            )
            return bool(found.rows)
        servers, needed = await self._quorum(self._cluster)
        # A view is counted on each replica, and every replica that answers has one row to tell.
        count = f"view(SELECT count() AS held FROM {table} WHERE {condition})"  # noqa: S608
        found = await self.query(
            f"SELECT held FROM {self._cluster.every_replica(count)}",  # noqa: S608
            parameters,
            settings=_EVERY_REPLICA,
        )
        return is_stored([held for (held,) in found.rows], servers=servers, quorum=needed)

    def acknowledged(self, table: str) -> str:
        """What follows FROM for `query_acknowledged`: `table` (database.table, not `logs`)."""
        return table if self._cluster is None else self._cluster.every_replica(table)

    async def query_acknowledged(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> Rows:
        """As `query`, sure to see every row that was acknowledged before, whatever replica took it.

        The tables in `sql` come from `acknowledged`; on a cluster their rows come once a replica, which the statement
        must not mind (uniqExact, argMax). Raises StoreUnavailable, too, while so many replicas are away that rows may
        lie on those only.
        """
        if self._cluster is None:
            return await self.query(sql, parameters, settings=settings)
        await self._enough(self._cluster)
        answer = await self.query(sql, parameters, settings={**_EVERY_REPLICA, **(settings or {})})
        # Again: one that went away meanwhile was left out.
        await self._enough(self._cluster)
        return answer

    async def _quorum(self, cluster: Cluster) -> tuple[int, int]:
        """How many replicas there are in all, and how many hold a row before it counts as stored."""
        answer = await self.query(
            "SELECT sum(replicas), max(replicas) FROM (SELECT count() AS replicas FROM system.clusters "
            "WHERE cluster = {cluster:String} GROUP BY shard_num)",
            {"cluster": cluster.name},
        )
        servers, replicas = answer.rows[0]
        return servers, quorum(self._settings.insert_quorum, replicas)

    async def _enough(self, cluster: Cluster) -> None:
        servers, needed = await self._quorum(cluster)
        answer = await self.query(
            f"SELECT count() FROM {cluster.every_replica('system.one')}",  # noqa: S608
            settings=_EVERY_REPLICA,
        )
        enough(answer.rows[0][0], servers=servers, quorum=needed)

    async def query(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> Rows:
        """Run a SELECT with bound `parameters` ({name:Type} in the SQL).

        DateTime64(9) loses nanoseconds in Python's datetime: select toUnixTimestamp64Nano instead.
        Raises StoreUnavailable, TooLarge (over max_result_bytes), StoreRefused (the statement is wrong), and within
        a read (`logstream.storage.progress.COST`) TooExpensive (over another limit, also with the statements before).
        """
        limits, cost = self._limits(settings), COST.get()
        text, values = tagged(sql, cost), dict(parameters or {})
        result = await self._servers.read(
            lambda client: client.query(text, parameters=values, settings=limits), seconds=_wait(limits), limits=limits
        )
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
        text, values = tagged(sql, COST.get()), dict(parameters or {})
        return await self._servers.read(
            lambda client: client.raw_query(text, parameters=values, settings=limits, fmt=fmt),
            seconds=_wait(limits),
            limits=limits,
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
        limits = {**self._read_settings, "max_execution_time": 0, "max_result_bytes": 0, **(settings or {})}
        cost = COST.get()
        text, values = tagged(sql, cost), dict(parameters or {})
        answer = await self._servers.read(
            lambda client: client.raw_stream(text, parameters=values, settings=limits, fmt=fmt),
            limits=limits,
            streaming=True,
        )
        try:
            with nullcontext() if cost is None else cost.statement():
                async with answer as chunks, aclosing(whole(chunks)) as pieces:
                    async for piece in pieces:
                        yield piece
        except ClickHouseError as error:
            raise query_error(error, limits if cost is not None else None) from error
        except (OSError, aiohttp.ClientError) as error:
            raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error

    async def progress(self) -> dict[str, Progress]:
        """Reads that run in the engine now, by tag. Raises StoreUnavailable."""
        answers = await self._servers.everywhere(lambda client: client.query(RUNNING), seconds=5)
        return added(progress(cast(list[tuple[str, int, int, int, int]], answer.result_rows)) for answer in answers)

    async def kill(self, tag: str) -> None:
        """End what a read has under way in the engine. Raises StoreUnavailable."""
        sql = kill(tag)
        await self._servers.everywhere(lambda client: client.query(sql), seconds=5)

    def _limits(self, settings: Mapping[str, object] | None) -> dict[str, object]:
        return {
            **self._read_settings,
            "max_execution_time": self._settings.query_timeout_seconds,
            "max_result_bytes": self._settings.max_result_bytes,
            "result_overflow_mode": "throw",
            **(settings or {}),
        }

    async def command(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> None:
        """Run a statement that changes something and may be run again. Raises StoreUnavailable, StoreRefused."""
        values, options = dict(parameters) if parameters else None, dict(settings) if settings else None
        await self._servers.read(lambda client: client.command(sql, parameters=values, settings=options))

    async def migrate(self, stream: Stream, *, retention_days: int) -> None:
        """Bring the stream's database to this release's schema and set its retention; see `Tables.migrate`."""
        await self._tables.migrate(stream, retention_days=retention_days)

    async def drop(self, stream: Stream) -> None:
        """Remove the stream's database with everything in it, for good; see `Tables.drop`."""
        await self._tables.drop(stream)

    async def set_retention(self, stream: Stream, days: int) -> None:
        """Keep rows `days` days from now on, rows already stored included; see `Tables.set_retention`."""
        await self._tables.set_retention(stream, days)

    async def retention(self, stream: Stream) -> int | None:
        """Days rows are kept now; None when nothing expires."""
        return await self._tables.retention(stream)

    async def check(self, streams: Iterable[Stream] = ()) -> None:
        """Raises StoreUnavailable when ClickHouse does not answer within 3 s, or one of `streams` has no table yet."""
        await self._servers.ping()
        for stream in streams:
            await self._tables.check(stream)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._servers.close()


def _wait(limits: Mapping[str, object]) -> float:
    """Seconds; a server that should have ended a statement by itself is taken to hang two seconds later."""
    return float(cast(float, limits["max_execution_time"])) + 2


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
