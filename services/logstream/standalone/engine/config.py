"""chDB's configuration for one small machine: what a server would read from config.xml and users.xml."""

from pathlib import Path
from xml.sax.saxutils import escape

from logstream.settings import MIB, EngineSettings

TIMEZONE = "UTC"
"""Of the engine, whatever the machine's is."""

# Caches: the defaults may grow to half of the machine's memory. Log searches read marks and index blocks of
# recent parts again and again and little else, so small caches keep nearly all of the benefit.
_CACHES = {
    "mark_cache_size": 32 * MIB,
    "index_mark_cache_size": 16 * MIB,
    "primary_index_cache_size": 32 * MIB,
    "uncompressed_cache_size": 0,
    # The filters of a few million rows: rare words and values are looked up in all of them.
    "index_uncompressed_cache_size": 64 * MIB,
    "text_index_tokens_cache_size": 8 * MIB,
    "text_index_header_cache_size": 8 * MIB,
    "text_index_postings_cache_size": 16 * MIB,
    "query_condition_cache_size": 8 * MIB,
    "compiled_expression_cache_size": 8 * MIB,
    "mmap_cache_size": 64,
}
# Parts are written with LZ4 and become ZSTD by their first merge into a larger one: the columns that say Default.
_COMPRESSION = (
    "<compression><case><min_part_size>20000000</min_part_size><min_part_size_ratio>0</min_part_size_ratio>"
    "<method>zstd</method><level>1</level></case></compression>"
)
# An INSERT under which the disk fills up may leave an active part whose files are all empty (seen with chDB 4.4): it is
# refused before, and tried again.
_MERGE_TREE = (
    "<merge_tree><min_free_disk_ratio_to_perform_insert>0.05</min_free_disk_ratio_to_perform_insert></merge_tree>"
)
_POOLS = {
    "background_pool_size": 2,
    "background_merges_mutations_concurrency_ratio": 1,
    "background_common_pool_size": 1,
    "background_move_pool_size": 1,
    "background_fetches_pool_size": 1,
    "background_schedule_pool_size": 2,
}


# All statements run as the engine's one user: everything with tables, nothing with files, other machines or programs.
GRANTS = (
    "GRANT ALL ON *.*",
    "REVOKE SOURCES ON *.*",
    "REVOKE READ, WRITE ON *",
    "REVOKE CREATE DICTIONARY, BACKUP, ACCESS MANAGEMENT, NAMED COLLECTION ADMIN, INTROSPECTION ON *.*",
    "REVOKE SYSTEM SHUTDOWN, SYSTEM LISTEN, SYSTEM FAILPOINT, SYSTEM THREAD FUZZER ON *.*",
    "REVOKE TABLE ENGINE ON *",
    *(f"GRANT TABLE ENGINE ON {name}" for name in (
        "MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree",
        "VersionedCollapsingMergeTree", "CoalescingMergeTree", "GraphiteMergeTree", "Memory", "Null", "Log", "TinyLog",
        "StripeLog", "View", "MaterializedView", "Buffer", "Merge", "Join", "Set",
    )),
)  # fmt: skip


def users_config() -> str:
    """The XML configuration of the engine's one user."""
    grants = "".join(f"<query>{escape(grant)}</query>" for grant in GRANTS)
    return (
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>"
        "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants>{grants}</grants></default></users></clickhouse>\n"
    )


def server_config(settings: EngineSettings, *, users: Path | None = None) -> str:
    """The XML configuration of the engine. users: the file of `users_config`, None to grant everything."""
    server = {
        **({"users_config": users} if users else {}),
        "max_server_memory_usage": settings.max_memory_bytes,
        "merges_mutations_memory_usage_soft_limit": settings.max_memory_bytes // 2,
        **_CACHES,
        **_POOLS,
    }
    lines = [f"  <{name}>{escape(str(value))}</{name}>" for name, value in server.items()]
    return "\n".join(["<clickhouse>", *lines, f"  {_COMPRESSION}", f"  {_MERGE_TREE}", "</clickhouse>", ""])


def statement_defaults(settings: EngineSettings) -> dict[str, str]:
    """Settings of every statement unless the request says otherwise."""
    return {
        "max_threads": str(settings.max_threads),
        # Else a gigabyte of free memory is asked for each thread, and 250 MB of data: every read would have one thread.
        "max_threads_min_free_memory_per_thread": "0",
        "merge_tree_min_bytes_for_concurrent_read": str(4 * MIB),
        "merge_tree_min_rows_for_concurrent_read": "65536",
        # One thread builds a block's columns one after another: less memory, and the CPU per row is what counts.
        "max_insert_threads": "1",
        "max_memory_usage": str(settings.max_memory_bytes * 3 // 4),
        # chDB reads a lone word as an expression and maps whole files; a server does neither.
        "implicit_select": "0",
    }


INSERT_DEFAULTS = {
    # The data of one INSERT become one block, so one part a partition: all or nothing, also under SIGKILL.
    # The limit on bodies bounds what this holds in memory.
    "min_insert_block_size_rows": str(2**40),
    "min_insert_block_size_bytes": "0",
}

FORCED = {
    # An insert is answered when it is stored: chDB's own default would answer before.
    "async_insert": "0",
}


def connection_string(path: Path, config: Path) -> str:
    """What chdb.connect takes. Raises ValueError for a path that its syntax cannot carry."""
    for value in (str(path), str(config)):
        if set(value) & set("?&#%"):
            raise ValueError(f"the data folder's path must not contain ?, &, # or %: {value}")
    return f"{path}?config-file={config}"
