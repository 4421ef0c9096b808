"""Data planes to render, without a cluster."""

from typing import Any

from logstream_operator.objects import (
    Backends,
    ClickHouseBackend,
    ClusterFacts,
    DataPlane,
    KafkaBackend,
    PostgresBackend,
    SecretFile,
)
from logstream_operator.spec import LogStream
from tests.support.resources import log_stream

EVERYTHING = ClusterFacts(keda=True, service_monitors=True, prometheus_rules=True, http_routes=True)
NOTHING = ClusterFacts()
PLAIN = Backends(
    KafkaBackend("kafka:9092", ports=(9092,)),
    ClickHouseBackend("http://clickhouse:8123", ports=(8123,)),
    PostgresBackend(
        "postgresql://shop_web@postgres/shop_web", SecretFile("web-backends", "postgres-password"), ports=(5432,)
    ),
    checksum="c0ffee",
)
_OWN = "web-backends"
SECURE = Backends(
    KafkaBackend(
        "kafka-0:9093,kafka-1:9094",
        security_protocol="SASL_SSL",
        username="shop_web",
        password=SecretFile(_OWN, "kafka-password"),
        ca=SecretFile("kafka", "ca.crt"),
        certificate=SecretFile("kafka", "tls.crt"),
        key=SecretFile("kafka", "tls.key"),
        ports=(9093, 9094),
    ),
    ClickHouseBackend(
        SecretFile("clickhouse", "url"),
        username="shop_web",
        password=SecretFile(_OWN, "clickhouse-password"),
        ca=SecretFile("clickhouse", "ca.crt"),
        cluster="logs",
        ports=(8443,),
    ),
    PostgresBackend(
        "postgresql://shop_web@postgres/shop_web?sslmode=verify-full",
        SecretFile(_OWN, "postgres-password"),
        ca=SecretFile("postgres", "ca.crt"),
        ports=(5432,),
    ),
    checksum="c0ffee",
)


def parsed(name: str = "web", *, uid: str = "6f6f4d2c-0000-4000-8000-000000000001", **spec: Any) -> LogStream:
    obj = log_stream(name, **spec)
    obj["metadata"] |= {"namespace": "shop", "uid": uid, "generation": 1}
    return LogStream.parse(obj)


def plane(
    name: str = "web",
    *,
    backends: Backends = PLAIN,
    cluster: ClusterFacts = NOTHING,
    sharers: tuple[str, ...] = (),
    **spec: Any,
) -> DataPlane:
    resource = parsed(name, **spec)
    shared = [
        parsed(one, uid=f"6f6f4d2c-0000-4000-8000-{number:012d}", dataPlaneRef={"name": name})
        for number, one in enumerate(sharers, 2)
    ]
    return DataPlane(resource, [resource, *shared], backends, cluster, image="logstream:1.2.3")  # fmt: skip


FULL: dict[str, Any] = {
    "collector": {
        "autoscaling": {"minReplicas": 2, "maxReplicas": 9, "targetCPUUtilizationPercentage": 60},
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}},
        "podTemplate": {
            "metadata": {"labels": {"team": "shop"}, "annotations": {"example.com/cost": "42"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "logs", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "topologySpreadConstraints": [
                    {"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
                ],
                "priorityClassName": "system-cluster-critical",
                "runtimeClassName": "gvisor",
                "schedulerName": "other",
                "imagePullSecrets": [{"name": "registry"}],
            },
        },
    },
    "processor": {"autoscaling": {"minReplicas": 1, "maxReplicas": 6, "lagThreshold": 5000}},
    "api": {"replicas": 3, "resources": {"limits": {"cpu": 2, "memory": "3Gi"}}},
    "ingest": {"maxRecords": 500, "maxFutureSeconds": 60},
    "redaction": {
        "detectors": ["card"],
        "rules": [
            {"detector": "email", "action": "hash", "fields": ["message"]},
            {"name": "token", "pattern": "tok_[a-z]+", "streams": ["web"]},
        ],
        "hashKeyRef": {"name": "redaction", "key": "hash"},
    },
    "ingress": {
        "host": "logs.example.com",
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "16m"},
        "tls": {"secretName": "logs-tls"},
    },
}
"""A spec that uses everything at once."""
