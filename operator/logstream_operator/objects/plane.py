"""What the objects of a data plane are made from. Nothing here is a secret: of those it is known where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from logstream_operator.spec import LogStream


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One value in a Secret of the data plane's namespace; pods have it as a file."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class KafkaBackend:
    """How pods reach Kafka. ports: of bootstrap and brokers, for the NetworkPolicy; empty: any port."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: SecretFile | None = None
    ca: SecretFile | None = None
    certificate: SecretFile | None = None
    key: SecretFile | None = None
    ports: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class ClickHouseBackend:
    """How pods reach ClickHouse. url: a SecretFile where it may hold a password."""

    url: str | SecretFile
    username: str = "default"
    password: SecretFile | None = None
    ca: SecretFile | None = None
    cluster: str = ""
    ports: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PostgresBackend:
    """How pods reach the accounts. url: `postgresql://role@host/database` with libpq's options but for sslrootcert,
    which is added for `ca`; a SecretFile where it may hold a password."""

    url: str | SecretFile
    password: SecretFile | None = None
    ca: SecretFile | None = None
    ports: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Backends:
    """checksum: of the contents of all Secrets that pods have as files; they roll when it changes."""

    kafka: KafkaBackend
    clickhouse: ClickHouseBackend
    postgres: PostgresBackend
    checksum: str


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Which optional APIs the cluster has."""

    keda: bool = False
    service_monitors: bool = False
    prometheus_rules: bool = False
    http_routes: bool = False


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A LogStream that has pods of its own, and all that decides how they look.

    streams: those that the pods serve, `resource` included; they change nothing about the pods, which follow the
    accounts. image: of all components. pull_policy: as of a container.
    """

    resource: LogStream
    streams: Sequence[LogStream]
    backends: Backends
    cluster: ClusterFacts
    image: str
    pull_policy: str = "IfNotPresent"
    labels: dict[str, str] = field(default_factory=dict)
    """Put on every object, beside the operator's."""
