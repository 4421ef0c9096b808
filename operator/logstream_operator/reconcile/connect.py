"""Where a data plane's backends are, and how the operator and the pods get there.

Each backend is resolved for itself: one that cannot be used stops what depends on it, and nothing else.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logstream.errors import LogStreamError
from logstream.settings import KafkaSettings, StoreSettings
from logstream_operator.cluster.errors import Denied, Outdated
from logstream_operator.cluster.kinds import SECRET, Object
from logstream_operator.cluster.objects import controlled_by
from logstream_operator.external import connections
from logstream_operator.external.accounts import database_name
from logstream_operator.external.problem import Refused
from logstream_operator.objects.plane import Backends, ClickHouseBackend, KafkaBackend, PostgresBackend, SecretFile
from logstream_operator.reconcile.context import Context
from logstream_operator.spec import LogStream, child_name

BACKENDS_TYPE = "logstream.dev/backends"
"""Of the Secret with generated passwords: one of another type is somebody else's."""
POSTGRES_PASSWORD = "postgres-password"  # noqa: S105 — a key of a Secret
KAFKA_PASSWORD = "kafka-password"  # noqa: S105
CLICKHOUSE_PASSWORD = "clickhouse-password"  # noqa: S105
_AUTHORITIES = {"kafka": "kafka-ca.crt", "clickhouse": "clickhouse-ca.crt", "postgres": "postgres-ca.crt"}


@dataclass(frozen=True, slots=True)
class Database:
    """Accounts of a data plane. managed: name of database and role that the operator makes; None: the tenant's."""

    url: str
    password: str = field(repr=False)
    managed: str | None = None
    pods_url: str = ""
    """The same without the operator's own paths of certificates."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Of a data plane: settings of the operator's own clients, or why there are none."""

    kafka: KafkaSettings | LogStreamError
    store: StoreSettings | LogStreamError
    database: Database | LogStreamError
    own: frozenset[str]
    """Backends with a Secret of the tenant's: kafka, clickhouse, postgres."""
    backends: Backends | None
    """What the pods get; None while one of the three is not known."""

    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those that were generated, by their keys in the data plane's Secret: of users that are made."""

    def user(self) -> str | None:
        """Of the data plane where the operator makes its database: that and the role have this name."""
        return self.database.managed if isinstance(self.database, Database) else None


def secret_name(plane: LogStream) -> str:
    return child_name(plane.name, "backends")


async def connect(context: Context, plane: LogStream, owner: Mapping[str, Any], *, making: bool = True) -> Connected:
    """owner: the data plane's resource as it was read. making: passwords that are missing; not while it is being
    deleted, when nothing can be made in its namespace any more. Raises ClusterAway, ClusterRefused."""
    chosen = {
        name: found.secret_ref.name
        for name in ("kafka", "clickhouse", "postgres")
        if (found := getattr(plane.spec.connections, name)) is not None
    }
    given: dict[str, connections.Values | LogStreamError] = {}
    for backend, name in chosen.items():
        try:
            secret = await context.cluster.get(SECRET, plane.namespace, name)
            given[backend] = connections.read_secret(backend, secret, name)
        except Refused as error:
            given[backend] = error
        except Denied:
            given[backend] = _forbidden(plane.namespace)
    user = database_name(plane.namespace, plane.name, plane.uid)
    needed = _needed(context, chosen)
    generated: connections.Values | LogStreamError
    try:
        generated = await _generated(context, plane, owner, needed, making=making)
    except Refused as error:
        generated = error
    except Denied:
        generated = _forbidden(plane.namespace)
    kafka = _kafka(context, given.get("kafka"))
    store = _store(context, given.get("clickhouse"))
    database = _database(context, given.get("postgres"), generated, user)
    if isinstance(generated, LogStreamError):
        # Whatever needs something of that Secret cannot be used.
        kafka = generated if any(key.startswith("kafka") for key in needed) else kafka
        store = generated if any(key.startswith("clickhouse") for key in needed) else store
    problem = any(isinstance(found, LogStreamError) for found in (kafka, store, database, generated))
    backends = None
    if not problem:
        assert isinstance(kafka, KafkaSettings)
        assert isinstance(store, StoreSettings)
        assert isinstance(database, Database)
        mine = secret_name(plane)
        contents = "".join(
            connections.checksum(values)
            for values in (*given.values(), generated)
            if not isinstance(values, LogStreamError)
        )
        backends = Backends(
            kafka=_pods_kafka(
                kafka, secret=chosen.get("kafka"), given=given.get("kafka"), mine=mine, user=user, generated=generated
            ),
            clickhouse=_pods_clickhouse(
                store,
                secret=chosen.get("clickhouse"),
                given=given.get("clickhouse"),
                mine=mine,
                user=user,
                generated=generated,
            ),
            postgres=_pods_postgres(database, chosen.get("postgres"), given.get("postgres"), mine),
            checksum=hashlib.sha256(contents.encode()).hexdigest()[:16],
        )
    passwords = (
        {} if isinstance(generated, LogStreamError) else {key: generated[key] for key in needed if key in generated}
    )
    return Connected(kafka, store, database, frozenset(chosen), backends, passwords)


