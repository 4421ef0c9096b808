"""Settings: one frozen class per process, from environment (`LOGSTREAM_…`) or arguments, checked at start.

Every field states its unit and why its default is what it is.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024

Port = Annotated[int, Field(ge=0, le=65535)]
"""0 lets the system choose a free port."""


class _Settings(BaseSettings):
    """Frozen; each subclass sets its own environment prefix, an unknown argument is an error."""


class RedactionRule(BaseModel):
    """What is looked for, where, and what becomes of it. Of `detector` and `pattern` it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "", pattern=r"^([a-z][a-z0-9_-]{0,31})?$", description="In marks and metrics; the detector's by default."
    )
    detector: str | None = Field(None, description="A built-in detector.")
    pattern: str | None = Field(
        None, max_length=1000, description="RE2; where it has groups, only what they match is replaced."
    )
    fields: tuple[str, ...] = Field(
        ("message", "metadata.*"), min_length=1, max_length=50,
        description="message, service, metadata.KEY; * and ? stand for any characters of a key.",
    )  # fmt: skip
    action: Literal["mask", "keep_last", "hash", "drop", "reject"] = Field(
        "mask",
        description="mask: [name]; keep_last: the last four characters stay; hash: equal values stay equal; drop: the "
        "whole field goes; reject: the record is not accepted.",
    )
    streams: tuple[str, ...] = Field(("*",), min_length=1, description="Names of streams; * and ? as in fields.")


class RedactionSettings(_Settings):
    """What is taken out of records before they reach the log"""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_REDACTION_", frozen=True, extra="forbid")

    detectors: tuple[str, ...] = Field(
        (), description='Built-in detectors that mask in messages and metadata, as a JSON list; ["all"]: each of them.'
    )
    rules: tuple[RedactionRule, ...] = Field(
        (), max_length=50, description="Rules as a JSON list of objects; they come before the detectors."
    )
    hash_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the action hash, 16 characters or more: the same in every collector, or equal values "
        "become different ones.",
    )


class IngestLimits(_Settings):
    """What one request may hold. What exceeds a limit is refused by name, or truncated with a mark."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_INGEST_", frozen=True, extra="forbid")

    max_body_bytes: int = Field(16 * MIB, ge=1024, description="As sent, compressed or not; over it 413.")
    max_decompressed_bytes: int = Field(64 * MIB, ge=1024, description="After decompression; over it 413.")
    max_records: int = Field(100_000, ge=1, description="Records in one request; over it 413.")
    max_message_bytes: int = Field(
        256 * 1024, ge=64, description="UTF-8 bytes of a message; a longer one is truncated with a mark."
    )
    max_metadata_keys: int = Field(
        128, ge=1, description="Keys of one record after flattening; more are rejected by name."
    )
    max_metadata_value_bytes: int = Field(
        32 * 1024,
        ge=64,
        description="UTF-8 bytes of a metadata value; a longer one is truncated with a mark.",
    )
    max_metadata_depth: int = Field(16, ge=1, description="Levels of nesting; deeper ones keep their JSON text.")
    max_name_bytes: int = Field(
        256,
        ge=16,
        description="UTF-8 bytes of a service, a metadata key, a trace or span id; longer is rejected.",
    )
    max_future_seconds: float = Field(
        86_400.0,
        gt=0,
        description="How far ahead of the clock a timestamp may be: 24 h covers wrong time zones.",
    )
    max_pending_bytes: int = Field(
        128 * MIB, ge=MIB,
        description="Bytes of all requests being read, decoded or waiting for the log; over it 503. Bounds memory.",
    )  # fmt: skip
    body_timeout_seconds: float = Field(
        30.0, gt=0, description="A body that is not whole by then is answered 408: slow senders hold memory."
    )
    header_timeout_seconds: float = Field(
        10.0, gt=0, description="A connection without a whole request header is closed."
    )


class CollectorSettings(_Settings):
    """The ingest endpoint."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_COLLECTOR_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Loopback unless told otherwise.")
    port: Port = 8080
    limits: IngestLimits = Field(default_factory=IngestLimits)
    redaction: RedactionSettings = Field(default_factory=RedactionSettings)
    flush_rows: int = Field(
        20_000, ge=1, description="Requests are joined into one block until it has this many rows …"
    )
    flush_seconds: float = Field(
        0.005, ge=0, description="… or the oldest has waited this long: one fsync serves them all."
    )
    publish_timeout_seconds: float = Field(
        10.0, gt=0, description="A log that has not answered by then makes the request a 503."
    )
    cors_origins: tuple[str, ...] = Field(("*",), description="Origins browsers may post from; keys are not cookies.")


