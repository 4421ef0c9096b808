"""Bringing the accounts database up to date with Alembic, and refusing one that is too new."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, text

from logstream.auth import schema
from logstream.errors import StartupError

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "auth_alembic_version"
_SCRIPTS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x6C6F6773_61757468
"""Held while migrating on Postgres, so that processes that start at once come one after another."""


def migrate(connection: Connection) -> None:
    """Create what is missing and bring an older database up to `schema.REVISION`, in the caller's transaction.

    A database that a later release has added to is left as it is; raises StartupError when that release took
    something away (its `auth_state.version` is above `schema.VERSION`).
    """
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    tables = set(inspect(connection).get_table_names())
    if schema.state.name in tables:
        found = connection.execute(select(schema.state.c.version)).scalar_one_or_none() or 0
        if found > schema.VERSION:
            raise StartupError(
                f"the accounts database has version {found}, this LogStream knows {schema.VERSION}: "
                "use the newer LogStream"
            )
    if VERSION_TABLE in tables and _is_current(connection):
        return
    # It tells each step, and already when it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Half as long to import as a start takes, and seldom needed.
    from alembic import command

    command.upgrade(config(connection), "head")


def config(connection: Connection) -> "Config":
    """Alembic's configuration for the scripts of this package, on `connection`."""
    from alembic.config import Config

    made = Config(attributes={"connection": connection})
    # A percent sign in the path would be taken for an interpolation.
    made.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def _is_current(connection: Connection) -> bool:
    """Whether nothing is to be done: up to date, or further than this code knows."""
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()  # noqa: S608
    return found is not None and found >= schema.REVISION
