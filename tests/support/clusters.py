"""The schema as SQL text, for golden files. `python -m tests.support.clusters` writes them anew."""

from collections.abc import Sequence
from pathlib import Path

from logstream.storage import migrations, schema
from logstream.storage.cluster import Cluster

FOLDER = Path(__file__).parents[1] / "golden" / "clickhouse"
DATABASE = "logstream_local_web_0badc0de"
FORMS: dict[str, Cluster | None] = {
    "one_server": None,
    "on_cluster": Cluster("logs"),
    "replicated_database": Cluster("logs", replicated_database=True),
}


def statements(cluster: Cluster | None) -> list[str]:
    """All that changes the schema, in order, of one form: from the first statement to the stream's removal."""
    written = [
        *migrations.PREPARE,
        *(statement for migration in migrations.MIGRATIONS for statement in migration.statements),
        f"ALTER TABLE {{database}}.{schema.TABLE} MODIFY TTL {schema.ttl(7)}",
        migrations.REMOVE,
    ]
    plain = [sql.format(database=DATABASE) for sql in written]
    return plain if cluster is None else [one for sql in plain for one in cluster.statements(sql)]


def text(sql: Sequence[str]) -> str:
    return "".join(f"{one.strip()};\n\n" for one in sql)


if __name__ == "__main__":
    for name, cluster in FORMS.items():
        (FOLDER / f"{name}.sql").write_text(text(statements(cluster)))