class BusSettings(_Settings):
    """The embedded log."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_BUS_", frozen=True, extra="forbid")

    path: Path = Path("logstream-data/bus")
    max_bytes: int = Field(
        4096 * MIB, ge=MIB,
        description="Bytes of records not yet consumed; then 503. About 20 M ordinary rows: hours of ClickHouse away.",
    )  # fmt: skip
    retain_bytes: int = Field(
        256 * MIB, ge=0, description="Bytes of consumed records kept, so that tails resume without the store."
    )
    retain_seconds: float = Field(3600.0, ge=0, description="Consumed records are kept no longer than this.")
    idempotency_window_seconds: float = Field(3600.0, ge=600, description="How long an Idempotency-Key is remembered.")
    min_free_disk_bytes: int = Field(
        1024 * MIB,
        ge=0,
        description="Below this free space ingestion answers 503 instead of filling the disk.",
    )


class KafkaSettings(_Settings):
    """The log on Kafka: how to reach it, what its topics are made with, and what waiting for it may cost."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_KAFKA_", frozen=True, extra="forbid")

    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1, description="host:port, several joined by commas.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = Field("", description="For SASL.")
    password: SecretStr = Field(SecretStr(""), description="For SASL.")
    ca_file: Path | None = Field(None, description="PEM; None: the system's authorities.")
    cert_file: Path | None = Field(None, description="PEM of the client's certificate, with key_file: mutual TLS.")
    key_file: Path | None = None
    key_password: SecretStr = SecretStr("")
    partitions: int = Field(6, ge=1, description="Of a topic when it is made: the most processors that share a stream.")
    replication_factor: int = Field(3, ge=1, description="Of a topic when it is made. 1: a broker's disk is all.")
    min_insync_replicas: int = Field(
        2, ge=1, description="Replicas that must have a record before it is acknowledged; fewer in sync: 503."
    )
    retention_hours: float = Field(
        72.0, gt=0, description="How long a topic keeps records: ClickHouse may be away this long, replay reaches back."
    )
    dead_letter_retention_hours: float = Field(
        30 * 24.0, gt=0, description="The same of dead-letter topics until a stream's dead_letter_days are set on them."
    )
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = Field(
        "lz4", description="zstd takes less disk and network for more CPU in the collector."
    )
    max_record_bytes: int = Field(
        64 * MIB, ge=MIB, le=95 * MIB,
        description="Largest record; topics are made to take it. Kafka's own limit of a request is 100 MiB.",
    )  # fmt: skip
    max_queued_bytes: int = Field(
        64 * MIB, ge=MIB, description="Records waiting for the broker's answer; over it 503. Held twice in memory."
    )
    delivery_timeout_seconds: float = Field(
        8.0, gt=0, description="A record not acknowledged by then is a 503; shorter than the collector's own limit."
    )
    request_timeout_seconds: float = Field(
        10.0, gt=0, description="Of any other question to the broker, and how long a silent connection is trusted."
    )
    session_timeout_seconds: float = Field(
        10.0, ge=6, description="A processor silent this long loses its partitions to the others."
    )
    rebalance_timeout_seconds: float = Field(
        300.0, ge=10, description="Time to finish an INSERT in flight before a partition is taken away regardless."
    )
    read_buffer_bytes: int = Field(
        16 * MIB, ge=MIB, description="Records read ahead, of all partitions of a reader together."
    )
    idempotency_window_seconds: float = Field(
        3600.0, ge=600, description="How long an Idempotency-Key is remembered, by the time records were received."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "KafkaSettings":
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas is larger than replication_factor: nothing would be acknowledged")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.security_protocol.startswith("SASL") and not self.username:
            raise ValueError("username is needed for SASL")
        return self


class StoreSettings(_Settings):
    """ClickHouse over HTTP, embedded or not."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_STORE_", frozen=True, extra="forbid")

    url: str = Field(
        "http://127.0.0.1:8123",
        description="A real ClickHouse takes the engine's place by this URL. Replicas are separated by commas, shards"
        " by semicolons, in the order of the cluster; or a JSON list (of lists).",
    )
    username: str = "default"
    password: SecretStr = SecretStr("")
    ca_file: Path | None = Field(
        None, description="Certificates (PEM) that https servers are checked by. None: the system's."
    )
    cert_file: Path | None = Field(
        None, description="Client certificate (PEM). Without a password the server tells the user by it."
    )
    key_file: Path | None = Field(None, description="Its key (PEM). None: it is in cert_file.")
    tls_insecure: bool = Field(
        False, description="Take any certificate of an https server: no protection from who stands between."
    )
    cluster: str = Field(
        "", description="Name in system.clusters; then tables are replicated and distributed. Empty: one server."
    )
    database_engine: Literal["auto", "atomic", "replicated"] = Field(
        "auto",
        description="Of new databases on a cluster: Replicated passes schema changes on by itself, else ON CLUSTER"
        " does. auto: Atomic, and what is there stays.",
    )
    insert_quorum: str = Field(
        "auto",
        pattern=r"^(auto|\d{1,2})$",
        description="Replicas that must hold rows before they count as stored, on a cluster. auto: more than half;"
        " 0 or 1: one, whose loss then loses rows.",
    )
    query_timeout_seconds: float = Field(30.0, gt=0, description="Execution time of a read.")
    insert_timeout_seconds: float = Field(120.0, gt=0, description="An insert that takes longer is tried again.")
    max_result_bytes: int = Field(64 * MIB, ge=MIB, description="A read that would return more is refused.")


class ProcessorSettings(_Settings):
    """From the log into ClickHouse."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_PROCESSOR_", frozen=True, extra="forbid")

    max_rows: int = Field(
        200_000, ge=1, description="Rows in one INSERT; larger blocks cost less CPU a row and more memory."
    )
    max_bytes: int = Field(48 * MIB, ge=1024, description="Payload bytes in one INSERT; bounds memory.")
    flush_seconds: float = Field(
        0.25,
        ge=0,
        description="Time between two INSERTs while records wait: a record is searchable within a second.",
    )
    busy_rows: int = Field(
        10_000, ge=1, description="So many rows in flush_seconds, or more, are gathered for busy_flush_seconds instead."
    )
    busy_flush_seconds: float = Field(
        0.5, ge=0, description="Time between two INSERTs of a partition that is busy: few large ones cost less CPU."
    )
    retry_seconds: float = Field(
        0.2, gt=0, description="First pause after a failed INSERT; doubled up to 5 s, with jitter."
    )
    insert_slots: int = Field(
        4, ge=1, description="INSERTs under way at a time, all streams and partitions; handed out to streams in turn."
    )
    max_held_bytes: int = Field(
        128 * MIB, ge=MIB,
        description="Bytes of records in memory, all streams; shared evenly by those that have any. Bounds memory.",
    )  # fmt: skip
    revoke_seconds: float = Field(
        15.0, gt=0, description="An INSERT under way may take so long when its partition goes to another processor."
    )
    max_claims: int = Field(
        250_000, ge=1000,
        description="Idempotency-Keys remembered a partition, 45 MB; with more in their window, it is shorter. "
        "The same for all processors.",
    )  # fmt: skip


