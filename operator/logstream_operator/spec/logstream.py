"""`LogStream`: one stream, and the pods that serve it unless it shares another one's."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from logstream.errors import InvalidValue
from logstream.stream import Stream, make_stream
from logstream_operator.spec.ingest import Ingest, Redaction
from logstream_operator.spec.metadata import Resource
from logstream_operator.spec.names import NAME_PATTERN
from logstream_operator.spec.part import InvalidSpec, Part, Rules, rule
from logstream_operator.spec.pods import Annotations, Api, Collector, Name, Processor, SecretName

MAX_DAYS = 10_950
Host = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class Retention(Part):
    """How long is kept what was stored. Changing it restarts nothing."""

    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = Field(
        30, description="Days that records stay in ClickHouse, of the later of their own time and their arrival."
    )
    dead_letter_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = Field(
        30, description="Days that records which ClickHouse refused wait for a decision."
    )


class Topic(Part):
    """The stream's topic in Kafka."""

    rules: ClassVar[Rules] = [
        rule(
            "!has(oldSelf.partitions) || !has(self.partitions) || self.partitions >= oldSelf.partitions",
            "topic.partitions cannot become fewer: Kafka removes no partitions; make a new LogStream instead",
            field=".partitions",
        )
    ]

    partitions: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="The most processors that can share the stream. It can grow, never shrink. Left out: the "
        "operator's default.",
    )
    replication_factor: Annotated[int, Field(ge=1, le=10)] | None = Field(
        None,
        description="Brokers that hold each record. Of an existing topic it is compared and reported, not changed. "
        "Left out: the operator's default.",
    )
    retention_hours: Annotated[int, Field(ge=1, le=87_600)] = Field(
        72,
        description="Hours that Kafka keeps records: how long ClickHouse may be away, and how far replay reaches.",
    )


class StreamQuota(Part):
    """Sustained rates; each allows a burst of two seconds' worth. What exceeds them is answered 429."""

    records_per_second: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        None, description="Records a second. Left out: no limit."
    )
    bytes_per_second: Annotated[float, Field(gt=0, le=1e15)] | None = Field(
        None, description="Bytes of bodies a second, decompressed. Left out: no limit."
    )


class Connection(Part):
    """A backend of one's own."""

    secret_ref: SecretName = Field(description="A Secret in this namespace with its address and credentials.")


class Connections(Part):
    """Backends in place of the operator's. What is left out is the operator's own."""

    kafka: Connection | None = Field(
        None,
        description="Keys: bootstrap_servers; and as needed security_protocol, sasl_mechanism, username, password, "
        "ca.crt, tls.crt, tls.key.",
    )
    clickhouse: Connection | None = Field(
        None, description="Keys: url; and as needed username, password, ca.crt, cluster."
    )
    postgres: Connection | None = Field(
        None, description="Keys: url (postgresql://user@host/database); and as needed password, ca.crt."
    )


