"""A LogStream brought to what it asks for.

validate → connections → accounts → topics → tables → the stream's row → objects → prune → status. A step that fails
stops what depends on it, and nothing else; the status names each.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logstream.auth.principal import Quota
from logstream.errors import LogStreamError
from logstream.logs import get_logger
from logstream.settings import KafkaSettings, StoreSettings
from logstream.stream import Stream
from logstream_operator.cluster.kinds import (
    CHILDREN,
    HTTP_ROUTE,
    LOGSTREAM,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    SERVICE_MONITOR,
    TRIGGER_AUTHENTICATION,
    Object,
)
from logstream_operator.cluster.objects import Identity, Outcome, observe, settle
from logstream_operator.external.accounts import database_name, ensure_database, ensure_stream
from logstream_operator.external.problem import Refused
from logstream_operator.external.schema import ensure_schema
from logstream_operator.external.topics import TopicsState, WantedTopics
from logstream_operator.external.users import KafkaUsers
from logstream_operator.objects import render
from logstream_operator.objects.meta import LOGSTREAM_LABEL, MANAGED_LABEL
from logstream_operator.objects.plane import DataPlane
from logstream_operator.queue import Forgotten
from logstream_operator.reconcile.connect import CLICKHOUSE_PASSWORD, KAFKA_PASSWORD, Connected, Database, connect
from logstream_operator.reconcile.context import Context, Key, make_accounts, make_store, make_topics
from logstream_operator.reconcile.deletion import finalize, holds_finalizer, keep_finalizer, wants_finalizer
from logstream_operator.reconcile.known import Source
from logstream_operator.reconcile.report import Seen, condition_of, write_invalid, write_paused, write_status
from logstream_operator.reconcile.steps import Steps
from logstream_operator.spec import InvalidSpec, LogStream

CONNECTIONS, ACCOUNTS, TOPIC, SCHEMA, STREAM, OBJECTS = (
    "ConnectionsReady", "AccountsReady", "TopicReady", "SchemaReady", "StreamReady", "ObjectsReady",
)  # fmt: skip

SECRETS_SECONDS = 60.0
_MOST_CONFIGS = 12
"""Settings of a data plane whose roll-out hangs while it is changed again and again: three components, four each."""

_log = get_logger("operator")


class Unfinished(Exception):
    """Not everything is as it should be, and it was said why: ask again, later each time."""


@dataclass(slots=True)
class _Work:
    """One reconcile. obj: the resource as it was read; plane_obj: that of its data plane."""

    context: Context
    obj: Object
    resource: LogStream
    stream: Stream
    plane_obj: Object
    plane: LogStream
    steps: Steps = field(default_factory=Steps)
    topics: TopicsState | None = None
    outcome: Outcome | None = None
    notes: list[tuple[str, str, bool]] = field(default_factory=list)
    """Events of what was done: reason, text, whether it is a warning."""


async def reconcile_stream(context: Context, key: Key) -> float | None:
    """Seconds until it is to be looked at again, None for the resync.

    Raises Forgotten, Unfinished, ClusterAway, ClusterRefused.
    """
    obj = await context.cluster.get(LOGSTREAM, key.namespace, key.name)
    place = key.namespace, key.name
    if obj is None:
        context.known.lost_stream(place)
        _ask_dependents(context, place)
        raise Forgotten
    obj = {"apiVersion": LOGSTREAM.api_version, "kind": LOGSTREAM.name, **obj}
    try:
        resource = LogStream.parse(obj)
        stream = resource.stream()
    except InvalidSpec as error:
        if obj["metadata"].get("deletionTimestamp"):
            # Nothing was ever made for it under a name that cannot be used.
            await keep_finalizer(context, obj, keep=False)
            raise Forgotten from None
        await write_invalid(context, obj, error)
        return None
    if resource.is_deleted:
        if holds_finalizer(obj):
            await finalize(context, obj, resource, stream)
        raise Forgotten
    if resource.spec.paused:
        await write_paused(context, obj)
        return None
    if wants_finalizer(resource) != holds_finalizer(obj):
        obj = await keep_finalizer(context, obj, keep=wants_finalizer(resource))
        context.known.wrote(obj)
    return await _keep_up(_Work(context, obj, resource, stream, obj, resource))


async def _keep_up(work: _Work) -> float | None:
    context, resource = work.context, work.resource
    place = resource.namespace, resource.name
    known_before = context.known.identities.get(place)
    context.known.identities[place] = work.stream
    if not resource.is_data_plane:
        problem = await _find_plane(work)
        if problem is not None:
            await write_invalid(context, work.obj, problem, condition="DataPlaneReady")
            # It is asked for again when the data plane's resource changes.
            return None
    await _bring_about(work)
    await _tell(work)
    seen = Seen(
        resource=resource,
        plane=work.plane,
        stream=work.stream,
        steps=work.steps,
        topics=work.topics,
        children={} if work.outcome is None else work.outcome.live,
        figures=context.known.figures.get(work.stream.stream_id),
        plane_ready=None if resource.is_data_plane else condition_of(work.plane_obj, "WorkloadsReady"),
    )
    turned = await write_status(context, work.obj, seen)
    if resource.is_data_plane and turned:
        for other in context.known.sharers(place):
            context.enqueue(Key("LogStream", *other), None)
    if known_before != work.stream or _became(work, STREAM):
        for other in context.known.keys_of(place):
            context.enqueue(Key("LogStreamAPIKey", *other), None)
    if work.steps.passing:
        raise Unfinished
    if work.steps.failed:
        # It may be mended where nobody tells: another password, a right that was given.
        return SECRETS_SECONDS
    own = (found for _, found in work.plane.spec.connections if found is not None)
    # Secrets are not watched, since nobody may list them: another password is noticed by looking.
    return SECRETS_SECONDS if any(own) else None


def _became(work: _Work, step: str) -> bool:
    """Whether a step that others wait for has succeeded, and had not before."""
    before = condition_of(work.obj, step)
    return step in work.steps.succeeded and (before is None or before["status"] != "True")


def _ask_dependents(context: Context, place: tuple[str, str]) -> None:
    for other in context.known.sharers(place):
        context.enqueue(Key("LogStream", *other), None)
    for other in context.known.keys_of(place):
        context.enqueue(Key("LogStreamAPIKey", *other), None)


async def _find_plane(work: _Work) -> InvalidSpec | None:
    """Read the LogStream whose pods serve this one; why it cannot be used."""
    name = work.resource.data_plane
    found = await work.context.cluster.get(LOGSTREAM, work.resource.namespace, name)
    field = "spec.dataPlaneRef.name"
    if found is None or found["metadata"].get("deletionTimestamp"):
        return InvalidSpec(
            f"{field}: there is no LogStream {name} in this namespace: make it, or delete this one",
            field=field,
            reason="DataPlaneMissing",
        )
    found = {"apiVersion": LOGSTREAM.api_version, "kind": LOGSTREAM.name, **found}
    try:
        plane = LogStream.parse(found)
        plane.stream()
    except InvalidSpec as error:
        return InvalidSpec(f"LogStream {name}: {error.message}", field=field, reason="DataPlaneInvalid")
    if not plane.is_data_plane:
        return InvalidSpec(
            f"{field}: LogStream {name} has a dataPlaneRef itself: name {plane.data_plane}, whose pods serve it",
            field=field,
            reason="DataPlaneInvalid",
        )
    work.plane, work.plane_obj = plane, found
    return None


async def _bring_about(work: _Work) -> None:
    context, steps = work.context, work.steps
    connected = await connect(context, work.plane, work.plane_obj)
    _note_connections(work, connected)
    # They wait for different servers.
    for outcome in await asyncio.gather(_tables(work, connected), _log_topics(work, connected), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    # Last, so that the pods hear of a stream when it can be served.
    async with steps.step(STREAM, "Postgres", after=(ACCOUNTS, TOPIC, SCHEMA)) as begin:
        if begin:
            await _row(work, connected)
    if work.resource.is_data_plane:
        async with steps.step(OBJECTS, "Kubernetes", after=(CONNECTIONS, ACCOUNTS, SCHEMA)) as begin:
            if begin:
                await _objects(work, connected)
        if work.outcome is None:
            # What is there goes on, and is told of.
            work.outcome = Outcome(await _observe(context, work.resource))


async def _tables(work: _Work, connected: Connected) -> None:
    context, resource = work.context, work.resource
    async with work.steps.step(ACCOUNTS, "Postgres") as begin:
        if begin:
            await _accounts(work, connected)
    if resource.is_data_plane and _became(work, ACCOUNTS):
        # They need not wait for the rest.
        for other in context.known.sharers((resource.namespace, resource.name)):
            context.enqueue(Key("LogStream", *other), None)
    async with work.steps.step(SCHEMA, "ClickHouse", after=(ACCOUNTS,)) as begin:
        if begin:
            await _schema(work, connected)


async def _log_topics(work: _Work, connected: Connected) -> None:
    async with work.steps.step(TOPIC, "Kafka") as begin:
        if begin:
            await _topics(work, connected)


def _note_connections(work: _Work, connected: Connected) -> None:
    work.steps.order.append(CONNECTIONS)
    for backend, found in (
        ("Kafka", connected.kafka), ("ClickHouse", connected.store), ("Postgres", connected.database),
    ):  # fmt: skip
        if isinstance(found, LogStreamError):
            work.steps.fail(CONNECTIONS, found, backend)
            return
    work.steps.succeeded.add(CONNECTIONS)


async def _accounts(work: _Work, connected: Connected) -> None:
    """The data plane's database is made by its own reconcile; who shares it waits for that."""
    context, database = work.context, _usable(connected.database)
    place = _accounts_key(database)
    try:
        async with context.accounts.use(place, lambda: make_accounts(database.url, database.password, context.clock)):
            pass
    except Refused as error:
        # There is no such role or database yet, or another password.
        if error.reason != "PostgresCredentialsRefused" or database.managed is None:
            raise
        administrator = context.administrator
        assert administrator is not None
        if not work.resource.is_data_plane:
            raise Refused("DataPlaneNotReady", f"LogStream {work.plane.name} has no accounts yet") from error
        if await ensure_database(administrator, database.managed, database.password):
            work.notes.append(("DatabaseCreated", f"made database and role {database.managed}", False))
        await context.accounts.drop(place)
        async with context.accounts.use(place, lambda: make_accounts(database.url, database.password, context.clock)):
            pass