class ApiSettings(_Settings):
    """Search, tail and administration."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_API_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Loopback unless told otherwise.")
    port: Port = 8081
    ingest_url: str = Field("http://127.0.0.1:8080", description="Where the collector is, for the page at /docs.")
    # What is sent again here is held to the collectors' limits: replayed dead letters, dry runs of redaction.
    limits: IngestLimits = Field(default_factory=IngestLimits)
    redaction: RedactionSettings = Field(default_factory=RedactionSettings)
    cors_origins: tuple[str, ...] = Field(("*",), description="Origins browsers may read from; keys are not cookies.")
    max_limit: int = Field(10_000, ge=1, description="Rows one /logs answer may have.")
    max_query_days: float | None = Field(
        None,
        gt=0,
        description="Longest time range of a read; over it 400. None: any, since time is bounded.",
    )
    max_query_seconds: float | None = Field(
        None, gt=0, description="Execution time of a read's statement; over it 422. None: the store's query timeout."
    )
    max_rows_read: int | None = Field(
        None, ge=1, description="Rows one statement may read; over it 422. None: as many as it can in its time."
    )
    max_bytes_read: int | None = Field(
        None,
        ge=1,
        description="Uncompressed bytes one statement may read; over it 422. None: as many as it can in its time.",
    )
    max_result_bytes: int | None = Field(
        None, ge=MIB, description="Bytes of a statement's answer; over it 413. None: the store's max_result_bytes."
    )
    max_reads: int = Field(
        4, ge=1,
        description="Reads that run side by side: ingestion and merges keep the rest of the engine's connections.",
    )  # fmt: skip
    max_reads_per_key: int = Field(
        3, ge=1, description="Of one key or person: one busy caller leaves a turn to the others."
    )
    max_waiting_reads: int = Field(64, ge=0, description="Reads that wait for a turn, callers in turn; then 429.")
    max_waiting_reads_per_key: int = Field(32, ge=0, description="Of one key or person; then 429.")
    max_exports: int = Field(2, ge=1, description="Exports that run side by side, among max_reads; then 429.")
    max_exports_per_key: int = Field(1, ge=1, description="Of one key or person; then 429.")
    tail_max_clients: int = Field(200, ge=1, description="Tail clients per process; the next one gets a visible 429.")
    tail_queue_records: int = Field(
        10_000,
        ge=1,
        description="Records waiting for one slow tail client; what exceeds it becomes a gap frame.",
    )
    signup: bool | None = Field(None, description="None: allowed only when listening on loopback.")


class LettersSettings(_Settings):
    """Dead letters."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_LETTERS_", frozen=True, extra="forbid")

    max_known: int = Field(
        1_000_000, ge=1_000, description="The newest letters of a stream that can be found; some 50 MB of memory."
    )
    recovery_seconds: float = Field(
        60.0, gt=0, description="Pause between two looks for replays that a crash left unfinished."
    )
    lease_seconds: float = Field(
        30.0, gt=0, le=30, description="A replay that takes longer may be finished by another process."
    )


