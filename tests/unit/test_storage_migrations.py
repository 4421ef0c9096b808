"""Migrations: order, completeness, and the rules a released one keeps."""

import re

from logstream.storage import schema
from logstream.storage.block import COLUMNS, PROVENANCE
from logstream.storage.migrations import MIGRATIONS, Migration, pending


def test_pending_ones_come_in_order_and_once() -> None:
    migrations = [Migration(3, "c", ()), Migration(1, "a", ()), Migration(2, "b", ())]
    assert [m.version for m in pending(set(), migrations)] == [1, 2, 3]
    assert [m.version for m in pending({1, 3}, migrations)] == [2]
    assert pending({1, 2, 3, 4}, migrations) == []


def test_versions_are_unique_and_statements_repeatable() -> None:
    versions = [m.version for m in MIGRATIONS]
    assert versions == sorted(set(versions))
    for migration in MIGRATIONS:
        for statement in migration.statements:
            assert "IF NOT EXISTS" in statement or "IF EXISTS" in statement
            assert "{database}" in statement
            # A projection holds nothing that its table does not.
            assert not re.search(r"\b(DROP(?! PROJECTION)|RENAME|TRUNCATE)\b", statement)


def test_new_versions_are_one_statement_each() -> None:
    """So that what is recorded and what was done are the same; the first four were made before that rule."""
    for migration in MIGRATIONS:
        assert len(migration.statements) == 1 or migration.version <= 4


def test_the_table_has_every_column_of_a_block() -> None:
    columns = re.findall(r"^    ([a-z_]+) [A-Z]", schema.CREATE_LOGS, re.MULTILINE)
    assert columns == [name for name, _ in COLUMNS + PROVENANCE]


def test_retention_never_reaches_past_32_bit_time() -> None:
    latest_year = 2075 + schema.MAX_RETENTION_DAYS / 365
    assert latest_year < 2106
    assert schema.ttl(7).endswith("+ toIntervalDay(7)")
