"""A stream's tables: migrations, retention, and whether servers and settings fit one another."""

import re
from collections.abc import Mapping
from typing import Protocol

from logstream.errors import Conflict, InvalidValue, StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage import migrations, schema
from logstream.storage.cluster import DDL_SETTINGS, Cluster, local_table
from logstream.storage.rows import Rows
from logstream.stream import Stream

_DATABASE = re.compile(r"logstream_[a-z0-9_]+")
_ANY_SIZE: Mapping[str, object] = {
    # ClickHouse refuses to drop what is larger than 50 GB unless it is told so.
    "max_table_size_to_drop": 0,
    "max_partition_size_to_drop": 0,
}


class Statements(Protocol):
    """What tables are asked and changed by: the store."""

    async def query(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> Rows: ...

    async def command(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, settings: Mapping[str, object] | None = None
    ) -> None: ...


class Tables:
    """Every method raises StoreUnavailable."""

    def __init__(self, settings: StoreSettings, store: Statements, shards: int) -> None:
        """shards: how many the settings name."""
        self._settings = settings
        self._store = store
        self._shards = shards
        self._fits = not settings.cluster
        self._there: set[Stream] = set()

    async def migrate(self, stream: Stream, *, retention_days: int) -> None:
        """Bring the stream's database to this release's schema and set its retention. Idempotent, by any number of
        processes at once.

        Raises Conflict when the tables are there in another form, InvalidValue when settings and servers do not fit.
        """
        await self.check_cluster()
        await self._check_form(stream)
        cluster = await self._cluster(stream)
        for statement in migrations.PREPARE:
            await self._change(statement.format(database=stream.database), cluster)
        answer = await self._store.query(migrations.APPLIED.format(database=stream.database))
        for migration in migrations.pending({version for (version,) in answer.rows}):
            for statement in migration.statements:
                await self._change(statement.format(database=stream.database), cluster)
            await self._store.command(
                migrations.RECORD.format(database=stream.database),
                {"version": migration.version, "name": migration.name},
            )
        await self.set_retention(stream, retention_days)

    async def drop(self, stream: Stream) -> None:
        """Remove the stream's database with all that is in it, for good. Idempotent.

        On a cluster replicas that are away remove theirs when they are back. Raises InvalidValue for an id that no
        stream of ours has.
        """
        if not _DATABASE.fullmatch(stream.database):
            raise InvalidValue(f"no stream of ours has the id {stream.stream_id!r}", field="stream")
        self._there.discard(stream)
        await self.check_cluster()
        await self._change(
            migrations.REMOVE.format(database=stream.database), await self._cluster(stream), settings=_ANY_SIZE
        )

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
            await self._change(
                f"ALTER TABLE {stream.database}.{schema.TABLE} MODIFY TTL {schema.ttl(days)}",
                await self._cluster(stream),
            )

    async def retention(self, stream: Stream) -> int | None:
        """Days rows are kept now; None when nothing expires."""
        engine = await self._engine_full(stream, self.local)
        found = re.search(r" TTL .*toIntervalDay\((\d+)\)", engine or "")
        return int(found[1]) if found else None

    async def check(self, stream: Stream) -> None:
        """Raises StoreUnavailable when the stream has no table yet. What was there once is not asked for again."""
        if stream in self._there:
            return
        await self.check_cluster()
        if await self._engine_full(stream, schema.TABLE) is None:
            raise StoreUnavailable(f"the table of stream {stream.name} is not there yet")
        self._there.add(stream)

    async def check_cluster(self) -> None:
        """Raises InvalidValue when the servers do not know the cluster, or have other shards than the settings name."""
        if self._fits:
            return
        name = self._settings.cluster
        answer = await self._store.query(
            "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}", {"cluster": name}
        )
        shards = answer.rows[0][0]
        if not shards:
            raise InvalidValue(f"ClickHouse knows no cluster {name!r}: see system.clusters", field="store.cluster")
        if shards != self._shards:
            raise InvalidValue(
                f"cluster {name!r} has {shards} shards, store url names {self._shards}: replicas of a shard are "
                "separated by commas, shards by semicolons",
                field="store.url",
            )
        self._fits = True

    @property
    def local(self) -> str:
        """The name of the table that holds the lines."""
        return local_table(schema.TABLE) if self._settings.cluster else schema.TABLE

    async def _check_form(self, stream: Stream) -> None:
        engine = await self._engine_full(stream, schema.TABLE)
        if engine is None:
            return
        if engine.startswith("Distributed") != bool(self._settings.cluster):
            there = "a cluster" if engine.startswith("Distributed") else "one server"
            raise Conflict(
                f"the tables of stream {stream.name} were made for {there}, and LOGSTREAM_STORE_CLUSTER is "
                f"{self._settings.cluster!r}: docs/clickhouse.md says how to move"
            )

    async def _engine_full(self, stream: Stream, table: str) -> str | None:
        answer = await self._store.query(
            "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": stream.database, "table": table},
        )
        return str(answer.rows[0][0]) if answer.rows else None

    async def _cluster(self, stream: Stream) -> Cluster | None:
        """How the stream's schema is changed; None on one server."""
        if not self._settings.cluster:
            return None
        answer = await self._store.query(
            "SELECT engine FROM system.databases WHERE name = {database:String}", {"database": stream.database}
        )
        # What is there stays as it is.
        replicated = (
            answer.rows[0][0] == "Replicated" if answer.rows else self._settings.database_engine == "replicated"
        )
        return Cluster(self._settings.cluster, replicated_database=replicated)

    async def _change(self, sql: str, cluster: Cluster | None, *, settings: Mapping[str, object] | None = None) -> None:
        if cluster is None:
            await self._store.command(sql, settings=settings)
            return
        for statement in cluster.statements(sql):
            await self._store.command(statement, settings={**DDL_SETTINGS, **(settings or {})})