class EngineSettings(_Settings):
    """`logstream clickhouse`: the embedded engine on ClickHouse's HTTP interface."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_ENGINE_", frozen=True, extra="forbid")

    path: Path = Path("logstream-data/clickhouse")
    host: str = Field("127.0.0.1", description="Loopback unless told otherwise: see password.")
    hosts: tuple[str, ...] = Field(
        (), description="Names, beside localhost and addresses, that the Host header may hold (JSON list)."
    )
    password: SecretStr = Field(SecretStr(""), description="Asked of every statement; empty: none is.")
    port: Port = 8123
    max_memory_bytes: int = Field(640 * MIB, ge=128 * MIB, description="All queries, inserts and merges together.")
    connections: int = Field(8, ge=2, description="Statements that run side by side; the rest wait.")
    max_threads: int = Field(2, ge=1, description="Threads of one query.")
    max_waiting: int = Field(
        64, ge=0, description="Statements waiting for a connection, reads and inserts each; then 503."
    )
    max_body_bytes: int = Field(
        64 * MIB, ge=1024, description="One request body, as sent and decompressed; over it 413. It is held in memory."
    )
    max_pending_bytes: int = Field(
        160 * MIB, ge=1024, description="All bodies being received or waiting; over it 503. Bounds memory."
    )


class AuthSettings(_Settings):
    """Accounts and keys."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_AUTH_", frozen=True, extra="forbid")

    url: str = Field(
        "sqlite+aiosqlite:///logstream-data/auth.db",
        repr=False,
        description="sqlite+aiosqlite:///FILE, or postgresql://USER@HOST/DATABASE with libpq's options (sslmode, …).",
    )
    password: SecretStr = Field(SecretStr(""), description="Of Postgres; goes before one in the URL.")
    connect_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a command waits for Postgres; wrong credentials end it at once. Services wait as long as "
        "it takes.",
    )
    stale_seconds: float = Field(
        3600.0,
        gt=0,
        description="Known keys and logins go on this long while the database is away; then 503. Nothing can be "
        "revoked meanwhile.",
    )
    refresh_seconds: float = Field(
        2.0,
        gt=0,
        le=4,
        description="A key revoked elsewhere stops working within this time; 4 at most keeps it under 5.",
    )
    session_seconds: float = Field(12 * 3600.0, gt=0, description="A login lasts this long.")
    ticket_seconds: float = Field(30.0, gt=0, description="Life of a WebSocket or SSE ticket.")


