"""Lines as a file: the engine makes the format, and its bytes are passed on."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Literal

from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.storage.schema import BUCKET, NEWEST_FIRST
from logstream.storage.store import Store
from logstream.stream import Stream

Order = Literal["any", "asc", "desc"]
FormatName = Literal["ndjson", "csv", "parquet"]

# Sorting by the bucket first reads in order of the key, and sorts no more than the lines of five minutes at a time.
_ORDERS: Mapping[Order, str] = {
    "any": "",
    "asc": f" ORDER BY {BUCKET}, timestamp, partition, offset, row",
    "desc": f" ORDER BY {NEWEST_FIRST}, partition DESC, offset DESC, row DESC",
}


@dataclass(frozen=True, slots=True)
class Format:
    """columns: of the SELECT. name: ClickHouse's. compressible: whether gzip makes it smaller."""

    columns: str
    name: str
    media_type: str
    compressible: bool
    settings: Mapping[str, object]


_TEXT = {
    # Nine digits and Z, made by the format itself: a function that formats the time costs more than all the rest.
    "date_time_output_format": "iso",
    "output_format_json_escape_forward_slashes": 0,
}
FORMATS: Mapping[FormatName, Format] = {
    "ndjson": Format(
        "timestamp, service, level, message, metadata, trace_id, span_id",
        "JSONEachRow",
        "application/x-ndjson",
        True,
        _TEXT,
    ),
    "csv": Format(
        "timestamp, service, level, message, toJSONString(metadata) AS metadata, trace_id, span_id",
        "CSVWithNames",
        "text/csv; charset=utf-8",
        True,
        # The filter means the column, not what is made of it.
        _TEXT | {"prefer_column_name_to_alias": 1},
    ),
    "parquet": Format(
        "timestamp, toString(service) AS service, toString(level) AS level, message, "
        "CAST(metadata, 'Map(String, String)') AS metadata, trace_id, span_id",
        "Parquet",
        "application/vnd.apache.parquet",
        False,
        {
            "prefer_column_name_to_alias": 1,
            # A row group is held in memory until it is written.
            "output_format_parquet_row_group_size": 65_536,
            "output_format_parquet_compression_method": "zstd",
        },
    ),
}


class ExportReader:
    """Raises what `Store.stream` raises, between any two pieces."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits

    def read(self, stream: Stream, logs: LogFilter, *, file: Format, order: Order = "any") -> AsyncGenerator[bytes]:
        """Every line that `logs` asks for, without a limit, as one file in pieces. Close it.

        order: "any" is as stored, which costs no memory; the others hold the lines of five minutes.
        """
        condition = where(logs)
        return self._store.stream(
            f"SELECT {file.columns} FROM {stream.database}.logs WHERE {condition.sql}{_ORDERS[order]}",  # noqa: S608
            condition.parameters,
            fmt=file.name,
            settings={
                # Only what bounds memory holds: a long export is no mistake.
                "max_memory_usage": self._limits.settings["max_memory_usage"],
                "max_block_size": 16_384,
                **file.settings,
            },
        )
