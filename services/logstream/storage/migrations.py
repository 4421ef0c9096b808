"""Versioned changes to a stream's database, applied in order and recorded in the database itself.

Rules:
- A version once released never changes.
- A change expands: it only adds (tables, columns with defaults, indexes), so that the previous release keeps working
  on the new schema, and an upgrade can be rolled back. What nobody uses any more is taken away a release later.
- One statement a version, so that what is recorded is what was done. ClickHouse has no transactions over statements.
- Every statement can be run twice, at the same time even: a process may die between a statement and its record, and
  several may migrate at once.
- Statements are written for one server, in forms that `logstream.storage.cluster` knows how to write for many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from logstream.storage import schema


@dataclass(frozen=True, slots=True)
class Migration:
    """`statements` are SQL with `{database}` for the stream's database."""

    version: int
    name: str
    statements: Sequence[str]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "logs", (schema.CREATE_LOGS,)),
    Migration(2, "indexes", schema.ADD_INDEXES),
    Migration(3, "journal", (schema.CREATE_JOURNAL, schema.CREATE_JOURNAL_CLAIMS)),
    Migration(4, "minute times", schema.ADD_MINUTE_TIMES),
)

PREPARE: tuple[str, ...] = (
    "CREATE DATABASE IF NOT EXISTS {database}",
    """
    CREATE TABLE IF NOT EXISTS {database}.schema_migrations
    (version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
    ENGINE = MergeTree ORDER BY version
    """,
)
REMOVE = "DROP DATABASE IF EXISTS {database} SYNC"
"""Everything of a stream; SYNC, so that its files and its places in Keeper are gone, too, when it is answered."""
APPLIED = "SELECT DISTINCT version FROM {database}.schema_migrations"
RECORD = "INSERT INTO {database}.schema_migrations (version, name) SELECT {{version:UInt32}}, {{name:String}}"


def pending(applied: set[int], migrations: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """Those still to apply, in order. Versions in `applied` that are not known come from a later release."""
    return [m for m in sorted(migrations, key=lambda m: m.version) if m.version not in applied]
