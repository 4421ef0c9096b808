"""Compare variants of the table: `make bench-schema ARGS="--rows 1000000 --only default,no-index"`.

Each variant runs in a process of its own on a fresh directory: sealed blocks of 1,000 rows, as the processor
sends them, in INSERTs of `--chunk` rows, then merges until none runs. Reported per variant: µs of CPU (user +
system, all threads) a row of the inserts and in all, how many times a row was rewritten by merges, bytes a row
with all indexes, parts left, peak RSS, and the time of the queries people run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.workload import Workload
from logstream.settings import EngineSettings
from logstream.standalone.engine.config import connection_string, server_config
from logstream.storage import block, schema
from logstream.storage.store import INSERT_SETTINGS

RECEIVED_AT = 1_790_000_000 * 10**9
QUIET_SECONDS = 7.0
Edit = Callable[[str], str]


def _replace(*pairs: tuple[str, str]) -> Edit:
    def edit(sql: str) -> str:
        for old, new in pairs:
            if old not in sql:
                raise ValueError(f"the schema no longer has {old!r}")
            sql = sql.replace(old, new)
        return sql

    return edit


def _settings(**settings: object) -> Edit:
    """Table settings put behind the schema's own; the same name is replaced."""

    def edit(sql: str) -> str:
        head, _, tail = sql.rpartition("SETTINGS")
        values = dict(pair.strip().split(" = ", 1) for pair in tail.strip().split(",\n"))
        values |= {name: f"'{v}'" if isinstance(v, str) else str(v) for name, v in settings.items()}
        return head + "SETTINGS\n" + ",\n".join(f"{name} = {value}" for name, value in values.items())

    return edit