def _forbidden(namespace: str) -> Refused:
    return Refused(
        "SecretsForbidden",
        f"the operator may not use Secrets in namespace {namespace}: add it to secretNamespaces of the chart",
    )


def _needed(context: Context, chosen: Mapping[str, str]) -> dict[str, str | None]:
    """Keys of the generated Secret: passwords to make (None), and authorities, which are no secret, to hand on."""
    settings = context.settings
    needed: dict[str, str | None] = {}
    if "postgres" not in chosen and settings.postgres is not None:
        needed[POSTGRES_PASSWORD] = None
    if "kafka" not in chosen and settings.kafka is not None:
        if settings.kafka.security_protocol.startswith("SASL") and settings.operator.manage_kafka_users:
            needed[KAFKA_PASSWORD] = None
        if settings.kafka.ca_file is not None:
            needed[_AUTHORITIES["kafka"]] = settings.kafka.ca_file.read_text()
    if "clickhouse" not in chosen and settings.store is not None:
        if settings.store.password.get_secret_value() and settings.operator.manage_clickhouse_users:
            needed[CLICKHOUSE_PASSWORD] = None
        if settings.store.ca_file is not None:
            needed[_AUTHORITIES["clickhouse"]] = settings.store.ca_file.read_text()
    return needed


async def _generated(
    context: Context, plane: LogStream, owner: Mapping[str, Any], needed: Mapping[str, str | None], *, making: bool
) -> connections.Values:
    """The Secret of the data plane, with every key that is needed. A password that is there is never changed."""
    if not needed:
        return {}
    name = secret_name(plane)
    for _ in range(5):
        found = await context.cluster.get(SECRET, plane.namespace, name)
        if found is not None and (found.get("type") != BACKENDS_TYPE or not controlled_by(found, plane.uid)):
            raise Refused(
                "SecretNotOurs",
                f"Secret {name} is not of this LogStream, and is needed for its passwords: rename or delete it",
            )
        values = connections.read_secret("generated", found, name) if found is not None else {}
        missing = {key: value for key, value in needed.items() if not values.get(key)}
        stale = {key: value for key, value in needed.items() if value is not None and values.get(key) != value}
        if not making or (not missing and not stale):
            return values
        new = {**values, **{key: value or secrets.token_urlsafe(32) for key, value in {**missing, **stale}.items()}}
        secret = _secret(plane, owner, name, new)
        try:
            if found is None:
                await context.cluster.create(secret)
            else:
                meta = {**secret["metadata"], "resourceVersion": found["metadata"]["resourceVersion"]}
                change = {"metadata": meta, "stringData": secret["stringData"]}
                await context.cluster.patch(SECRET, plane.namespace, name, change)
        except Outdated:
            continue
        return new
    raise Refused("SecretNotOurs", f"Secret {name} is changed by somebody else all the time")


def _secret(plane: LogStream, owner: Mapping[str, Any], name: str, values: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": BACKENDS_TYPE,
        "metadata": {
            "name": name,
            "namespace": plane.namespace,
            "labels": {
                "app.kubernetes.io/name": "logstream",
                "app.kubernetes.io/instance": plane.name,
                "app.kubernetes.io/component": "backends",
                "app.kubernetes.io/managed-by": "logstream-operator",
                "logstream.dev/logstream": plane.name,
            },
            "ownerReferences": [owner_reference(owner)],
        },
        "stringData": dict(values),
    }


