"""Every metric LogStream exposes, in one place, documented. Names follow Prometheus conventions.

Label values are bounded: stream names, HTTP statuses, fixed reasons. Never a key, a service or a message.
"""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# Collector
INGEST_REQUESTS = Counter("logstream_ingest_requests", "Requests to /ingest by answer.", ["status"])
INGEST_ACCEPTED = Counter(
    "logstream_ingest_accepted_records", "Records answered 202, repeats under an Idempotency-Key left out.", ["stream"]
)
INGEST_REJECTED = Counter("logstream_ingest_rejected_records", "Records named in an answer as rejected.", ["code"])
INGEST_BYTES = Counter("logstream_ingest_body_bytes", "Body bytes received, as sent.", ["stream"])
INGEST_TRUNCATED = Counter("logstream_ingest_truncated_records", "Records with a value cut to its limit.", ["stream"])
INGEST_REDACTED = Counter(
    "logstream_ingest_redacted_values",
    "Findings of redaction rules in requests that were answered, by rule.",
    ["stream", "rule"],
)
INGEST_SECONDS = Histogram("logstream_ingest_seconds", "From the whole body to the answer.", buckets=_SECONDS)
INGEST_PENDING_BYTES = Gauge(
    "logstream_ingest_pending_bytes", "Bytes of requests being read, decoded or waiting for the log."
)

# Bus
BUS_APPEND_SECONDS = Histogram("logstream_bus_append_seconds", "One group commit of the log.", buckets=_SECONDS)
BUS_APPENDED_BYTES = Counter("logstream_bus_appended_bytes", "Bytes appended to the log.", ["topic"])
BUS_BYTES = Gauge("logstream_bus_bytes", "Bytes kept in the log.", ["topic"])
BUS_UNREADABLE = Counter(
    "logstream_bus_unreadable_offsets", "Offsets passed over by a reader: damaged on the brokers' disks.", ["topic"]
)
BUS_CLIENTS_RENEWED = Counter(
    "logstream_bus_clients_renewed",
    "Clients of Kafka made anew: lost every broker for good, broken, or gave nothing of records that were there.",
    ["client"],
)

# Processor
PROCESSOR_STORED = Counter("logstream_processor_stored_records", "Records stored in ClickHouse.", ["stream"])
PROCESSOR_DEAD_LETTERED = Counter(
    "logstream_processor_dead_lettered_records", "Accepted records ClickHouse refused.", ["stream"]
)
PROCESSOR_INSERT_SECONDS = Histogram("logstream_processor_insert_seconds", "One INSERT.", buckets=_SECONDS)
PROCESSOR_INSERT_ROWS = Histogram(
    "logstream_processor_insert_rows",
    "Rows in one INSERT.",
    buckets=(1, 10, 100, 1e3, 1e4, 2.5e4, 5e4, 1e5, 2e5, 5e5),
)
PROCESSOR_RETRIES = Counter(
    "logstream_processor_retries", "INSERTs tried again because the store was away.", ["stream"]
)
PROCESSOR_LAG = Gauge("logstream_processor_lag_records", "Records accepted and not yet stored.", ["stream"])
PROCESSOR_OLDEST_SECONDS = Gauge(
    "logstream_processor_oldest_unsaved_seconds", "Age of the oldest record not yet stored.", ["stream"]
)
PROCESSOR_DEDUPLICATED = Counter(
    "logstream_processor_deduplicated_records", "Records of requests repeated under their Idempotency-Key.", ["stream"]
)
PROCESSOR_LOST = Counter(
    "logstream_processor_lost_offsets", "Offsets that the log no longer had when they were to be stored.", ["stream"]
)
PROCESSOR_WAITING = Gauge(
    "logstream_processor_waiting_partitions",
    "Partitions that cannot go on, by what they wait for.",
    ["stream", "reason"],
)
PROCESSOR_FENCED = Counter(
    "logstream_processor_fenced", "Times a partition turned out to be another member's.", ["stream"]
)
PROCESSOR_HELD_BYTES = Gauge("logstream_processor_held_bytes", "Bytes of records in memory, all streams together.")
PROCESSOR_CLAIMS = Gauge("logstream_processor_claims", "Idempotency-Keys remembered.", ["stream"])
PROCESSOR_CLAIMS_FORGOTTEN = Counter(
    "logstream_processor_claims_forgotten", "Idempotency-Keys forgotten within their window, because of max_claims."
)

# Store
STORE_REPLICA_UP = Gauge(
    "logstream_store_replica_up", "Whether a ClickHouse server did what it was asked.", ["replica"]
)
STORE_REPLICA_FAILURES = Counter(
    "logstream_store_replica_failures", "Calls that a ClickHouse server was too ill to answer.", ["replica"]
)

# API
API_REQUESTS = Counter("logstream_api_requests", "API requests.", ["route", "status"])
API_SECONDS = Histogram("logstream_api_seconds", "API request duration.", ["route"], buckets=_SECONDS)
TAIL_CLIENTS = Gauge("logstream_tail_clients", "Connected tail clients.", ["stream"])
TAIL_SENT = Counter("logstream_tail_sent_records", "Records sent to tail clients.", ["stream"])
TAIL_GAPS = Counter("logstream_tail_gap_records", "Records declared in gap frames.", ["stream"])
TAIL_REFUSED = Counter("logstream_tail_refused_clients", "Tail clients turned away at the cap.", ["stream"])

# Dead letters
LETTERS_REPLAYED = Counter("logstream_dead_letters_replayed", "Dead letters sent again.", ["stream"])
LETTERS_DISCARDED = Counter("logstream_dead_letters_discarded", "Dead letters discarded.", ["stream"])

# Auth
AUTH_FAILURES = Counter("logstream_auth_failures", "Refused credentials.", ["reason"])
AUTH_AWAY = Gauge("logstream_auth_database_away", "1 while the last look at the accounts database failed.")
QUOTA_COLLECTORS = Gauge(
    "logstream_quota_collectors", "Collectors that share quotas; 0 while they cannot, and each takes a part of them."
)

# Engine
ENGINE_QUERIES = Counter("logstream_engine_queries", "Statements run by the embedded engine.", ["kind", "status"])
ENGINE_SECONDS = Histogram("logstream_engine_seconds", "Statement duration.", ["kind"], buckets=_SECONDS)
ENGINE_RESTARTS = Counter("logstream_engine_restarts", "Times a supervised child was started again.", ["child"])

# Processes run apart
TLS_RELOADS = Counter("logstream_tls_reloads", "Changed certificate files, by what became of them.", ["outcome"])
TLS_LOADED = Gauge("logstream_tls_loaded_timestamp_seconds", "When the certificate in use was read.")


def exposition() -> bytes:
    """All metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)
