"""What a deleted LogStream has outside of Kubernetes: removed, or left where it is.

A finalizer holds the resource while that is done. It is let go of after a bounded number of attempts: a backend that
is gone for good, or credentials that were deleted with the namespace, must not hold the namespace for ever. What is
left behind is then named in an Event and in the log.
"""

from collections.abc import Awaitable, Callable

from logstream.errors import LogStreamError
from logstream.logs import get_logger
from logstream.stream import Stream
from logstream_operator.cluster.errors import Missing
from logstream_operator.cluster.kinds import LOGSTREAM, Object
from logstream_operator.external.accounts import database_name, drop_database
from logstream_operator.external.schema import drop_schema
from logstream_operator.external.users import KafkaUsers
from logstream_operator.reconcile.connect import Connected, connect
from logstream_operator.reconcile.context import Context, make_accounts, make_store, make_topics
from logstream_operator.spec import InvalidSpec, LogStream

FINALIZER = "logstream.dev/cleanup"
ATTEMPTS = "logstream.dev/cleanup-attempts"
"""Annotation: how often it was tried. In the resource, so that it is counted over restarts."""

_log = get_logger("operator")


class StillThere(Exception):
    """Not everything could be removed yet: ask again, later each time."""


def holds_finalizer(obj: Object) -> bool:
    return FINALIZER in (obj["metadata"].get("finalizers") or ())


def wants_finalizer(resource: LogStream) -> bool:
    """Only where deletion has work outside: topic and tables to remove, or a row in accounts that stay."""
    spec = resource.spec
    return spec.deletion_policy == "Delete" or not resource.is_data_plane or spec.connections.postgres is not None


async def keep_finalizer(context: Context, obj: Object, *, keep: bool) -> Object:
    """Add or remove ours; those of others stay. Raises Outdated when the resource was changed meanwhile."""
    meta = obj["metadata"]
    finalizers = [name for name in meta.get("finalizers") or () if name != FINALIZER]
    change = {
        "metadata": {
            "resourceVersion": meta["resourceVersion"],
            "finalizers": [*finalizers, FINALIZER] if keep else finalizers,
        }
    }
    try:
        changed = await context.cluster.patch(LOGSTREAM, meta["namespace"], meta["name"], change)
    except Missing:
        return obj
    return {"apiVersion": LOGSTREAM.api_version, "kind": LOGSTREAM.name, **changed}


async def finalize(context: Context, obj: Object, resource: LogStream, stream: Stream) -> None:
    """Remove what is to be removed, then let go of the resource. Raises StillThere, ClusterAway, ClusterRefused."""
    problems = await _remove(context, obj, resource, stream)
    if problems:
        attempts = _attempts(obj) + 1
        most = context.settings.operator.cleanup_attempts
        if attempts < most:
            meta = obj["metadata"]
            await context.cluster.patch(
                LOGSTREAM,
                meta["namespace"],
                meta["name"],
                {"metadata": {"annotations": {ATTEMPTS: str(attempts)}}},
            )
            raise StillThere("; ".join(problems))
        note = f"gave up removing after {attempts} attempts, left behind: " + "; ".join(problems)
        _log.warning("cleanup_skipped", namespace=resource.namespace, name=resource.name, left=problems)
        await context.recorder.tell(obj, "CleanupSkipped", note, warning=True, action="Delete")
    await keep_finalizer(context, obj, keep=False)
    context.known.lost_stream((resource.namespace, resource.name))


def _attempts(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(ATTEMPTS, "0")
    return int(text) if text.isdigit() else 0


async def _remove(context: Context, obj: Object, resource: LogStream, stream: Stream) -> list[str]:
    """What could not be removed, and why."""
    plane, owner = resource, obj
    if not resource.is_data_plane:
        found = await context.cluster.get(LOGSTREAM, resource.namespace, resource.data_plane)
        if found is None:
            # Its accounts went with it; what is left are topic and tables.
            if resource.spec.deletion_policy == "Retain":
                return []
            left = (
                f"topic {stream.topic} and database {stream.database}: LogStream {resource.data_plane}, whose "
                "connections they were made with, is gone"
            )
            return [left]
        owner = {"apiVersion": LOGSTREAM.api_version, "kind": LOGSTREAM.name, **found}
        try:
            plane = LogStream.parse(owner)
        except InvalidSpec as error:
            return [f"LogStream {resource.data_plane}: {error.message}"]
    connected = await connect(context, plane, owner, making=False)
    delete = resource.spec.deletion_policy == "Delete"
    problems: list[str] = []
    # First who could still write, then what is written to.
    if not (resource.is_data_plane and delete and connected.user() is not None):
        await _attempt(problems, "its row in the accounts", lambda: _forget(context, connected, stream))
    if delete:
        await _attempt(problems, f"topic {stream.topic}", lambda: _drop_topics(context, connected, stream))
        await _attempt(problems, f"database {stream.database}", lambda: _drop_tables(context, connected, stream))
        if resource.is_data_plane:
            name = database_name(plane.namespace, plane.name, plane.uid)
            await _attempt(problems, f"users {name}", lambda: _drop_users(context, connected, name))
            if connected.user() is not None:
                await _attempt(problems, f"Postgres database {name}", lambda: _drop_accounts(context, connected, name))
    return problems


async def _attempt(problems: list[str], what: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except LogStreamError as error:
        problems.append(f"{what} ({error.message})")


async def _forget(context: Context, connected: Connected, stream: Stream) -> None:
    database = connected.database
    if isinstance(database, LogStreamError):
        raise database
    async with context.accounts.use(
        (database.url, database.password), lambda: make_accounts(database.url, database.password, context.clock)
    ) as accounts:
        await accounts.streams.forget(stream)


async def _drop_topics(context: Context, connected: Connected, stream: Stream) -> None:
    settings = connected.kafka
    if isinstance(settings, LogStreamError):
        raise settings
    async with context.kafka.use(settings, lambda: make_topics(settings)) as topics:
        await topics.delete(stream)


async def _drop_tables(context: Context, connected: Connected, stream: Stream) -> None:
    settings = connected.store
    if isinstance(settings, LogStreamError):
        raise settings
    async with context.stores.use(settings, lambda: make_store(settings)) as store:
        await drop_schema(store, stream)


async def _drop_users(context: Context, connected: Connected, name: str) -> None:
    """Those that the operator made: on its own backends, where they ask for credentials."""
    kafka, store, own = connected.kafka, connected.store, context.settings
    if (
        "kafka" not in connected.own
        and own.operator.manage_kafka_users
        and not isinstance(kafka, LogStreamError)
        and kafka.security_protocol.startswith("SASL")
    ):
        async with context.kafka.use(kafka, lambda: make_topics(kafka)) as topics:
            await KafkaUsers(topics).drop(name)
    if (
        "clickhouse" not in connected.own
        and own.operator.manage_clickhouse_users
        and not isinstance(store, LogStreamError)
        and store.password.get_secret_value()
    ):
        async with context.stores.use(store, lambda: make_store(store)) as found:
            await context.store_users(found, store).drop(name)


async def _drop_accounts(context: Context, connected: Connected, name: str) -> None:
    database = connected.database
    if isinstance(database, LogStreamError):
        raise database
    administrator = context.administrator
    if administrator is not None:
        await context.accounts.drop((database.url, database.password))
        await drop_database(administrator, name)
