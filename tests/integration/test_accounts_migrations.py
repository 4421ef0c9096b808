"""The accounts database from nothing, from before Alembic, from a later release; and started by many at once."""

import asyncio
import importlib.util
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable
from tests.support.postgres import ForeignPostgres, Postgres

from logstream.auth import schema
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.migrate import VERSION_TABLE, config
from logstream.auth.principal import Scope
from logstream.errors import StartupError
from logstream.settings import AuthSettings
from logstream.stream import make_stream

NEW_COLUMNS = ("records_per_second", "bytes_per_second", "dead_letter_days", "pending", "deleted_at")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/auth.db"
    return str(request.getfixturevalue("postgres").url())


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


async def opened(url: str) -> Accounts:
    return await Accounts.open(AuthSettings(url=url))


async def test_migrations_lead_to_the_tables_of_the_code(url: str, engine: AsyncEngine) -> None:
    await (await opened(url)).close()

    def differences(connection: Connection) -> object:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        return compare_metadata(context, schema.metadata)

    def columns(connection: Connection) -> dict[str, set[str]]:
        found = inspect(connection)
        return {table: {c["name"] for c in found.get_columns(table)} for table in schema.metadata.tables}

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(columns) == {
            name: set(table.columns.keys()) for name, table in schema.metadata.tables.items()
        }
        head = await connection.run_sync(lambda sync: ScriptDirectory.from_config(config(sync)).get_current_head())
        assert head == schema.REVISION
        assert (await connection.execute(text("SELECT version, revision FROM auth_state"))).one() == (1, 0)


def _version_1(connection: Connection) -> None:
    """The tables as the release before Alembic made them."""
    for table in schema.metadata.sorted_tables:
        old = table.to_metadata(type(schema.metadata)())
        connection.execute(CreateTable(old, if_not_exists=True))
        for index in old.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
    for column in NEW_COLUMNS:
        connection.execute(text(f"ALTER TABLE streams DROP COLUMN {column}"))
    connection.execute(text("INSERT INTO auth_state (id, version, revision) VALUES (1, 1, 7)"))


async def test_a_database_from_before_alembic_is_adopted(url: str, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(_version_1)
        await connection.execute(
            text("INSERT INTO streams VALUES ('default', :id, 14, :no, 5, 3)"),
            {"id": make_stream("default").stream_id, "no": False},
        )
        await connection.execute(text("INSERT INTO users VALUES ('u', 'ada@example.com', '', 'admin', 1, NULL, 2)"))
    for _ in range(2):
        accounts = await opened(url)
        gate = await Gate.open(accounts)
        info = gate.stream("default")
        assert (info.retention_days, info.dead_letter_days, info.ready, info.created_at) == (14, 30, True, 5)
        assert [user.email for user in await accounts.users.list()] == ["ada@example.com"]
        assert gate.authenticate((await accounts.create_key("app", scopes=[Scope.READ])).text).kind == "key"
        await accounts.close()
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT version, revision FROM auth_state"))).one() == (1, 9)


async def test_the_release_before_can_still_write(url: str, engine: AsyncEngine) -> None:
    """During a rolling upgrade both run on the new tables."""
    await (await opened(url)).close()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO streams (name, stream_id, retention_days, anonymous_reads, created_at, revision) "
                "VALUES ('old', 'local-old-1', 30, :no, 1, 1)"
            ),
            {"no": False},
        )
        await connection.execute(text("UPDATE auth_state SET revision = 1"))
    accounts = await opened(url)
    assert (await accounts.streams.get("old")).ready
    await accounts.close()


async def test_what_a_later_release_only_added_to_is_left_alone(url: str, engine: AsyncEngine) -> None:
    await (await opened(url)).close()
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9000'"))
    accounts = await opened(url)
    await accounts.create_key("app", scopes=[Scope.READ])
    await accounts.close()
    async with engine.connect() as connection:
        assert (await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).scalar_one() == "9000"


async def test_a_database_that_is_too_new_is_refused(url: str, engine: AsyncEngine) -> None:
    await (await opened(url)).close()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE auth_state SET version = 2"))
    with pytest.raises(StartupError, match="has version 2, this LogStream knows 1: use the newer"):
        await opened(url)


async def test_many_processes_start_at_once_on_an_empty_database(url: str) -> None:
    code = (
        "import asyncio, sys\n"
        "from logstream.auth.accounts import Accounts\n"
        "from logstream.settings import AuthSettings\n"
        "from logstream.stream import make_stream\n"
        "async def main():\n"
        "    accounts = await Accounts.open(AuthSettings(url=sys.argv[1]))\n"
        "    await accounts.ensure_stream(make_stream('default'))\n"
        "    await accounts.close()\n"
        "sys.stdin.readline()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, url,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, answers


async def test_one_process_opens_many_databases_at_once(postgres: Postgres | ForeignPostgres) -> None:
    urls = [postgres.url() for _ in range(5)]
    opened_ones = await asyncio.gather(*(Accounts.open(AuthSettings(url=url)) for url in urls))
    try:
        for accounts in opened_ones:
            await accounts.ensure_stream(make_stream("default"))
    finally:
        for accounts in opened_ones:
            await accounts.close()


def test_the_scripts_are_part_of_the_package() -> None:
    package = importlib.util.find_spec("logstream.auth.migrations")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent
    assert (folder / "env.py").exists()
    assert len(list((folder / "versions").glob("v*.py"))) == int(schema.REVISION)


async def test_a_file_of_today_keeps_its_mode_and_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    await (await opened(f"sqlite+aiosqlite:///{path}")).close()
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as connection:
        assert connection.execute(f"SELECT count(*) FROM {VERSION_TABLE}").fetchone() == (1,)
    connection.close()
