"""The schema on a cluster: statements written for one server, as the same tables spread over shards and replicas.

On one server a stream's lines are the table `logs`. On a cluster they are `logs_local` on every replica
(Replicated…MergeTree) and `logs` is a Distributed table over it, so that whoever reads `logs` need not know.
LogStream's own small tables (`schema_migrations`, `journal` …) keep their names: they are written and read on the
first shard.

Migrations are written once, for one server; `statements` rewrites them. Only the forms that it knows are allowed, so
that a new one cannot be left behind on the cluster unseen. docs/adr/0015-clickhouse-clusters.md says why it is so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logstream.errors import InvalidValue, StoreUnavailable

SHARDED = frozenset({"logs"})
"""Tables whose rows are spread over shards, by the partition of the log."""
SHARDING_KEY = "partition"

DEDUPLICATION_SECONDS = 7 * 86_400
"""Tokens are kept in Keeper this long, or until 10,000 others came, whichever is first."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,126}")
_CREATE_DATABASE = re.compile(r"\s*CREATE DATABASE IF NOT EXISTS (\w+)\s*")
_DROP_DATABASE = re.compile(r"\s*DROP DATABASE IF EXISTS (\w+) SYNC\s*")
_CREATE_TABLE = re.compile(
    r"\s*CREATE TABLE IF NOT EXISTS (?P<database>\w+)\.(?P<table>\w+)"
    r"(?P<columns>.*?)\bENGINE = (?P<engine>\w*MergeTree)(?:\((?P<arguments>[^()]*)\))?(?P<rest>.*)",
    re.DOTALL,
)
_ALTER_TABLE = re.compile(r"\s*ALTER TABLE (?P<database>\w+)\.(?P<table>\w+)(?P<change>\s.*)", re.DOTALL)
_COLUMN_CHANGE = re.compile(r"\s*(ADD|MODIFY|DROP|COMMENT) COLUMN\b")
_ONE_SERVER_WINDOW = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")

DDL_SETTINGS: Mapping[str, object] = {
    # Replicas that are away catch up from the queue by themselves: a migration does not wait for them.
    "distributed_ddl_output_mode": "throw_only_active",
    "distributed_ddl_task_timeout": 60,
}
"""Of statements that change the schema. The timeout, in seconds, is below the client's own."""

