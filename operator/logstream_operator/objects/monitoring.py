"""For the Prometheus operator: what to gather, and when to wake somebody."""

from logstream_operator.objects.meta import COMPONENT_LABEL, Object, make, selector
from logstream_operator.objects.plane import DataPlane
from logstream_operator.objects.service import METRICS
from logstream_operator.spec import child_name

API_VERSION = "monitoring.coreos.com/v1"


def service_monitor(plane: DataPlane) -> Object | None:
    """One for all pods of the data plane. None where the cluster does not know the kind."""
    if not plane.cluster.service_monitors:
        return None
    spec = {
        "selector": {"matchLabels": selector(plane.resource.name, METRICS)},
        "namespaceSelector": {"matchNames": [plane.resource.namespace]},
        "endpoints": [
            {
                "port": "health",
                "path": "/metrics",
                "interval": "30s",
                "scrapeTimeout": "10s",
                "relabelings": [
                    {
                        "sourceLabels": [f"__meta_kubernetes_pod_label_{_plain(COMPONENT_LABEL)}"],
                        "targetLabel": "component",
                    },
                    {"targetLabel": "logstream", "replacement": plane.resource.name, "action": "replace"},
                ],
            }
        ],
    }
    name = child_name(plane.resource.name, METRICS)
    return make(plane, "ServiceMonitor", name, METRICS, {"spec": spec}, api_version=API_VERSION)


def _plain(label: str) -> str:
    """A label's name as Prometheus has it."""
    return "".join(letter if letter.isalnum() else "_" for letter in label)


def prometheus_rule(plane: DataPlane) -> Object | None:
    """None where the cluster does not know the kind."""
    if not plane.cluster.prometheus_rules:
        return None
    name = child_name(plane.resource.name, METRICS)
    group = {"name": f"logstream.{plane.resource.namespace}.{plane.resource.name}", "rules": _alerts(plane)}
    return make(plane, "PrometheusRule", name, METRICS, {"spec": {"groups": [group]}}, api_version=API_VERSION)


def scope(plane: DataPlane) -> str:
    """Label matchers of this data plane's series."""
    return f'namespace="{plane.resource.namespace}",logstream="{plane.resource.name}"'


def _alerts(plane: DataPlane) -> list[Object]:
    own = scope(plane)
    return [
        _alert(
            "LogStreamCollectorsDown", f'absent(up{{{own},component="collector"}} == 1)', "5m", "critical",
            "No collector answers", "Senders are refused. Look at the pods of the collector: kubectl describe.",
        ),
        _alert(
            "LogStreamLagging", f"max by (stream) (logstream_processor_oldest_unsaved_seconds{{{own}}}) > 300", "10m",
            "warning", "Records of {{ $labels.stream }} wait for more than five minutes",
            "They are safe in Kafka, and not yet found by searches. Look at /readyz of the processors: ClickHouse may "
            "be away or slow, or there are too few processors.",
        ),
        _alert(
            "LogStreamLosing", f"increase(logstream_processor_lost_offsets_total{{{own}}}[15m]) > 0", "0m", "critical",
            "Records of {{ $labels.stream }} were gone from Kafka before they were stored",
            "Raise spec.topic.retentionHours, or bring ClickHouse back sooner.",
        ),
        _alert(
            "LogStreamDeadLetters", f"increase(logstream_processor_dead_lettered_records_total{{{own}}}[15m]) > 0",
            "0m", "warning", "ClickHouse refuses records of {{ $labels.stream }}",
            "They wait for a decision: `logstream deadletters list`.",
        ),
        _alert(
            "LogStreamRefusing",
            f'sum(rate(logstream_ingest_requests_total{{{own},status=~"5.."}}[5m]))'
            f" / sum(rate(logstream_ingest_requests_total{{{own}}}[5m])) > 0.05",
            "5m", "critical", "One request in twenty is refused with a server error",
            "Look at /readyz of the collectors: Kafka or Postgres may be away.",
        ),
        _alert(
            "LogStreamPartitionWaits", f"max by (stream, reason) (logstream_processor_waiting_partitions{{{own}}}) > 0",
            "10m", "critical", "A partition of {{ $labels.stream }} cannot go on: {{ $labels.reason }}",
            "Nothing of it is stored meanwhile. /readyz of the processors says what it waits for.",
        ),
        _alert(
            "LogStreamAccountsAway", f"max(logstream_auth_database_away{{{own}}}) > 0", "5m", "warning",
            "The accounts database does not answer",
            "Known keys work on for an hour; nothing can be revoked until it is back.",
        ),
    ]  # fmt: skip


def _alert(name: str, expression: str, pending: str, severity: str, *texts: str) -> Object:
    summary, description = texts
    return {
        "alert": name,
        "expr": expression,
        "for": pending,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
