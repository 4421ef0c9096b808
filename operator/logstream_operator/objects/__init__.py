"""From a data plane to the full list of its objects: pure, one file a kind."""

from logstream_operator.objects.meta import COMPONENTS, FIELD_MANAGER, LOGSTREAM_LABEL, MANAGED_LABEL, endpoints
from logstream_operator.objects.plane import (
    Backends,
    ClickHouseBackend,
    ClusterFacts,
    DataPlane,
    KafkaBackend,
    PostgresBackend,
    SecretFile,
)
from logstream_operator.objects.render import render

__all__ = [
    "COMPONENTS",
    "FIELD_MANAGER",
    "LOGSTREAM_LABEL",
    "MANAGED_LABEL",
    "Backends",
    "ClickHouseBackend",
    "ClusterFacts",
    "DataPlane",
    "KafkaBackend",
    "PostgresBackend",
    "SecretFile",
    "endpoints",
    "render",
]