def _user(work: _Work) -> str:
    """Of the data plane, on every backend alike."""
    return database_name(work.plane.namespace, work.plane.name, work.plane.uid)


async def _topics(work: _Work, connected: Connected) -> None:
    context, settings = work.context, _usable(connected.kafka)
    wanted = work.resource.spec.topic
    async with context.kafka.use(settings, lambda: make_topics(settings)) as topics:
        if (password := connected.passwords.get(KAFKA_PASSWORD)) is not None:
            await KafkaUsers(topics).ensure(_user(work), password, work.stream)
        work.topics = await topics.ensure(
            WantedTopics(
                work.stream,
                wanted.partitions,
                wanted.replication_factor,
                wanted.retention_hours,
                work.resource.spec.retention.dead_letter_days,
            )
        )
    work.notes += [("TopicChanged", change, False) for change in work.topics.changes]
    if isinstance(connected.store, StoreSettings):
        place = work.resource.namespace, work.resource.name
        context.known.sources[place] = Source(
            work.stream, settings, connected.store, work.topics.incarnation, work.topics.partitions
        )


async def _schema(work: _Work, connected: Connected) -> None:
    context, settings, database = work.context, _usable(connected.store), _usable(connected.database)
    days = work.resource.spec.retention.days
    async with (
        context.stores.use(settings, lambda: make_store(settings)) as store,
        context.accounts.use(
            _accounts_key(database), lambda: make_accounts(database.url, database.password, context.clock)
        ) as accounts,
    ):
        turn = context.turn(_accounts_key(database))
        await ensure_schema(store, accounts, turn, work.stream, retention_days=days)
        if (password := connected.passwords.get(CLICKHOUSE_PASSWORD)) is not None:
            await context.store_users(store, settings).ensure(_user(work), password, work.stream)


