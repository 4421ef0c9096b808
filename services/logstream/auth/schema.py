"""The accounts database: its tables. How an older one is brought up to date: `logstream.auth.migrate`.

Every row that the gate keeps in memory has the `revision` at which it last changed. One row counts revisions;
each writing transaction raises it first and so holds its lock: writers come one after another, revisions are
committed in order, and "rows with a revision above the last one seen" misses nothing. Rows the gate knows are
therefore never deleted while they matter: users, sessions and keys end by a time in a column.

Times are nanoseconds since the Unix epoch, UTC. Types are those that SQLite and Postgres share.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

VERSION = 1
"""What code must know to work with the database (`auth_state.version`). A migration that only adds leaves it as it
is, so that the release before runs on; one that takes away or changes meaning raises it, a release later."""

REVISION = "0002"
"""The newest migration in `logstream.auth.migrations`."""

metadata = MetaData()

state = Table(
    "auth_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    # NULL once deleted, so that the address is free again while the row still tells other processes.
    Column("email", Text, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Index("users_revision", "revision"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Index("sessions_revision", "revision"),
    Index("sessions_user", "user_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("stream", Text),
    Column("scopes", Text, nullable=False),
    Column("owner_id", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("records_per_second", Float),
    Column("bytes_per_second", Float),
    Column("revision", BigInteger, nullable=False),
    Index("api_keys_revision", "revision"),
    Index("api_keys_owner", "owner_id"),
)

streams = Table(
    "streams",
    metadata,
    Column("name", Text, primary_key=True),
    Column("stream_id", Text, nullable=False, unique=True),
    Column("retention_days", Integer, nullable=False),
    Column("anonymous_reads", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # Of the whole stream, beside the quotas of its keys.
    Column("records_per_second", Float),
    Column("bytes_per_second", Float),
    Column("dead_letter_days", Integer, nullable=False, server_default=text("30")),
    # What is still to be done outside this database: "create", "remove" or nothing.
    Column("pending", Text),
    Column("deleted_at", BigInteger),
    Index("streams_revision", "revision"),
)

# Not kept by the gate; `revision` is what tells one state of a view from the next.
saved_views = Table(
    "saved_views",
    metadata,
    Column("id", Text, primary_key=True),
    # Stays when the owner's account is deleted: shared views outlive it.
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("has_pipes", Boolean, nullable=False),
    Column("since", Text),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("columns", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("owner_id", "name", name="saved_views_name"),
    Index("saved_views_order", "name", "id"),
)