def _without(*indexes: str) -> Edit:
    def edit(sql: str) -> str:
        return "\n".join(line for line in sql.split("\n") if not any(f"INDEX {i} " in line for i in indexes))

    return edit


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs from the product: `edits` of its CREATE TABLE, `inserts` among its settings of an INSERT.

    without: what is left out of the indexes: words, pairs, traces, minutes, minute_times.
    """

    edits: tuple[Edit, ...] = ()
    inserts: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


_TOKENS = "lower(message) TYPE tokenbf_v1(32768, 2, 0) GRANULARITY 1"
_AT_ONCE = {"materialize_skip_indexes_on_insert": "1"}
_TEXT = _replace((_TOKENS, "message TYPE text(tokenizer = splitByNonAlpha, preprocessor = lower(message))"))
_KEY = "intDiv(toUnixTimestamp64Nano(timestamp), 300000000000), service, timestamp"
VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "indexes on insert": Variant(inserts=_AT_ONCE),
    "metadata filter on insert": Variant(
        inserts={**_AT_ONCE, "exclude_materialize_skip_indexes_on_insert": "message_words, offsets"}
    ),
    "word filter on insert": Variant(
        inserts={**_AT_ONCE, "exclude_materialize_skip_indexes_on_insert": "metadata_values, offsets"}
    ),
    "text index on insert": Variant((_TEXT,), _AT_ONCE),
    "text index by merges": Variant((_TEXT,)),
    "no index": Variant((_without("message_words", "metadata_values", "offsets"),)),
    "no message index": Variant((_without("message_words"),)),
    "statistics": Variant((_settings(auto_statistics_types="basic, uniq_v2"),)),
    "merge base 5": Variant((_settings(merge_selector_base=5),)),
    "merge base 12": Variant((_settings(merge_selector_base=12),)),
    "wide parts": Variant((_settings(min_bytes_for_wide_part=10_485_760),)),
    "horizontal merges": Variant((_settings(enable_vertical_merge_algorithm=0),)),
    "size streams": Variant((_settings(string_serialization_version="with_size_stream"),)),
    "no fsync": Variant((_settings(fsync_after_insert=0, fsync_part_directory=0),)),
    "LZ4": Variant((_replace(("ZSTD(1)", "LZ4"), ("CODEC(Default)", "CODEC(LZ4)")),)),
    "ZSTD at once": Variant((_replace(("CODEC(Default)", "CODEC(ZSTD(1))")),)),
    "order by timestamp": Variant((_replace((_KEY, "timestamp")),)),
    "bucketed map": Variant(
        (
            _settings(
                map_serialization_version="with_buckets", map_buckets_min_avg_size=0, map_buckets_strategy="linear"
            ),
        )
    ),
    "small filters": Variant(
        (_replace((_TOKENS, _TOKENS.replace("32768", "16384")), ("bloom_filter(0.005)", "bloom_filter(0.01)")),)
    ),
    "no words": Variant(without=("words",)),
    "no pairs": Variant(without=("pairs",)),
    "no roll-up": Variant(without=("minutes", "minute_times")),
    "filters only": Variant(without=("words", "pairs", "traces", "minutes", "minute_times")),
}  # fmt: skip

QUERIES: dict[str, str] = {
    "newest 100": "SELECT timestamp, message FROM {t} ORDER BY " + schema.NEWEST_FIRST + " LIMIT 100",
    "newest 100, service and level": "SELECT timestamp, message FROM {t} WHERE service = 'payment' AND level >= 'error'"
    " ORDER BY " + schema.NEWEST_FIRST + " LIMIT 100",
    "newest 100 with a substring": "SELECT timestamp, message FROM {t} WHERE message ILIKE '%timed out after%'"
    " ORDER BY " + schema.NEWEST_FIRST + " LIMIT 100",
    "count of a substring": "SELECT count() FROM {t} WHERE message ILIKE '%orders/1234%'",
    "count of a rare substring": "SELECT count() FROM {t} WHERE message ILIKE '%session:{token}%'",
    "unique word": "SELECT count() FROM {t} WHERE {word}'{token}')",
    "count of a common word": "SELECT count() FROM {t} WHERE {common}'session')",
    "unique metadata value": "SELECT count() FROM {t} WHERE metadata['request'] = '{unique}'",
    "count of metadata key = value": "SELECT count() FROM {t} WHERE {pair}",
    "facet of a metadata key": "SELECT metadata['host'] AS v, count() FROM {t} GROUP BY v",
    "per minute and level": "SELECT " + schema.MINUTE + " AS m, level, count() FROM {t} GROUP BY m, level",
    "per minute with a word": "SELECT " + schema.MINUTE + " AS m, count() FROM {t} WHERE {common}'session') GROUP BY m",
    "top services": "SELECT service, count() AS n FROM {t} GROUP BY service ORDER BY n DESC",
    "offsets stored": "SELECT 1 FROM {t} WHERE incarnation = 7 AND partition = 0 AND offset BETWEEN 900000 AND 900100"
    " LIMIT 1",
}


def write_blocks(path: Path, rows: int) -> Iterator[int]:
    """Sealed blocks of 1,000 rows into `path`; yields the end of each."""
    workload = Workload(rows)
    end = 0
    with path.open("wb") as file:
        for number in range(workload.batches):
            batch = workload.batch(number)
            source = block.Provenance(RECEIVED_AT + number * 4_000_000, [("k1", len(batch))], 7, 0, number)
            end += sum(map(file.write, block.seal(block.encode(batch), len(batch), source)))
            yield end


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Run:
    """One variant in this process."""

    def __init__(self, directory: str, variant: Variant, blocks: BinaryIO) -> None:
        import chdb

        self.blocks = blocks
        # What `logstream clickhouse` configures: pools, caches and the memory limit take part in the result.
        settings = EngineSettings(path=Path(directory, "data"))
        config = Path(directory, "config.xml")
        config.write_text(server_config(settings))
        self.connection = chdb.connect(connection_string(settings.path, config))
        self._token = 0
        self.connection.query("CREATE DATABASE b")
        sql = schema.CREATE_LOGS.replace("{database}", "b")
        for edit in variant.edits:
            sql = edit(sql)
        self.connection.query(sql)
        for statement in (*schema.ADD_INDEXES, *schema.ADD_MINUTE_TIMES):
            if "MATERIALIZE PROJECTION" not in statement and not any(
                f"EXISTS {name} " in statement for name in variant.without
            ):
                self.connection.query(statement.format(database="b"))
        for name, value in {**INSERT_SETTINGS, **variant.inserts}.items():
            self.connection.query(f"SET {name} = '{value}'")

    def one(self, sql: str) -> list[str]:
        """The columns of a single row."""
        return str(self.connection.query(sql, "TSV")).strip().split("\t")

    def insert(self, start: int, stop: int) -> None:
        """One INSERT of the bytes from `start` to `stop` of the file of blocks."""
        self._token += 1
        self.connection.query(f"SET insert_deduplication_token = '7:0:{self._token}'")
        file = os.memfd_create("block")
        try:
            at, end = start, stop
            while at < end:
                at += os.sendfile(file, self.blocks.fileno(), at, end - at)
            self.connection.query(f"INSERT INTO b.logs FROM INFILE '/proc/self/fd/{file}' FORMAT Native")
        finally:
            os.close(file)

    def wait_idle(self) -> float:
        """Until no merge has run for 7 s (the pause between two looks for work is 5 s at first); CPU used."""
        quiet = time.monotonic()
        while time.monotonic() - quiet < QUIET_SECONDS:
            if self.one("SELECT count() FROM system.merges")[0] != "0":
                quiet = time.monotonic()
            time.sleep(0.1)
        return _cpu()

    def sizes(self, table: str, name: str, size: str, rows: int) -> dict[str, float]:
        """Bytes a row by column or index; parts in the compact form keep no sizes of columns."""
        condition = "AND active" if name == "column" else ""
        text = str(
            self.connection.query(
                f"SELECT {name}, round(sum({size}) / {rows}, 2) AS b FROM {table}"
                f" WHERE database = 'b' AND table = 'logs' {condition} GROUP BY 1 ORDER BY b DESC",
                "TSV",
            )
        )
        return {column: float(value) for column, value in (line.split("\t") for line in text.splitlines())}

    def time(self, sql: str) -> float:
        """Median of five, ms, on warm files."""
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            self.connection.query(sql + " SETTINGS use_query_condition_cache = 0, max_threads = 2", "Null")
            times.append(time.perf_counter() - begin)
        return round(sorted(times)[2] * 1000, 1)


def run_variant(name: str, blocks: Path, ends: Sequence[int], chunk: int, queries: bool) -> dict[str, Any]:
    """Insert everything, wait for the merges, ask the queries."""
    rows = len(ends) * 1_000
    with tempfile.TemporaryDirectory(dir=blocks.parent) as directory, blocks.open("rb") as file:
        run = Run(directory, VARIANTS[name], file)
        step = chunk // 1_000
        borders = [0, *ends[step - 1 : -1 : step], ends[-1]]
        begin, clock = _cpu(), time.monotonic()
        for first, last in pairwise(borders):
            run.insert(first, last)
        wall = time.monotonic() - clock
        total = run.wait_idle() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        parts, size, stored = run.one(
            "SELECT count(), sum(bytes_on_disk), sum(rows) FROM system.parts WHERE active AND table = 'logs'"
        )
        assert int(stored) == rows, stored
        events = dict(
            line.split("\t")
            for line in str(run.connection.query("SELECT event, value FROM system.events", "TSV")).splitlines()
        )
        merge_us = int(events.get("MergeExecuteMilliseconds", "0")) * 1000 / rows
        result: dict[str, Any] = {
            "variant": name,
            "rows": rows,
            "chunk": chunk,
            "us_per_row": round(total / rows * 1e6, 2),
            "merge_thread_us": round(merge_us, 2),
            "rewrites": round(int(events.get("MergedRows", "0")) / rows, 2),
            "wall_us": round(wall / rows * 1e6, 2),
            "bytes_per_row": round(int(size) / rows, 1),
            "parts": int(parts),
            "peak_rss_mb": peak,
        }
        if queries:
            token, unique = run.one(
                "SELECT extract(message, 'session:([0-9a-f]+)') AS s, metadata['request'] FROM b.logs"
                " WHERE s != '' LIMIT 1 OFFSET 4321"
            )
            for label, sql in QUERIES.items():
                # Only a function of its own reads a text index; the token filter wants the indexed expression.
                word = "hasAllTokens(message, " if "text index" in name else "hasToken(lower(message), "
                without = VARIANTS[name].without
                common = word if "words" in without or "text index" in name else f"hasToken({schema.WORDS}, "
                pair = "metadata['region'] = 'us-east-1'" if "pairs" in without else "has(pairs, 'region=us-east-1')"
                text = (
                    sql.replace("{t}", "b.logs")
                    .replace("{word}", word)
                    .replace("{common}", common)
                    .replace("{pair}", pair)
                    .replace("{token}", token)
                    .replace("{unique}", unique)
                )
                result[label] = run.time(text)
        result["bytes_by_column"] = run.sizes("system.parts_columns", "column", "column_data_compressed_bytes", rows)
        result["bytes_by_index"] = run.sizes("system.data_skipping_indices", "name", "data_compressed_bytes", rows)
        return result


def main() -> None:
    """Make the blocks once, then run each variant in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=200_000, help="rows of one INSERT")
    parser.add_argument("--only", default="", help="comma-separated variants")
    parser.add_argument("--no-queries", action="store_true")
    parser.add_argument("--directory", help="where the databases are made")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory = options.directory or tempfile.mkdtemp(prefix="logstream-schema-")
    blocks, index = Path(directory, f"{options.rows}.native"), Path(directory, f"{options.rows}.json")
    if options.variant:
        result = run_variant(
            options.variant, blocks, json.loads(index.read_text()), options.chunk, not options.no_queries
        )
        print(json.dumps(result))
        return
    if not index.exists():
        index.write_text(json.dumps(list(write_blocks(blocks, options.rows))))
    for name in options.only.split(",") if options.only else VARIANTS:
        command = [sys.executable, "-m", "benchmarks.schema", *sys.argv[1:], "--directory", directory]
        subprocess.run([*command, "--variant", name], check=True, env=os.environ)


if __name__ == "__main__":
    main()