async def _row(work: _Work, connected: Connected) -> None:
    context, database, spec = work.context, _usable(connected.database), work.resource.spec
    async with context.accounts.use(
        _accounts_key(database), lambda: make_accounts(database.url, database.password, context.clock)
    ) as accounts:
        await ensure_stream(
            accounts,
            work.stream,
            retention_days=spec.retention.days,
            dead_letter_days=spec.retention.dead_letter_days,
            anonymous_reads=spec.anonymous_reads,
            quota=Quota(spec.quota.records_per_second, spec.quota.bytes_per_second),
        )


async def _objects(work: _Work, connected: Connected) -> None:
    context, resource = work.context, work.resource
    assert connected.backends is not None
    plane = DataPlane(
        resource=resource,
        streams=(resource,),
        backends=connected.backends,
        cluster=context.facts,
        image=context.settings.operator.image,
    )
    live = await _observe(context, resource)
    work.outcome = await settle(
        context.cluster, render(plane), live, owner_uid=resource.uid, keep=_in_use, wrote=context.known.wrote
    )
    for (kind, name), managers in work.outcome.taken_from.items():
        work.notes.append(
            (
                "FieldConflict",
                f"{kind} {name}: fields that {', '.join(managers)} had set are set back; change the LogStream instead",
                True,
            )
        )


