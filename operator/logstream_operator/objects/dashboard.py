"""A Grafana dashboard in a ConfigMap, where Grafana's sidecar finds it by its label."""

import json

from logstream_operator.objects.meta import Object, make
from logstream_operator.objects.monitoring import scope
from logstream_operator.objects.plane import DataPlane
from logstream_operator.objects.service import METRICS
from logstream_operator.spec import child_name

LABEL = {"grafana_dashboard": "1"}


def _quantiles(histogram: str) -> tuple[str, ...]:
    """Median, and what one in a hundred exceeds."""
    rate = f"rate({histogram}_bucket{{%s}}[$__rate_interval])"
    return tuple(f"histogram_quantile({quantile}, sum by (le) ({rate}))" for quantile in (0.5, 0.99))


_PANELS = (
    ("Accepted", "ops", ("sum by (stream) (rate(logstream_ingest_accepted_records_total{%s}[$__rate_interval]))",)),
    ("Stored", "ops", ("sum by (stream) (rate(logstream_processor_stored_records_total{%s}[$__rate_interval]))",)),
    ("Not yet stored", "short", ("sum by (stream) (logstream_processor_lag_records{%s})",)),
    ("Oldest not yet stored", "s", ("max by (stream) (logstream_processor_oldest_unsaved_seconds{%s})",)),
    (
        "Answers of the collector", "ops",
        ("sum by (status) (rate(logstream_ingest_requests_total{%s}[$__rate_interval]))",),
    ),
    (
        "Time to 202", "s",
        _quantiles("logstream_ingest_seconds"),
    ),
    (
        "Time of an INSERT", "s",
        _quantiles("logstream_processor_insert_seconds"),
    ),
    (
        "Dead-lettered and rejected", "ops",
        (
            "sum by (stream) (rate(logstream_processor_dead_lettered_records_total{%s}[$__rate_interval]))",
            "sum by (code) (rate(logstream_ingest_rejected_records_total{%s}[$__rate_interval]))",
        ),
    ),
    (
        "Answers of the API", "ops",
        ("sum by (route, status) (rate(logstream_api_requests_total{%s}[$__rate_interval]))",),
    ),
    ("Clients of tails", "short", ("sum by (stream) (logstream_tail_clients{%s})",)),
)  # fmt: skip
_WIDTH, _HEIGHT = 12, 8


def grafana_dashboard(plane: DataPlane) -> Object | None:
    """None where nothing gathers metrics."""
    if not plane.cluster.service_monitors:
        return None
    name = child_name(plane.resource.name, "dashboard")
    text = json.dumps(_model(plane), indent=1, sort_keys=True)
    return make(plane, "ConfigMap", name, METRICS, {"data": {f"{name}.json": text}}, extra_labels=LABEL)


def _model(plane: DataPlane) -> Object:
    resource = plane.resource
    return {
        "uid": resource.stream().stream_id[-40:],
        "title": f"LogStream {resource.namespace}/{resource.name}",
        "tags": ["logstream"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "gridPos": {
                    "x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT,
                },
                "targets": [
                    {"refId": "AB"[place], "expr": expression.replace("%s", scope(plane))}
                    for place, expression in enumerate(expressions)
                ],
            }
            for number, (title, unit, expressions) in enumerate(_PANELS)
        ],
    }  # fmt: skip
