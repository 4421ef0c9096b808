"""Alembic's environment: run on the connection that `logstream.auth.migrate` (or a developer's config) hands over."""

from alembic import context

from logstream.auth.migrate import VERSION_TABLE
from logstream.auth.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
