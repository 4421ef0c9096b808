"""What the operator says about a resource. The API server refuses what is not here."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from logstream_operator.spec.part import Part

Short = Annotated[str, StringConstraints(max_length=1024)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MAX_MESSAGE = 4096
_CONDITIONS: dict[str, JsonValue] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class Condition(Part):
    """One thing that is so or not, as Kubernetes' own resources have it."""

    type: Annotated[str, StringConstraints(max_length=316)] = Field(description="What is meant, as TopicReady.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, in one word for programs.")
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE)] = Field(
        "", description="Why, and what to do, for people."
    )
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="metadata.generation that was looked at."
    )
    last_transition_time: Time = Field(description="When status last changed.")


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32)]


class Endpoints(Part):
    """Addresses inside the cluster."""

    ingest: Short = Field("", description="Of the collector: logs are posted to /ingest there.")
    api: Short = Field("", description="Of the API.")


class ComponentStatus(Part):
    """Pods of a component."""

    replicas: Annotated[int, Field(ge=0)] = Field(0, description="Pods there are.")
    ready_replicas: Annotated[int, Field(ge=0)] = Field(0, description="Pods that can work.")


class CollectorStatus(ComponentStatus):
    """Pods of the collector."""

    selector: Short = Field("", description="Labels of the pods, for autoscalers.")


class QuotaUse(Part):
    """What was taken of the stream's quota lately, in percent."""

    records_percent: float | None = Field(None, description="Of recordsPerSecond.")
    bytes_percent: float | None = Field(None, description="Of bytesPerSecond.")


class LogStreamStatus(Part):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="metadata.generation that was last acted upon."
    )
    conditions: Conditions | None = Field(
        None,
        description="Ready is the whole; Progressing, Degraded and Paused say more; the others are one for each thing "
        "it depends on.",
        json_schema_extra=_CONDITIONS,
    )
    stream_id: Short | None = Field(None, description="Never the same for two lives of a name.")
    topic: Short | None = Field(None, description="In Kafka.")
    dead_letter_topic: Short | None = Field(None, description="In Kafka: what ClickHouse refused.")
    database: Short | None = Field(None, description="In ClickHouse.")
    endpoints: Endpoints | None = Field(None, description="Addresses inside the cluster.")
    collector: CollectorStatus | None = Field(None, description="Pods of the collector.")
    processor: ComponentStatus | None = Field(None, description="Pods of the processor.")
    api: ComponentStatus | None = Field(None, description="Pods of the API.")
    lag: Annotated[int, Field(ge=0)] | None = Field(None, description="Records accepted and not yet stored.")
    oldest_unsaved_seconds: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Age of the oldest record that is not yet stored, in seconds."
    )
    accepted: Annotated[int, Field(ge=0)] | None = Field(None, description="Records ever accepted.")
    stored: Annotated[int, Field(ge=0)] | None = Field(None, description="Records ever stored.")
    dead_lettered: Annotated[int, Field(ge=0)] | None = Field(None, description="Records that ClickHouse refused.")
    quota_use: QuotaUse | None = Field(None, description="What was taken of the quota lately.")


class LogStreamAPIKeyStatus(Part):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="metadata.generation that was last acted upon."
    )
    conditions: Conditions | None = Field(
        None,
        description="Ready: the Secret holds a key that collectors take. Rotating: a new one is taking its place.",
        json_schema_extra=_CONDITIONS,
    )
    key_id: Short | None = Field(None, description="Public part of the key in the Secret.")
    pending_key_id: Short | None = Field(None, description="Of the key that is being put in its place.")
    previous_key_id: Short | None = Field(None, description="Of the key before it, while it still works.")
    previous_expires_at: Time | None = Field(None, description="When the key before it stops working.")
    rotated_at: Time | None = Field(None, description="When the key in the Secret was made.")
    expires_at: Time | None = Field(None, description="When the key in the Secret stops working.")
    secret_name: Short | None = Field(None, description="The Secret.")
