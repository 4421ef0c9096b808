"""A data plane's accounts: a database and a role of its own on Postgres, and its streams as rows in it.

The administrator makes database and role, and never works in the database: migrations and rows are the role's own,
so what the role may do is all that can be done there. Streams are followed by the pods through this database.
"""

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from logstream.auth.accounts import Accounts
from logstream.auth.postgres import PostgresAddress
from logstream.auth.principal import Quota
from logstream.auth.streams import StreamInfo
from logstream.clock import Clock
from logstream.errors import StartupError, Unavailable
from logstream.settings import AuthSettings
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.metrics import EXTERNAL_CHANGES

if TYPE_CHECKING:
    import asyncpg

_ROUNDS = 4096
_MAX_IDENTIFIER = 63


def database_name(namespace: str, name: str, uid: str) -> str:
    """Of a data plane's database, and of its role: for people, and unique by the resource's uid."""
    digest = hashlib.sha256(uid.encode()).hexdigest()[:8]
    return f"logstream_{namespace}_{name}".replace("-", "_")[: _MAX_IDENTIFIER - 9] + f"_{digest}"


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who makes databases and roles. url: of any database on the server, without a password in it."""

    url: str
    password: str

    def address(self) -> PostgresAddress:
        """Raises Refused."""
        return PostgresAddress.of(_parsed(self.url), self.password)

    def url_of(self, database: str) -> str:
        """Of a data plane's database, as its role, without a password."""
        parsed = _parsed(self.url)
        return URL.create(
            "postgresql", database, None, parsed.host, parsed.port, database, dict(parsed.query)
        ).render_as_string(hide_password=False)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The message would repeat the address.
        raise Refused(
            "PostgresUrlInvalid", "the operator's Postgres URL is no address like postgresql://user@host/database"
        ) from None


async def ensure_database(administrator: Administrator, name: str, password: str) -> bool:
    """Make role and database `name` where they are missing, and give the role `password` and nothing more.

    Returns whether anything was made. Raises Unavailable, Refused.
    """
    connection = await _connect(administrator)
    try:
        return await _ensure(connection, name, password)
    except Exception as error:
        raise _meaning(error, f"database {name}") from error
    finally:
        await connection.close(timeout=2)


async def _ensure(connection: "asyncpg.Connection[asyncpg.Record]", name: str, password: str) -> bool:
    made = False
    verifier = scram_verifier(password)
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
        await _execute(connection, f"CREATE ROLE %I {rights} PASSWORD %L", name, verifier)
        made = True
    else:
        await _execute(connection, "ALTER ROLE %I LOGIN PASSWORD %L", name, verifier)
    owner = await connection.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", name)
    if owner is None:
        if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # Who is no superuser must be a member of the role that a database is made for.
            await _execute(connection, "GRANT %I TO CURRENT_USER", name)
        await _execute(connection, "CREATE DATABASE %I OWNER %I", name, name)
        made = True
    elif owner != name:
        raise Refused(
            "DatabaseNotOurs", f"database {name} belongs to role {owner}: drop or rename it, LogStream takes no other's"
        )
    await _execute(connection, "REVOKE ALL ON DATABASE %I FROM PUBLIC", name)
    if made:
        EXTERNAL_CHANGES.labels("database_created").inc()
    return made


async def drop_database(administrator: Administrator, name: str) -> None:
    """Remove database and role, for good. Idempotent. Raises Unavailable, Refused."""
    connection = await _connect(administrator)
    try:
        await _execute(connection, "DROP DATABASE IF EXISTS %I WITH (FORCE)", name)
        await _execute(connection, "DROP ROLE IF EXISTS %I", name)
    except Exception as error:
        raise _meaning(error, f"database {name}") from error
    finally:
        await connection.close(timeout=2)
    EXTERNAL_CHANGES.labels("database_dropped").inc()


async def open_accounts(url: str, password: str, clock: Clock) -> Accounts:
    """A data plane's accounts, migrated. Raises Unavailable, Refused when they cannot be used as they are."""
    try:
        return await Accounts.open(AuthSettings(url=url, password=password, connect_seconds=0), clock)
    except StartupError as error:
        if "refuses us" in error.message:
            raise Refused("PostgresCredentialsRefused", _ours(error.message)) from error
        if "newer" in error.message:
            raise Refused("AccountsTooNew", error.message) from error
        raise Unavailable(_ours(error.message)) from error


def _ours(message: str) -> str:
    """Its variables are not what is set here."""
    return message.partition("; check LOGSTREAM_AUTH_URL")[0]


async def ensure_stream(
    accounts: Accounts,
    stream: Stream,
    *,
    retention_days: int,
    dead_letter_days: int,
    anonymous_reads: bool,
    quota: Quota,
) -> StreamInfo:
    """The stream's row, as wanted; written only where it differs.

    Raises Refused when another stream has the name there, Unavailable, InvalidValue.
    """
    found = next((info for info in await accounts.streams.list() if info.stream.name == stream.name), None)
    if found is not None and found.stream != stream:
        raise Refused(
            "StreamNameTaken",
            f"the accounts database has another stream '{stream.name}' ({found.stream.stream_id}): name this one "
            "otherwise, or give it a database of its own",
            field="spec.connections.postgres",
        )
    if found is None:
        found = await accounts.ensure_stream(stream, retention_days=retention_days, dead_letter_days=dead_letter_days)
        EXTERNAL_CHANGES.labels("stream_registered").inc()
    wanted = (retention_days, dead_letter_days, anonymous_reads, quota)
    if (found.retention_days, found.dead_letter_days, found.anonymous_reads, found.quota) != wanted:
        found = await accounts.update_stream(
            stream.name,
            retention_days=retention_days,
            dead_letter_days=dead_letter_days,
            anonymous_reads=anonymous_reads,
            quota=quota,
        )
        EXTERNAL_CHANGES.labels("stream_changed").inc()
    return found


async def _connect(administrator: Administrator) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await administrator.address().connect()
    except Exception as error:
        raise _meaning(error, "the operator's Postgres") from error


async def _execute(connection: "asyncpg.Connection[asyncpg.Record]", form: str, *values: str) -> None:
    """A statement that takes no parameters: the server itself quotes `values` in it (%I: a name, %L: a text)."""
    places = ", ".join(f"${n}::text" for n in range(2, len(values) + 2))
    statement = await connection.fetchval(f"SELECT format($1, {places})", form, *values)
    await connection.execute(statement)


def _meaning(error: Exception, what: str) -> Exception:
    import asyncpg

    if isinstance(error, Refused | Unavailable):
        return error
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
        return Refused(
            "PostgresCredentialsRefused",
            f"{what}: Postgres refuses the operator's administrator ({error}): check the operator's Postgres settings",
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return Refused(
            "PostgresPrivileges",
            f"{what}: the operator's administrator may not do this ({error}): give it CREATEDB and CREATEROLE",
        )
    return Unavailable(f"{what}: Postgres cannot be used now: {str(error) or type(error).__name__}", retry_after=2)


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What Postgres keeps of a password (SCRAM-SHA-256, RFC 5803): so the clear one is in no statement and no log."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    coded = [base64.b64encode(raw).decode() for raw in (salt, client, server)]
    return f"SCRAM-SHA-256${_ROUNDS}:{coded[0]}${coded[1]}:{coded[2]}"
