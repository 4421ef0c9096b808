"""How many pods a component has, what they may use, and what may be said about where they run."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from logstream_operator.spec import quantity
from logstream_operator.spec.part import Part, Rules, rule
from logstream_operator.spec.quantity import check_quantity

MAX_REPLICAS = 500

Quantity = Annotated[
    str | int,
    AfterValidator(check_quantity),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": quantity.PATTERN,
            "maxLength": quantity.MAX_LENGTH,
            "minimum": 0,
        }
    ),
]
LabelKey = Annotated[str, StringConstraints(max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Text = Annotated[str, StringConstraints(max_length=4096)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
_RESERVED = "logstream.dev/"
_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?=[^/]{{1,253}}/|[^/]+$)({_PREFIX}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


def _check_keys(values: dict[str, str]) -> dict[str, str]:
    """Schemas have no patterns for keys."""
    for key in values:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:80]!r} is no key: it must be like example.com/name or name")
    return values


Labels = Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_check_keys)]
Annotations = Annotated[dict[str, Text], Field(max_length=32), AfterValidator(_check_keys)]


class Resources(Part):
    """As of a container. What is left out is the operator's default."""

    requests: Annotated[dict[Annotated[str, StringConstraints(max_length=63)], Quantity], Field(max_length=8)] = Field(
        default_factory=dict, description="Guaranteed, as cpu: 500m, memory: 512Mi."
    )
    limits: Annotated[dict[Annotated[str, StringConstraints(max_length=63)], Quantity], Field(max_length=8)] = Field(
        default_factory=dict, description="Never exceeded, as memory: 1Gi."
    )


class Toleration(Part):
    """A taint that the pods put up with."""

    key: Annotated[str, StringConstraints(max_length=317)] = Field("", description="Of the taint. Empty: every one.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="Exists: whatever the taint's value is.")
    value: LabelValue = Field("", description="Of the taint, with operator Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="Of the taint. Empty: each of them."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        None, description="With NoExecute: how long. Left out: for ever."
    )


class SpreadConstraint(Part):
    """How pods of the component are spread; their label selector is added."""

    max_skew: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = Field(
        1, description="The most pods by which one domain may be ahead of another."
    )
    topology_key: LabelKey = Field(description="A label of nodes, as topology.kubernetes.io/zone.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        "ScheduleAnyway", description="What becomes of a pod that would break it."
    )
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="With DoNotSchedule: how many domains there must be."
    )


class SecretName(Part):
    """A Secret in the same namespace."""

    name: Name = Field(description="Its name.")


class PodMetadata(Part):
    """Labels and annotations beside those of the operator."""

    rules: ClassVar[Rules] = [
        rule(
            "!has(self.labels) || self.labels.all(k, !k.startsWith('app.kubernetes.io/')"
            " && !k.startsWith('logstream.dev/'))",
            "labels of app.kubernetes.io/ and logstream.dev/ are the operator's: choose another prefix",
            field=".labels",
        ),
        rule(
            "!has(self.annotations) || self.annotations.all(k, !k.startsWith('logstream.dev/'))",
            "annotations of logstream.dev/ are the operator's: choose another prefix",
            field=".annotations",
        ),
    ]

    labels: Labels = Field(default_factory=dict, description="Added to the pods, for example for a mesh or for costs.")
    annotations: Annotations = Field(default_factory=dict, description="Added to the pods.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in self.labels:
            if key.startswith(("app.kubernetes.io/", _RESERVED)):
                raise ValueError(f"label {key} is the operator's: choose another prefix")
        for key in self.annotations:
            if key.startswith(_RESERVED):
                raise ValueError(f"annotation {key} is the operator's: choose another prefix")
        return self


class PodSpec(Part):
    """Where pods run. Nothing here can loosen their security."""

    node_selector: Labels = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = Field((), description="Taints put up with.")
    affinity: dict[str, Any] | None = Field(
        None,
        description="As of a pod. Left out: pods of a component prefer different nodes.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "maxProperties": 3},
    )
    topology_spread_constraints: Annotated[tuple[SpreadConstraint, ...], Field(max_length=8)] | None = Field(
        None, description="Left out: spread over zones and nodes where that is possible. []: not spread."
    )
    priority_class_name: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="What may push what aside."
    )
    runtime_class_name: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="Of a sandbox such as gVisor."
    )
    scheduler_name: Annotated[str, StringConstraints(max_length=253)] = Field("", description="If not the default one.")
    image_pull_secrets: Annotated[tuple[SecretName, ...], Field(max_length=8)] = Field(
        (), description="Secrets in this namespace for the registry of the image."
    )


class PodTemplate(Part):
    """What is put over the operator's pod template."""

    metadata: PodMetadata = Field(default_factory=PodMetadata, description="Labels and annotations of pods.")
    spec: PodSpec = Field(default_factory=PodSpec, description="Where pods run.")


_BOUNDS = rule(
    "self.minReplicas <= self.maxReplicas",
    "autoscaling.minReplicas must not be more than maxReplicas",
    field=".minReplicas",
)


class _Scaled(Part):
    min_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = Field(2, description="Never fewer.")
    max_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = Field(description="Never more.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not be more than maxReplicas")
        return self


class CpuAutoscaling(_Scaled):
    """A HorizontalPodAutoscaler on CPU."""

    rules: ClassVar[Rules] = [_BOUNDS]

    target_cpu: Annotated[int, Field(ge=10, le=100)] = Field(
        70,
        alias="targetCPUUtilizationPercentage",
        description="Percent of the CPU request that the pods should use on average.",
    )


class LagAutoscaling(_Scaled):
    """A KEDA ScaledObject on Kafka's lag; needs KEDA in the cluster."""

    rules: ClassVar[Rules] = [_BOUNDS]

    lag_threshold: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        10_000, description="Records waiting for each processor; with more there is one processor more."
    )


def _exclusive(component: str) -> dict[str, Any]:
    return rule(
        "!(has(self.replicas) && has(self.autoscaling))",
        f"{component}.replicas and {component}.autoscaling exclude each other: take one away",
        field=".replicas",
    )


_WRONG = "replicas and autoscaling exclude each other: take one away"


class _Component(Part):
    replicas: Replicas | None = Field(
        None, description="How many pods, when not autoscaled. Left out: 2. 0 stops the component."
    )
    resources: Resources = Field(default_factory=Resources, description="CPU and memory of one pod.")
    pod_template: PodTemplate = Field(
        default_factory=PodTemplate, description="Labels, annotations and placement of the pods."
    )


class Collector(_Component):
    """The pods that take logs over HTTP."""

    rules: ClassVar[Rules] = [_exclusive("collector")]

    autoscaling: CpuAutoscaling | None = Field(None, description="More pods when they are busy.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError(_WRONG)
        return self


class Processor(_Component):
    """The pods that bring logs from Kafka into ClickHouse. More than the topic has partitions are idle."""

    rules: ClassVar[Rules] = [_exclusive("processor")]

    autoscaling: LagAutoscaling | None = Field(None, description="More pods while records wait.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError(_WRONG)
        return self


class Api(_Component):
    """The pods that search, tail and administer."""

    rules: ClassVar[Rules] = [_exclusive("api")]

    autoscaling: CpuAutoscaling | None = Field(None, description="More pods when they are busy.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError(_WRONG)
        return self


DEFAULT_REPLICAS = 2
Component = Collector | Processor | Api