def owner_reference(owner: Mapping[str, Any]) -> dict[str, object]:
    """By which children go with their resource."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _kafka(context: Context, given: connections.Values | LogStreamError | None) -> KafkaSettings | LogStreamError:
    if isinstance(given, LogStreamError):
        return given
    if given is not None:
        try:
            return connections.kafka_settings(given, context.files, context.settings.kafka)
        except Refused as error:
            return error
    if context.settings.kafka is None:
        return _nowhere("kafka")
    if (
        context.settings.kafka.security_protocol.startswith("SASL") or context.settings.kafka.cert_file is not None
    ) and not context.settings.operator.manage_kafka_users:
        return _give("kafka", "Kafka", "manage_kafka_users")
    if context.settings.kafka.cert_file is not None and not context.settings.kafka.security_protocol.startswith("SASL"):
        # Certificates cannot be made here.
        return _give("kafka", "Kafka", "")
    return context.settings.kafka


def _store(context: Context, given: connections.Values | LogStreamError | None) -> StoreSettings | LogStreamError:
    if isinstance(given, LogStreamError):
        return given
    if given is not None:
        try:
            return connections.store_settings(given, context.files)
        except Refused as error:
            return error
    if context.settings.store is None:
        return _nowhere("clickhouse")
    if context.settings.store.password.get_secret_value() and not context.settings.operator.manage_clickhouse_users:
        return _give("clickhouse", "ClickHouse", "manage_clickhouse_users")
    return context.settings.store


def _database(
    context: Context,
    given: connections.Values | LogStreamError | None,
    generated: connections.Values | LogStreamError,
    user: str,
) -> Database | LogStreamError:
    if isinstance(given, LogStreamError):
        return given
    try:
        if given is not None:
            url, password = connections.postgres_url(given, context.files)
            return Database(url, password, pods_url=url.partition("sslrootcert=")[0].rstrip("?&"))
        administrator = context.administrator
        if administrator is None:
            return _nowhere("postgres")
        if isinstance(generated, LogStreamError):
            return generated
        url = administrator.url_of(user)
        return Database(url, generated.get(POSTGRES_PASSWORD, ""), user, url)
    except Refused as error:
        return error


def _nowhere(backend: str) -> Refused:
    field = f"spec.connections.{backend}"
    return Refused(
        "NoConnection",
        f"the operator has no {backend} of its own: give {field}.secretRef, or set it for the operator",
        field=field,
    )


def _give(backend: str, name: str, setting: str) -> Refused:
    field = f"spec.connections.{backend}"
    said = f" ({setting} is off)" if setting else ""
    return Refused(
        "UsersNotManaged",
        f"the operator's {name} asks for credentials, and users of streams are not made there{said}: give "
        f"{field}.secretRef",
        field=field,
    )


def _ports(addresses: str, default: int) -> tuple[int, ...]:
    found = set()
    for address in addresses.replace(";", ",").split(","):
        _, _, port = address.strip().rstrip("/").rpartition(":")
        found.add(int(port) if port.isdigit() else default)
    return tuple(sorted(found))


def _pods_kafka(
    settings: KafkaSettings,
    *,
    secret: str | None,
    given: object,
    mine: str,
    user: str,
    generated: object,
) -> KafkaBackend:
    if secret is not None and isinstance(given, Mapping):
        return KafkaBackend(
            bootstrap_servers=settings.bootstrap_servers,
            security_protocol=settings.security_protocol,
            sasl_mechanism=settings.sasl_mechanism,
            username=settings.username,
            password=SecretFile(secret, "password") if given.get("password") else None,
            ca=SecretFile(secret, "ca.crt") if given.get("ca.crt") else None,
            certificate=SecretFile(secret, "tls.crt") if given.get("tls.crt") else None,
            key=SecretFile(secret, "tls.key") if given.get("tls.key") else None,
        )
    has_password = isinstance(generated, Mapping) and KAFKA_PASSWORD in generated
    return KafkaBackend(
        bootstrap_servers=settings.bootstrap_servers,
        security_protocol=settings.security_protocol,
        sasl_mechanism="SCRAM-SHA-512",
        username=user if has_password else "",
        password=SecretFile(mine, KAFKA_PASSWORD) if has_password else None,
        ca=SecretFile(mine, _AUTHORITIES["kafka"]) if settings.ca_file is not None else None,
    )


def _pods_clickhouse(
    settings: StoreSettings,
    *,
    secret: str | None,
    given: object,
    mine: str,
    user: str,
    generated: object,
) -> ClickHouseBackend:
    if secret is not None and isinstance(given, Mapping):
        return ClickHouseBackend(
            url=settings.url,
            username=settings.username,
            password=SecretFile(secret, "password") if given.get("password") else None,
            ca=SecretFile(secret, "ca.crt") if given.get("ca.crt") else None,
            cluster=settings.cluster,
            ports=_ports(settings.url, 8443 if settings.url.startswith("https") else 8123),
        )
    has_password = isinstance(generated, Mapping) and CLICKHOUSE_PASSWORD in generated
    return ClickHouseBackend(
        url=settings.url,
        username=user if has_password else settings.username,
        password=SecretFile(mine, CLICKHOUSE_PASSWORD) if has_password else None,
        ca=SecretFile(mine, _AUTHORITIES["clickhouse"]) if settings.ca_file is not None else None,
        cluster=settings.cluster,
        ports=_ports(settings.url, 8443 if settings.url.startswith("https") else 8123),
    )


def _pods_postgres(database: Database, secret: str | None, given: object, mine: str) -> PostgresBackend:
    if secret is not None and isinstance(given, Mapping):
        # With a password in the URL the whole of it is a secret.
        inside = not given.get("password") and bool(database.password)
        return PostgresBackend(
            url=SecretFile(secret, "url") if inside else database.pods_url,
            password=SecretFile(secret, "password") if given.get("password") else None,
            ca=SecretFile(secret, "ca.crt") if given.get("ca.crt") else None,
        )
    return PostgresBackend(url=database.pods_url, password=SecretFile(mine, POSTGRES_PASSWORD))
