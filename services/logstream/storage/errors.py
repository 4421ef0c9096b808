"""What ClickHouse's refusals mean: retry, never, or ask for less.

Numbers and names are ClickHouse's own (`src/Common/ErrorCodes.cpp`); a test holds the names against the engine.

An insert is refused for good only for a code that says the *rows* are at fault. Every other code, one that is
not known here included, means "try again": a stream that stands still is visible and loses nothing, while a
wrong "never" would send accepted records to the dead letters.
"""

from collections.abc import Mapping

import aiohttp
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, OperationalError

from logstream.errors import LogStreamError, StoreRefused, StoreUnavailable, TooExpensive, TooLarge

REFUSED: dict[int, str] = {
    6: "CANNOT_PARSE_TEXT",
    9: "SIZES_OF_COLUMNS_DOESNT_MATCH",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    33: "CANNOT_READ_ALL_DATA",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    42: "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
    # A Native block names its types: with an INSERT statement that never changes, this, 42 and 62 mean a damaged block.
    50: "UNKNOWN_TYPE",
    53: "TYPE_MISMATCH",
    62: "SYNTAX_ERROR",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    108: "NO_DATA_TO_INSERT",
    117: "INCORRECT_DATA",
    128: "TOO_LARGE_ARRAY_SIZE",
    130: "CANNOT_READ_ARRAY_FROM_TEXT",
    131: "TOO_LARGE_STRING_SIZE",
    190: "SIZES_OF_ARRAYS_DONT_MATCH",
    261: "UNKNOWN_BLOCK_INFO_FIELD",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    407: "DECIMAL_OVERFLOW",
    441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
}
"""Codes of an INSERT that say its rows can never be stored."""

TOO_MUCH: dict[int, str] = {158: "TOO_MANY_ROWS", 307: "TOO_MANY_BYTES", 396: "TOO_MANY_ROWS_OR_BYTES"}
"""Codes of a statement whose answer is larger than `max_result_bytes`."""

AWAY: dict[int, str] = {
    198: "DNS_ERROR",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    279: "ALL_CONNECTION_TRIES_FAILED",
    289: "REPLICA_IS_NOT_IN_QUORUM",
    369: "ALL_REPLICAS_ARE_STALE",
    439: "CANNOT_SCHEDULE_TASK",
    519: "NO_REMOTE_SHARD_AVAILABLE",
    999: "KEEPER_EXCEPTION",
}
"""Codes that say this replica cannot work now (its Keeper session is lost, its disk full …): another one may."""

CREDENTIALS: dict[int, str] = {
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    516: "AUTHENTICATION_FAILED",
}
"""Codes of user and password, whatever the statement."""

BUSY: dict[int, str] = {
    **AWAY,
    **CREDENTIALS,
    3: "UNEXPECTED_END_OF_FILE",
    74: "CANNOT_READ_FROM_FILE_DESCRIPTOR",
    75: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
    76: "CANNOT_OPEN_FILE",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    173: "CANNOT_ALLOCATE_MEMORY",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    252: "TOO_MANY_PARTS",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    341: "UNFINISHED",
    394: "QUERY_WAS_CANCELLED",
    473: "DEADLOCK_AVOIDED",
    517: "CANNOT_ASSIGN_ALTER",
}
"""Codes of a statement that is not at fault: they pass by themselves, or when what is about the server is mended."""

# (codes, words of the message, the setting, the limit's name in the answer, what the read did)
_EXPENSIVE: tuple[tuple[frozenset[int], str, str, str, str], ...] = (
    (
        frozenset({159, 160}), "", "max_execution_time", "timeout",
        "takes longer than {:g} s: narrow the time range or the filter",
    ),
    (
        frozenset({158}), "GROUP BY", "max_rows_to_group_by", "groups",
        "makes more than {} groups: group by fewer fields, or narrow the time range",
    ),
    (
        frozenset({158}), "max_rows_to_read", "max_rows_to_read", "rows_read",
        "has to look at more than {} rows: narrow the time range or the filter",
    ),
    (
        frozenset({158}), "rows or bytes to read", "max_rows_to_read", "rows_read",
        "has to look at more than {} rows: narrow the time range or the filter",
    ),
    (
        frozenset({307}), "rows or bytes to read", "max_bytes_to_read", "bytes_read",
        "has to look at more than {} bytes: narrow the time range or the filter",
    ),
    (
        frozenset({241}), "Query memory limit", "max_memory_usage", "memory",
        "needs more than {} bytes of memory: narrow the time range, or group and sort by less",
    ),
)  # fmt: skip


def _code(error: ClickHouseError) -> int:
    return (error.code or 0) if isinstance(error, Error) else 0


def is_away(error: ClickHouseError) -> bool:
    """Whether it speaks of the server (no connection, 503, a code of `AWAY`), so that another one may do better."""
    code = _code(error)
    return code in AWAY or (code == 0 and isinstance(error, OperationalError))


def is_credentials(error: ClickHouseError) -> bool:
    return _code(error) in CREDENTIALS


def never_sent(error: ClickHouseError) -> bool:
    """Whether there was not even a connection: then it is sure that the statement did nothing."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def insert_error(error: ClickHouseError) -> StoreUnavailable | StoreRefused:
    """What a failed INSERT means."""
    code = _code(error)
    if code in REFUSED:
        return StoreRefused(f"ClickHouse refused the rows: {error}", clickhouse_code=code)
    return StoreUnavailable(f"ClickHouse did not take the insert: {error}")


def query_error(error: ClickHouseError, limits: Mapping[str, object] | None = None) -> LogStreamError:
    """What a failed statement means: StoreUnavailable when it may work later, TooLarge when its answer exceeds
    the limit, StoreRefused for everything else (the statement is wrong).

    limits: the settings of somebody's read; then what exceeds one of them is TooExpensive, which asking again does
    not cure. What LogStream asks on its own behalf stays StoreUnavailable: it has no other way than to ask again.
    """
    code = _code(error)
    if limits is not None and (expensive := _too_expensive(code, str(error), limits)) is not None:
        return expensive
    if code in TOO_MUCH:
        limit = (limits or {}).get("max_result_bytes")
        return TooLarge(
            "the answer is larger than the store's max_result_bytes; ask for less",
            field="limit",
            limit=limit if isinstance(limit, int) else None,
        )
    if code in BUSY or code == 0 or isinstance(error, OperationalError):
        return StoreUnavailable(f"ClickHouse cannot answer now: {error}")
    return StoreRefused(f"ClickHouse refused the statement: {error}", clickhouse_code=code)


def over_limit(rows_read: int, bytes_read: int, limits: Mapping[str, object]) -> TooExpensive | None:
    """What it means that all statements of a read together have read so much; `limits`: as above, of each of them."""
    for setting, amount in (("max_rows_to_read", rows_read), ("max_bytes_to_read", bytes_read)):
        limit = limits.get(setting)
        if isinstance(limit, int) and amount > limit:
            _, _, _, field, does = next(row for row in _EXPENSIVE if row[2] == setting)
            return TooExpensive(f"the read {does.format(limit)}", field=field, limit=limit)
    return None


def _too_expensive(code: int, text: str, limits: Mapping[str, object]) -> TooExpensive | None:
    for codes, words, setting, field, does in _EXPENSIVE:
        limit = limits.get(setting)
        if code in codes and words in text and isinstance(limit, int | float):
            return TooExpensive(f"the read {does.format(limit)}", field=field, limit=limit)
    return None
