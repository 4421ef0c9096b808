"""Users of data planes on the operator's own ClickHouse: a password, and rights to their own databases.

Statements about users take no bound values: what is put into them is checked to be a name or a digest first. The
password itself is in none.
"""

import hashlib
import re

from logstream.errors import StoreRefused
from logstream.storage.store import Store
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.metrics import EXTERNAL_CHANGES

_NAME = re.compile(r"logstream_[a-z0-9_]{1,80}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ACCESS_DENIED = 497


class StoreUsers:
    """On one ClickHouse. Every method raises StoreUnavailable, or Refused where the administrator may not do it."""

    def __init__(self, store: Store, cluster: str, written: dict[tuple[str, str], str]) -> None:
        """cluster: of the settings; empty: one server. written: by user and stream, a digest of the password that this
        process wrote last on this ClickHouse."""
        self._store = store
        self._everywhere = f" ON CLUSTER '{cluster}'" if re.fullmatch(r"[A-Za-z0-9_-]+", cluster) else ""
        self._written = written

    async def ensure(self, user: str, password: str, stream: Stream) -> None:
        """The user, with this password, and all rights to the stream's databases, and to no others.

        A password cannot be read back: it is written once in the life of this process, and when it has changed.
        """
        digest = hashlib.sha256(password.encode()).hexdigest()
        if self._written.get((user, stream.stream_id)) == digest:
            return
        name, verifier = _checked(user), digest if _DIGEST.fullmatch(digest) else ""
        databases = [_checked(stream.database), _checked(stream.beside().database)]
        identified = f"{name}{self._everywhere} IDENTIFIED WITH sha256_hash BY '{verifier}'"
        await self._change(f"CREATE USER IF NOT EXISTS {identified}")
        await self._change(f"ALTER USER {identified}")
        for database in databases:
            await self._change(f"GRANT{self._everywhere} ALL ON {database}.* TO {name}")
        self._written[user, stream.stream_id] = digest
        EXTERNAL_CHANGES.labels("clickhouse_user").inc()

    async def drop(self, user: str) -> None:
        """The user with its rights. Idempotent."""
        await self._change(f"DROP USER IF EXISTS {_checked(user)}{self._everywhere}")
        for place in [place for place in self._written if place[0] == user]:
            del self._written[place]

    async def _change(self, statement: str) -> None:
        try:
            await self._store.command(statement)
        except StoreRefused as error:
            if error.clickhouse_code == _ACCESS_DENIED:
                raise Refused(
                    "UsersNotManaged",
                    "the operator's user may make no users on ClickHouse: give it access_management, or give "
                    "spec.connections.clickhouse.secretRef",
                    field="spec.connections.clickhouse",
                ) from error
            raise Refused("ClickHouseRefused", error.message, field="spec.connections.clickhouse") from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"no name of ours: {name!r}")
    return name
