"""The tables of version 1. Each is made where it is missing, so that databases from before Alembic are adopted."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "auth_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("email", sa.Text, unique=True),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("stream", sa.Text),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
        sa.Column("records_per_second", sa.Float),
        sa.Column("bytes_per_second", sa.Float),
        sa.Column("revision", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "streams",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("stream_id", sa.Text, nullable=False, unique=True),
        sa.Column("retention_days", sa.Integer, nullable=False),
        sa.Column("anonymous_reads", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "saved_views",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("has_pipes", sa.Boolean, nullable=False),
        sa.Column("since", sa.Text),
        sa.Column("start_time", sa.BigInteger),
        sa.Column("end_time", sa.BigInteger),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("owner_id", "name", name="saved_views_name"),
        if_not_exists=True,
    )
    for name, table, columns in (
        ("users_revision", "users", ["revision"]),
        ("sessions_revision", "sessions", ["revision"]),
        ("sessions_user", "sessions", ["user_id"]),
        ("api_keys_revision", "api_keys", ["revision"]),
        ("api_keys_owner", "api_keys", ["owner_id"]),
        ("streams_revision", "streams", ["revision"]),
        ("saved_views_order", "saved_views", ["name", "id"]),
    ):
        op.create_index(name, table, columns, if_not_exists=True)
    op.execute("INSERT INTO auth_state (id, version, revision) VALUES (1, 1, 0) ON CONFLICT (id) DO NOTHING")


def downgrade() -> None:
    raise NotImplementedError("the accounts database goes forwards only: put a backup in its place")