READ_SETTINGS: Mapping[str, object] = {
    # An answer without the lines of a shard would look like a whole one.
    "skip_unavailable_shards": 0,
    # The same replica again while it is there: replicas may be behind one another, and pages must not go back in time.
    "load_balancing": "in_order",
    "distributed_product_mode": "global",
}
"""Of every read."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as `system.clusters` of its servers names it.

    replicated_database: the database replicates schema changes by itself (engine Replicated), so that statements name
    no cluster and tables no path in Keeper.
    """

    name: str
    replicated_database: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(
                "the cluster's name must be letters, digits, '_', '.' and '-' (no macro): "
                f"{self.name!r}; see system.clusters",
                field="store.cluster",
            )

    def statements(self, sql: str) -> Sequence[str]:
        """What a statement that changes the schema of one server is on this cluster, in order.

        `sql` names its table as database.table. Raises ValueError for a form that is not known here.
        """
        if found := _CREATE_DATABASE.fullmatch(sql):
            return (self._create_database(found[1]),)
        if found := _DROP_DATABASE.fullmatch(sql):
            return (f"DROP DATABASE IF EXISTS {found[1]} ON CLUSTER '{self.name}' SYNC",)
        if found := _CREATE_TABLE.fullmatch(sql):
            return self._create_table(found)
        if found := _ALTER_TABLE.fullmatch(sql):
            return self._alter_table(found)
        raise ValueError(f"no form known for a cluster: {sql.strip()[:80]!r}")

    def every_replica(self, table: str) -> str:
        """`table` (database.table), of all replicas of all shards, as what follows FROM. Rows come once a replica."""
        return f"clusterAllReplicas('{self.name}', {table})"

    @property
    def _on_cluster(self) -> str:
        return "" if self.replicated_database else f" ON CLUSTER '{self.name}'"

    def _create_database(self, database: str) -> str:
        sql = f"CREATE DATABASE IF NOT EXISTS {database} ON CLUSTER '{self.name}'"
        if self.replicated_database:
            sql += f" ENGINE = Replicated('/clickhouse/databases/{database}', '{{shard}}', '{{replica}}')"
        return sql

    def _create_table(self, found: re.Match[str]) -> Sequence[str]:
        database, table = found["database"], found["table"]
        local = local_table(table)
        engine = self._engine(database, local, found["engine"], found["arguments"])
        rest = _ONE_SERVER_WINDOW.sub(
            rf"replicated_deduplication_window = \1, replicated_deduplication_window_seconds = {DEDUPLICATION_SECONDS}",
            found["rest"].rstrip(),
        )
        create = (
            f"CREATE TABLE IF NOT EXISTS {database}.{local}{self._on_cluster}{found['columns']}ENGINE = {engine}{rest}"
        )
        if local == table:
            return (create,)
        return create, (
            f"CREATE TABLE IF NOT EXISTS {database}.{table}{self._on_cluster} AS {database}.{local}\n"
            f"ENGINE = Distributed('{self.name}', '{database}', '{local}', {SHARDING_KEY})"
        )

    def _engine(self, database: str, table: str, engine: str, arguments: str | None) -> str:
        given = [arguments] if arguments else []
        if not self.replicated_database:
            # Named, not by UUID: a replica that is added later then joins the others instead of standing alone.
            given[:0] = [f"'/clickhouse/tables/{{shard}}/{database}/{table}'", "'{replica}'"]
        return f"Replicated{engine}" + (f"({', '.join(given)})" if given else "")

    def _alter_table(self, found: re.Match[str]) -> Sequence[str]:
        database, table, change = found["database"], found["table"], found["change"].rstrip()
        tables = [local_table(table)]
        if table in SHARDED and _COLUMN_CHANGE.match(change):
            # The rows first: a column that only the Distributed table knows would fail reads meanwhile.
            tables.append(table)
        return tuple(f"ALTER TABLE {database}.{name}{self._on_cluster}{change}" for name in tables)


def local_table(table: str) -> str:
    """The table of one replica's own rows, on a cluster."""
    return f"{table}_local" if table in SHARDED else table


def quorum(setting: str, replicas: int) -> int:
    """How many replicas hold an acknowledged row. setting: "auto" (more than half of `replicas`) or a number."""
    return replicas // 2 + 1 if setting == "auto" else max(1, int(setting))


def insert_settings(setting: str) -> Mapping[str, str]:
    """Of an INSERT into replicated tables. setting: as above; below 2 one replica's word is enough.

    In parallel, because several partitions of the log write to one shard at once: without it an INSERT is refused
    while another one waits for its quorum. The price is that reads cannot ask for sequential consistency, so that
    what must be certain is asked of every replica (`Store.contains`).
    """
    if setting != "auto" and int(setting) < 2:
        return {}
    return {
        "insert_quorum": setting,
        "insert_quorum_parallel": "1",
        "insert_quorum_timeout": "60000",
    }


def is_stored(held: Sequence[int], *, servers: int, quorum: int) -> bool:
    """Whether rows that may have been inserted are stored for good.

    held: how many of them each replica that answered has. servers: how many replicas there are, of all shards.
    False: no replica can have acknowledged them, and a repeat is safe. Raises StoreUnavailable while that is not known:
    too many replicas are away, or some have the rows and the quorum is not reached yet (a repeat would be kept out by
    its token as long as Keeper remembers it, but then only).
    """
    holders = sum(count > 0 for count in held)
    if holders >= quorum:
        return True
    if holders:
        raise StoreUnavailable(f"rows are on {holders} replicas, and stored once they are on {quorum}")
    enough(len(held), servers=servers, quorum=quorum)
    return False


def enough(answered: int, *, servers: int, quorum: int) -> None:
    """Raises StoreUnavailable when rows that a quorum acknowledged may all lie on replicas that did not answer."""
    if servers - answered >= quorum:
        raise StoreUnavailable(
            f"{servers - answered} of {servers} ClickHouse servers do not answer: what is stored cannot be told"
        )