class DataPlaneRef(Part):
    """Another LogStream in this namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=NAME_PATTERN)] = Field(
        description="Its name. It has no dataPlaneRef itself."
    )


class Dashboard(Part):
    """The web page for searching."""

    enabled: bool = Field(
        False, description="Whether it runs. This release has none yet: true is reported as Degraded."
    )


class IngressTls(Part):
    """HTTPS of an Ingress."""

    secret_name: Name = Field(description="A Secret of type kubernetes.io/tls; cert-manager may write it.")


class Ingress(Part):
    """An Ingress: /ingest goes to the collector, all else to the API."""

    host: Host = Field(description="Name under which both are reached.")
    class_name: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="Ingress class. Empty: the cluster's default."
    )
    annotations: Annotations = Field(
        default_factory=dict, description="For the controller, such as limits of body sizes."
    )
    tls: IngressTls | None = Field(None, description="Left out: plain HTTP, so that keys can be read on the way.")


class ParentRef(Part):
    """A Gateway that takes the route."""

    name: Name = Field(description="Of the Gateway.")
    namespace: Annotated[str, StringConstraints(max_length=63)] = Field("", description="Empty: this one.")
    section_name: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="Name of a listener. Empty: each that fits."
    )
    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(None, description="Of the listener. Left out: any.")


class Gateway(Part):
    """An HTTPRoute: /ingest goes to the collector, all else to the API. Needs the Gateway API in the cluster."""

    parent_refs: Annotated[tuple[ParentRef, ...], Field(min_length=1, max_length=8)] = Field(
        description="Gateways that take the route."
    )
    hostnames: Annotated[tuple[Host, ...], Field(max_length=16)] = Field(
        (), description="Names under which both are reached. Empty: those of the Gateway's listener."
    )


class NetworkPolicy(Part):
    """Who may talk to the pods, and to whom they may."""

    enabled: bool = Field(
        True,
        description="Only the ports that are served can be reached, and only DNS and the backends' ports from there.",
    )


OWNERS = (
    "collector", "processor", "api", "ingest", "redaction", "connections", "ingress", "gateway", "dashboard",
)  # fmt: skip
"""What belongs to the data plane, and so may not be given together with dataPlaneRef."""


def _owners(field: str) -> dict[str, object]:
    return rule(
        f"!(has(self.dataPlaneRef) && has(self.{field}))",
        f"{field} is set on the LogStream that dataPlaneRef names: take spec.{field} away, or spec.dataPlaneRef",
        field=f".{field}",
    )


class LogStreamSpec(Part):
    """What a stream is to be."""

    rules: ClassVar[Rules] = [
        *(_owners(field) for field in OWNERS),
        rule(
            "has(self.dataPlaneRef) == has(oldSelf.dataPlaneRef)"
            " && (!has(self.dataPlaneRef) || self.dataPlaneRef.name == oldSelf.dataPlaneRef.name)",
            "dataPlaneRef cannot change: make a new LogStream instead",
            field=".dataPlaneRef",
        ),
        rule(
            "!(has(self.ingress) && has(self.gateway))",
            "ingress and gateway exclude each other: take one away",
            field=".gateway",
        ),
    ]

    # Fields with a default instance have it in the schema too. Those made by a factory have none there: they must
    # stay absent beside dataPlaneRef.
    retention: Retention = Field(Retention(), description="How long logs are kept.")
    topic: Topic = Field(Topic(), description="The stream's topic in Kafka.")
    collector: Collector = Field(default_factory=Collector, description="The pods that take logs.")
    processor: Processor = Field(default_factory=Processor, description="The pods that store logs.")
    api: Api = Field(default_factory=Api, description="The pods that search and tail logs.")
    ingest: Ingest = Field(
        default_factory=Ingest,
        description="What one request may hold. What exceeds a limit is refused by name, or truncated with a mark. "
        "Holds for all LogStreams that share the pods.",
    )
    quota: StreamQuota = Field(
        StreamQuota(), description="What the stream takes, beside the quotas of its keys. Changing it restarts nothing."
    )
    anonymous_reads: bool = Field(False, description="Whether everybody who reaches the API may read the stream.")
    redaction: Redaction = Field(
        default_factory=Redaction, description="What is taken out of records before they reach Kafka."
    )
    connections: Connections = Field(default_factory=Connections, description="Backends in place of the operator's.")
    data_plane_ref: DataPlaneRef | None = Field(
        None,
        description="Share the pods of another LogStream in this namespace. Topic, tables, keys, quota and retention "
        "are the stream's own all the same. It cannot change.",
    )
    dashboard: Dashboard = Field(default_factory=Dashboard, description="The web page for searching.")
    ingress: Ingress | None = Field(None, description="How it is reached from outside, by an Ingress.")
    gateway: Gateway | None = Field(None, description="How it is reached from outside, by the Gateway API.")
    network_policy: NetworkPolicy = Field(NetworkPolicy(), description="Who may talk to the pods.")
    deletion_policy: Literal["Retain", "Delete"] = Field(
        "Retain",
        description="What becomes of topic and tables when the LogStream is deleted. Retain: they stay. Delete: they "
        "are removed with all logs.",
    )
    paused: bool = Field(False, description="The operator changes nothing while it is true; pods go on.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data_plane_ref is not None:
            for field in OWNERS:
                if field in self.model_fields_set and getattr(self, field) is not None:
                    raise ValueError(f"{field} is set on the LogStream that dataPlaneRef names: take one of both away")
        if self.ingress is not None and self.gateway is not None:
            raise ValueError("ingress and gateway exclude each other: take one away")
        return self


class LogStream(Resource):
    """One stream."""

    rules: ClassVar[Rules] = [
        rule(
            f"self.metadata.name.matches('{NAME_PATTERN}')",
            "metadata.name must be 1 to 50 characters of a-z, 0-9 and '-', begin with a letter and not end with '-': "
            "topic and database are named after it",
        ),
        rule(
            "!has(self.spec.dataPlaneRef) || self.spec.dataPlaneRef.name != self.metadata.name",
            "spec.dataPlaneRef.name must be another LogStream than this one: leave it out for pods of its own",
            field=".spec.dataPlaneRef.name",
        ),
    ]

    spec: LogStreamSpec = LogStreamSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        ref = self.spec.data_plane_ref
        if ref is not None and ref.name == self.metadata.name:
            raise ValueError("spec.dataPlaneRef.name must be another LogStream than this one")
        return self

    @property
    def is_data_plane(self) -> bool:
        """Whether it has pods of its own."""
        return self.spec.data_plane_ref is None

    @property
    def data_plane(self) -> str:
        """Name of the LogStream whose pods serve it: its own where it shares none."""
        return self.spec.data_plane_ref.name if self.spec.data_plane_ref is not None else self.metadata.name

    def stream(self) -> Stream:
        """Its identity. Raises InvalidSpec, reason InvalidName, where a name or namespace cannot be used."""
        try:
            return make_stream(self.name, namespace=self.namespace, generation=self.uid)
        except InvalidValue as error:
            raise InvalidSpec(
                f"{error.message}; use another {error.field}: topic and database are named after both",
                field=f"metadata.{error.field}",
                reason="InvalidName",
            ) from error