async def _observe(context: Context, resource: LogStream) -> Mapping[Identity, Object]:
    """Children of a data plane, of kinds that the API server had at the start."""
    facts = context.facts
    there = {
        SCALED_OBJECT: facts.keda,
        TRIGGER_AUTHENTICATION: facts.keda,
        SERVICE_MONITOR: facts.service_monitors,
        PROMETHEUS_RULE: facts.prometheus_rules,
        HTTP_ROUTE: facts.http_routes,
    }
    kinds = [kind for kind in CHILDREN if there.get(kind, True)]
    return await observe(context.cluster, resource.namespace, _labels(resource), kinds)


def _in_use(obj: Object, now: Mapping[Identity, Object]) -> bool:
    """Whether pods of before a roll-out may still need it: they have the earlier settings until they are replaced."""
    configs = [found for found in now.values() if found["kind"] == "ConfigMap"]
    if obj["kind"] != "ConfigMap" or len(configs) > _MOST_CONFIGS:
        return False
    for found in now.values():
        if found["kind"] == "Deployment":
            status = found.get("status") or {}
            seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
            if not seen or status.get("replicas", 0) > status.get("updatedReplicas", 0):
                return True
    return False


def _labels(resource: LogStream) -> str:
    return f"{MANAGED_LABEL}=logstream-operator,{LOGSTREAM_LABEL}={resource.name}"


def _usable(found: Any) -> Any:
    """Settings of a backend. Raises why there are none."""
    if isinstance(found, LogStreamError):
        raise found
    assert isinstance(found, KafkaSettings | StoreSettings | Database)
    return found


def _accounts_key(database: Database) -> tuple[str, str]:
    return database.url, database.password


async def _tell(work: _Work) -> None:
    for reason, note, warning in work.notes:
        _log.info("changed", namespace=work.resource.namespace, name=work.resource.name, reason=reason, note=note)
        await work.context.recorder.tell(work.obj, reason, note, warning=warning)
