"""The table of a stream, as SQL. Which figures chose what: docs/adr/0003-schema.md and benchmarks/RESULTS.md.

Statements name the database as `{database}`, which `Stream.database` keeps to letters, digits and underscores.
"""

TABLE = "logs"

BUCKET_NS = 300_000_000_000
BUCKET = f"intDiv(toUnixTimestamp64Nano(timestamp), {BUCKET_NS})"
"""First term of the sort key: five minutes, monotonic over all of DateTime64(9).

Not toStartOfInterval: bounds on it are not recognised as bounds on the key, and every granule is read.
"""


def bucket(ns: int) -> int:
    """The bucket of a time: as the engine divides, towards zero."""
    return ns // BUCKET_NS if ns >= 0 else -(-ns // BUCKET_NS)


NEWEST_FIRST = f"{BUCKET} DESC, timestamp DESC"
"""ORDER BY of newest-first reads: reading in order of the key needs the bucket to come first."""

MAX_RETENTION_DAYS = 10_950
"""Thirty years, so that 2075 and this is still within the 32-bit time that TTL is kept in (until 2106)."""

# Without the bound a timestamp far in the future wraps round in 32-bit time, and the row is deleted at once.
_RETAINED_FROM = "least(greatest(timestamp, received_at), toDateTime64('2075-01-01 00:00:00', 9, 'UTC'))"


def ttl(days: int) -> str:
    """The TTL expression that keeps rows `days` days, counted from the later of timestamp and received_at."""
    return f"{_RETAINED_FROM} + toIntervalDay({days})"


WORDS = "lower(translate(message, '0123456789', '0000000000'))"
"""The message as its text index knows it: in lower case, every digit a zero, so that ids share few words.

For a word of letters only, that is as good as the message itself.
"""

PAIR_MAX_BYTES = 30
"""The longest metadata value that the index of pairs takes."""
PAIR_MAX_DIGITS_BYTES = 5
"""The longest that begins with a digit: longer ones are mostly ids, times and addresses, nearly all different."""
PAIRS = (
    f"arrayFilter(p -> p != '', arrayMap((k, v) -> if(length(v) <= {PAIR_MAX_BYTES} AND (length(v)"
    f" <= {PAIR_MAX_DIGITS_BYTES} OR v < '0' OR v >= ':'), concat(k, '=', v), ''),"
    " mapKeys(metadata), mapValues(metadata)))"
)
"""What the column `pairs` holds: `key=value` of every short metadata value; see `pair`.

A map is slow to ask for one key, because all its values are read; these are a few numbers a row.
"""

MINUTE_NS = 60_000_000_000
MINUTE = f"toUnixTimestamp64Nano(timestamp) - positiveModulo(toUnixTimestamp64Nano(timestamp), {MINUTE_NS})"
"""Where a line's minute begins, ns since the epoch; positiveModulo, so that minutes before 1970 do as well."""


def pair(key: str, value: str) -> str | None:
    """The element of `PAIRS` that tells `key` = `value`; None where the index cannot tell."""
    raw = value.encode()
    # With a second "=" the same text could be another key's.
    if "=" in key or "=" in value or not 0 < len(raw) <= PAIR_MAX_BYTES:
        return None
    if len(raw) > PAIR_MAX_DIGITS_BYTES and b"0" <= raw < b":":
        return None
    return f"{key}={value}"


CREATE_LOGS = """
CREATE TABLE IF NOT EXISTS {database}.logs
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
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (intDiv(toUnixTimestamp64Nano(timestamp), 300000000000), service, timestamp)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    auto_statistics_types = '',
    string_serialization_version = 'single_stream',
    min_bytes_for_wide_part = 50000000,
    merge_selector_base = 8
"""

ADD_INDEXES = (
    f"""
ALTER TABLE {{database}}.logs
    ADD COLUMN IF NOT EXISTS pairs Array(LowCardinality(String)) MATERIALIZED {PAIRS} CODEC(Default) AFTER metadata
""",
    "ALTER TABLE {database}.logs ADD INDEX IF NOT EXISTS pairs pairs TYPE text(tokenizer = 'array')",
    "ALTER TABLE {database}.logs ADD INDEX IF NOT EXISTS traces trace_id TYPE bloom_filter(0.01) GRANULARITY 1",
    f"ALTER TABLE {{database}}.logs ADD INDEX IF NOT EXISTS words {WORDS} TYPE text(tokenizer = 'splitByNonAlpha')",
    f"""
ALTER TABLE {{database}}.logs
    ADD PROJECTION IF NOT EXISTS minutes
    (SELECT {MINUTE} AS minute, service, level, count() GROUP BY minute, service, level)
""",
    # In the background. Parts with and without it are never merged with one another.
    "ALTER TABLE {database}.logs MATERIALIZE PROJECTION IF EXISTS minutes SETTINGS mutations_sync = 0",
)
"""What makes common questions fast; what each costs and gains: docs/adr/0012-indexes.md.

Parts from before stay as they are, and are read as before, until a merge writes them anew.
"""

CREATE_JOURNAL = """
CREATE TABLE IF NOT EXISTS {database}.journal
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
ENGINE = ReplacingMergeTree(last)
ORDER BY (incarnation, minute, partition, key_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, auto_statistics_types = ''
"""
"""What became of the rows received in a minute: running totals up to the offset `last`, of which the highest holds."""

CREATE_JOURNAL_CLAIMS = """
CREATE TABLE IF NOT EXISTS {database}.journal_claims
(
    incarnation UInt32,
    partition UInt16,
    first UInt64,
    day Date,
    newest Int64,
    claims Array(FixedString(32)) CODEC(NONE),
    received Array(Int64) CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (incarnation, partition, first)
TTL day + toIntervalDay(8)
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, auto_statistics_types = ''
"""
"""Claims of the records of a settled range that begins at `first`; kept longer than topics usually keep records."""

ADD_MINUTE_TIMES = (
    f"""
ALTER TABLE {{database}}.logs
    ADD PROJECTION IF NOT EXISTS minute_times
    (SELECT {MINUTE} AS minute, service, level, count(), min(timestamp), max(timestamp) GROUP BY minute, service, level)
""",
    "ALTER TABLE {database}.logs MATERIALIZE PROJECTION IF EXISTS minute_times SETTINGS mutations_sync = 0",
    # All of it is in the other one, which earlier releases use as well.
    "ALTER TABLE {database}.logs DROP PROJECTION IF EXISTS minutes SETTINGS mutations_sync = 0",
)
"""Counts per minute that say which of its lines come first and last: whether a range cuts a minute at all."""