class StreamEntry(BaseModel):
    """A stream as settings name it; with `generation`, as `logstream.stream.make_stream` does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    namespace: str = "local"
    generation: str = "1"
    retention_days: int = Field(30, ge=1, le=10_950)
    dead_letter_days: int = Field(30, ge=1, le=10_950)


class RunSettings(_Settings):
    """What all processes run apart share: `logstream collector`, `logstream processor`, `logstream api`."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_RUN_", frozen=True, extra="forbid")

    bus: Literal["kafka", "sqlite"] = Field(
        "kafka", description="Which log: kafka, or sqlite (see BUS), which is for one process alone."
    )
    streams: tuple[StreamEntry, ...] = Field(
        (),
        description="Streams made when they are not there, and those of a processor without accounts (JSON list of "
        "name, namespace, generation, retention_days, dead_letter_days); empty: the stream default.",
    )
    create_missing: bool = Field(
        True, description="The processor makes topics and tables that are missing; false: somebody else does."
    )
    admin_email: str = Field("", description="The first admin, whom the API makes while there is nobody; empty: none.")
    admin_password: SecretStr = Field(SecretStr(""), description="The first admin's password.")
    drain_seconds: float = Field(
        5.0, ge=0, le=600,
        description="After SIGTERM /readyz fails at once, and requests are still taken for so long: balancers lag.",
    )  # fmt: skip
    shutdown_seconds: float = Field(
        20.0, ge=1, le=600, description="Then requests and INSERTs under way have so long to finish."
    )
    health_host: str = Field("127.0.0.1", description="Address of health_port; loopback unless told otherwise.")
    health_port: Port | None = Field(
        None,
        description="A plain-HTTP listener for /livez, /readyz, /metrics alone; then /metrics is nowhere else. The "
        "processor's is 8082 without.",
    )
    hang_seconds: float = Field(
        60.0, ge=0, le=86_400, description="A process whose event loop stands still so long ends with 70; 0: never."
    )


class TlsSettings(_Settings):
    """TLS of the process's own port, collector or API. Files are read again when they change."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_TLS_", frozen=True, extra="forbid")

    cert_file: Path | None = Field(None, description="PEM: the certificate, then its chain. None: plain HTTP.")
    key_file: Path | None = Field(None, description="PEM: its private key, without a passphrase.")
    client_ca_file: Path | None = Field(
        None, description="PEM: who must have signed the client's certificate. None: clients need none."
    )
    min_version: Literal["1.2", "1.3"] | None = Field(
        None,
        description="Older versions are refused. None: 1.2, and 1.3 with client_ca_file: sessions of 1.2 outlive a CA.",
    )
    reload_seconds: float = Field(5.0, gt=0, le=3600, description="How often the files are looked at.")


class LogSettings(_Settings):
    """LogStream's own log, on standard error."""

    model_config = SettingsConfigDict(env_prefix="LOGSTREAM_LOG_", frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="And what is worse.")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: JSON unless a person is looking.")
