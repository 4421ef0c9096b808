CREATE DATABASE IF NOT EXISTS logstream_local_web_0badc0de ON CLUSTER 'logs';

CREATE TABLE IF NOT EXISTS logstream_local_web_0badc0de.schema_migrations ON CLUSTER 'logs'
    (version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
    ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/logstream_local_web_0badc0de/schema_migrations', '{replica}') ORDER BY version;

CREATE TABLE IF NOT EXISTS logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs'
(
    timestamp DateTime64(9, 'UTC') CODEC(GCD, Delta(8), ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    level Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5, 'fatal' = 6) CODEC(ZSTD(1)),
    message String CODEC(Default),
    metadata Map(LowCardinality(String), String) CODEC(Default),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    received_at DateTime64(9, 'UTC') CODEC(GCD, Delta(8), ZSTD(1)),
    key_id LowCardinality(String) CODEC(ZSTD(1)),
    incarnation UInt32 CODEC(ZSTD(1)),
    partition UInt16 CODEC(ZSTD(1)),
    offset UInt64 CODEC(DoubleDelta, ZSTD(1)),
    row UInt32 CODEC(T64, ZSTD(1)),
    INDEX message_words lower(message) TYPE tokenbf_v1(32768, 2, 0) GRANULARITY 1,
    INDEX metadata_values mapValues(metadata) TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX offsets offset TYPE minmax GRANULARITY 8
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/logstream_local_web_0badc0de/logs_local', '{replica}')
PARTITION BY toDate(received_at)
ORDER BY (intDiv(toUnixTimestamp64Nano(timestamp), 300000000000), service, timestamp)
SETTINGS
    replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    auto_statistics_types = '',
    string_serialization_version = 'single_stream',
    min_bytes_for_wide_part = 50000000,
    merge_selector_base = 8;

CREATE TABLE IF NOT EXISTS logstream_local_web_0badc0de.logs ON CLUSTER 'logs' AS logstream_local_web_0badc0de.logs_local
ENGINE = Distributed('logs', 'logstream_local_web_0badc0de', 'logs_local', partition);

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs'
    ADD COLUMN IF NOT EXISTS pairs Array(LowCardinality(String)) MATERIALIZED arrayFilter(p -> p != '', arrayMap((k, v) -> if(length(v) <= 30 AND (length(v) <= 5 OR v < '0' OR v >= ':'), concat(k, '=', v), ''), mapKeys(metadata), mapValues(metadata))) CODEC(Default) AFTER metadata;

ALTER TABLE logstream_local_web_0badc0de.logs ON CLUSTER 'logs'
    ADD COLUMN IF NOT EXISTS pairs Array(LowCardinality(String)) MATERIALIZED arrayFilter(p -> p != '', arrayMap((k, v) -> if(length(v) <= 30 AND (length(v) <= 5 OR v < '0' OR v >= ':'), concat(k, '=', v), ''), mapKeys(metadata), mapValues(metadata))) CODEC(Default) AFTER metadata;

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' ADD INDEX IF NOT EXISTS pairs pairs TYPE text(tokenizer = 'array');

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' ADD INDEX IF NOT EXISTS traces trace_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' ADD INDEX IF NOT EXISTS words lower(translate(message, '0123456789', '0000000000')) TYPE text(tokenizer = 'splitByNonAlpha');

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs'
    ADD PROJECTION IF NOT EXISTS minutes
    (SELECT toUnixTimestamp64Nano(timestamp) - positiveModulo(toUnixTimestamp64Nano(timestamp), 60000000000) AS minute, service, level, count() GROUP BY minute, service, level);

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' MATERIALIZE PROJECTION IF EXISTS minutes SETTINGS mutations_sync = 0;

CREATE TABLE IF NOT EXISTS logstream_local_web_0badc0de.journal ON CLUSTER 'logs'
(
    incarnation UInt32 CODEC(ZSTD(1)),
    minute UInt32 CODEC(Delta(4), ZSTD(1)),
    partition UInt16 CODEC(ZSTD(1)),
    key_id LowCardinality(String) CODEC(ZSTD(1)),
    last UInt64 CODEC(Delta(8), ZSTD(1)),
    stored UInt64 CODEC(T64, ZSTD(1)),
    dead_lettered UInt64 CODEC(T64, ZSTD(1)),
    deduplicated UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/logstream_local_web_0badc0de/journal', '{replica}', last)
ORDER BY (incarnation, minute, partition, key_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, auto_statistics_types = '';

CREATE TABLE IF NOT EXISTS logstream_local_web_0badc0de.journal_claims ON CLUSTER 'logs'
(
    incarnation UInt32,
    partition UInt16,
    first UInt64,
    day Date,
    newest Int64,
    claims Array(FixedString(32)) CODEC(NONE),
    received Array(Int64) CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/logstream_local_web_0badc0de/journal_claims', '{replica}')
PARTITION BY day
ORDER BY (incarnation, partition, first)
TTL day + toIntervalDay(8)
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, auto_statistics_types = '';

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs'
    ADD PROJECTION IF NOT EXISTS minute_times
    (SELECT toUnixTimestamp64Nano(timestamp) - positiveModulo(toUnixTimestamp64Nano(timestamp), 60000000000) AS minute, service, level, count(), min(timestamp), max(timestamp) GROUP BY minute, service, level);

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' MATERIALIZE PROJECTION IF EXISTS minute_times SETTINGS mutations_sync = 0;

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' DROP PROJECTION IF EXISTS minutes SETTINGS mutations_sync = 0;

ALTER TABLE logstream_local_web_0badc0de.logs_local ON CLUSTER 'logs' MODIFY TTL least(greatest(timestamp, received_at), toDateTime64('2075-01-01 00:00:00', 9, 'UTC')) + toIntervalDay(7);

DROP DATABASE IF EXISTS logstream_local_web_0badc0de ON CLUSTER 'logs' SYNC;

