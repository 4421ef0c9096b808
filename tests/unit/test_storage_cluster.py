"""The schema of a cluster as text, and what may be concluded from replicas that answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clusters import FOLDER, FORMS, statements, text

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.storage.cluster import Cluster, enough, insert_settings, is_stored, quorum

CLUSTER = Cluster("logs")


@pytest.mark.parametrize("name", FORMS)
def test_the_statements_are_those_on_file(name: str) -> None:
    """A change here is a change of what installations run: `python -m tests.support.clusters` writes the files."""
    assert text(statements(FORMS[name])) == (FOLDER / f"{name}.sql").read_text()


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE d.logs",
        "DROP DATABASE d",
        "CREATE TABLE d.t (a UInt8) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE IF NOT EXISTS d.t (a UInt8) ENGINE = Log",
        "RENAME TABLE d.a TO d.b",
        "INSERT INTO d.t SELECT 1",
    ],
)
def test_forms_that_are_not_known_are_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="no form known"):
        CLUSTER.statements(sql)


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ("ADD COLUMN IF NOT EXISTS a UInt8", ["logs_local", "logs"]),
        ("ADD INDEX IF NOT EXISTS a a TYPE minmax", ["logs_local"]),
        ("MODIFY TTL timestamp + toIntervalDay(1)", ["logs_local"]),
        ("MODIFY SETTING fsync_after_insert = 0", ["logs_local"]),
    ],
)
def test_only_columns_are_changed_in_both_tables(change: str, tables: list[str]) -> None:
    assert CLUSTER.statements(f"ALTER TABLE d.logs {change}") == tuple(
        f"ALTER TABLE d.{table} ON CLUSTER 'logs' {change}" for table in tables
    )


@pytest.mark.parametrize("name", ["", "{cluster}", "a b", "a'", "1"])
def test_a_name_that_no_cluster_has_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="cluster"):
        Cluster(name)


@pytest.mark.parametrize(
    ("setting", "replicas", "needed"),
    [("auto", 1, 1), ("auto", 2, 2), ("auto", 3, 2), ("auto", 4, 3), ("2", 3, 2), ("0", 3, 1), ("1", 3, 1)],
)
def test_the_quorum_is_more_than_half_or_what_is_set(setting: str, replicas: int, needed: int) -> None:
    assert quorum(setting, replicas) == needed


def test_one_replicas_word_needs_no_quorum() -> None:
    assert insert_settings("0") == insert_settings("1") == {}
    assert insert_settings("auto")["insert_quorum"] == "auto"
    assert insert_settings("3")["insert_quorum"] == "3"


@given(st.data())
def test_rows_are_never_taken_for_missing_when_a_quorum_may_have_them(data: st.DataObject) -> None:
    replicas = data.draw(st.integers(1, 5), label="replicas of a shard")
    shards = data.draw(st.integers(1, 3))
    needed = data.draw(st.integers(1, replicas))
    holders = data.draw(st.sets(st.integers(0, replicas - 1)), label="replicas of shard 0 that have the rows")
    servers = shards * replicas
    there = data.draw(st.sets(st.integers(0, servers - 1)), label="replicas that answer")
    held = [3 if replica in holders else 0 for replica in there]
    try:
        answer = is_stored(held, servers=servers, quorum=needed)
    except StoreUnavailable:
        assert len(there) < servers or 0 < len(holders) < needed
        return
    if answer:
        assert len(holders) >= needed
    else:
        assert len(holders) < needed


def test_all_there_and_nothing_held_is_an_answer() -> None:
    assert is_stored([0, 0, 0], servers=3, quorum=2) is False
    assert is_stored([0, 0], servers=3, quorum=2) is False
    assert is_stored([5, 5], servers=3, quorum=2) is True
    for held in ([0], [5, 0, 0]):
        with pytest.raises(StoreUnavailable):
            is_stored(held, servers=3, quorum=2)
    with pytest.raises(StoreUnavailable, match="2 of 3"):
        enough(1, servers=3, quorum=2)
