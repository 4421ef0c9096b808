"""A real Postgres server for tests."""

import subprocess
import uuid
from pathlib import Path

from sqlalchemy.engine import make_url

from logstream.standalone.full.postgres_server import PostgresServer, binaries
from logstream.standalone.full.process import ServerProcess
from tests.support.ports import free_ports
from tests.support.server import OwnServer


class Postgres(OwnServer):
    """A server of our own in `folder`; who kills it starts it again.

    `start`, `stop`, `kill` (SIGKILL), `restart`, `pause` (SIGSTOP), `resume`; the address and the data stay. They
    wait: call them with `asyncio.to_thread` in asynchronous tests.
    """

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer(folder, port=free_ports(1)[0])
        self._process: ServerProcess | None = None
        self._log = folder / "postgres.log"

    @property
    def process(self) -> ServerProcess:
        if self._process is None:
            self._server.prepare()
            self._process = ServerProcess("Postgres", self._server.arguments(), self._log, self._server.is_ready)
        return self._process

    def url(self) -> str:
        """Of a fresh, empty database, for SQLAlchemy with asyncpg; the password is in it."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._server.create_database(name)
        return self._server.url(name)


class ForeignPostgres:
    """The server that LOGSTREAM_TEST_POSTGRES_DSN names (its user may create databases): not ours to stop."""

    def __init__(self, dsn: str) -> None:
        self._dsn = make_url(dsn)

    def url(self) -> str:
        """Of a fresh, empty database, for SQLAlchemy with asyncpg; the password is in it. It is left behind."""
        name = f"logstream_test_{uuid.uuid4().hex[:12]}"
        plain = self._dsn.set(drivername="postgresql").render_as_string(hide_password=False)
        subprocess.run([str(binaries() / "psql"), plain, "-qc", f'create database "{name}"'], check=True)
        return self._dsn.set(drivername="postgresql+asyncpg", database=name).render_as_string(hide_password=False)

    def ensure_running(self) -> None: ...
