"""Every metric of the operator, in one place."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter(
    "logstream_operator_reconciles_total", "Reconciles that ended, by kind and outcome.", ["kind", "outcome"]
)
RECONCILE_SECONDS = Histogram(
    "logstream_operator_reconcile_seconds",
    "Time of one reconcile.",
    ["kind"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STEP_SECONDS = Histogram(
    "logstream_operator_step_seconds",
    "Time of one step of a reconcile, by the condition that tells of it.",
    ["step"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
QUEUE_WAIT_SECONDS = Histogram(
    "logstream_operator_queue_wait_seconds",
    "From a change to the reconcile that sees it.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
QUEUE_DEPTH = Gauge("logstream_operator_queue_depth", "Resources that are due now.")
FAILING = Gauge("logstream_operator_failing_resources", "Resources whose latest reconcile failed.")
API_REQUESTS = Counter("logstream_operator_api_requests_total", "Requests to the API server.", ["verb", "resource"])
CHILD_WRITES = Counter(
    "logstream_operator_child_writes_total", "Children applied or deleted, by kind and action.", ["kind", "action"]
)
EXTERNAL_CHANGES = Counter(
    "logstream_operator_external_changes_total", "Changes made outside of Kubernetes, by what was changed.", ["what"]
)
WATCHER_AGE = Gauge(
    "logstream_operator_watcher_age_seconds", "Since a watcher was last known to be alive.", ["resource"]
)
LEADER = Gauge("logstream_operator_leader", "1 while this replica is the one that reconciles.")
