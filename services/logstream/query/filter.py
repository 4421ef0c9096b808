"""Which lines are asked for: one immutable filter with two printers, SQL for the store and a predicate for the tail.

A property test holds the two to the same answer on the real engine.

Case-insensitive means: an ASCII needle folds ASCII letters only (on bytes, in both printers); any other needle is
compared after Unicode lower-casing (ICU's in the engine, `str.lower` here), with the two forms of a small sigma
taken as one, since which of them lower-casing yields depends on the letters around it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from logstream.record import LEVEL_LABELS, Batch, Record

_LIKE_SPECIAL = re.compile(r"[%_\\]")
_FINAL_SIGMA, _SIGMA = "ς", "σ"


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What a line must be; an empty field asks nothing. Hashable, so that equal filters are evaluated once.

    services: exact names, any of them. levels: `Level` numbers, any of them. search: substring of the message,
    case-insensitive. start, end: nanoseconds since the epoch, both inclusive.
    """

    services: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    search: str = ""
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A boolean SQL expression and the values of its bound parameters."""

    sql: str
    parameters: dict[str, object]


def to_sql(logs: LogFilter) -> Condition:
    """`logs` over the columns of a `logs` table; "1" when it asks nothing. Parameter names begin with "f_"."""
    terms: list[str] = []
    values: dict[str, object] = {}
    if logs.start is not None:
        terms.append("timestamp >= fromUnixTimestamp64Nano({f_start:Int64}, 'UTC')")
        values["f_start"] = logs.start
    if logs.end is not None:
        terms.append("timestamp <= fromUnixTimestamp64Nano({f_end:Int64}, 'UTC')")
        values["f_end"] = logs.end
    if logs.services:
        terms.append("service IN {f_services:Array(String)}")
        values["f_services"] = list(logs.services)
    if logs.levels:
        terms.append("level IN {f_levels:Array(String)}")
        values["f_levels"] = [LEVEL_LABELS[level - 1] for level in logs.levels]
    if logs.search:
        if logs.search.isascii():
            # As LIKE over the index's own expression, whole words inside of the needle let the engine skip granules.
            terms.append("lower(message) LIKE {f_search:String}")
            values["f_search"] = "%" + _LIKE_SPECIAL.sub(r"\\\g<0>", logs.search.lower()) + "%"
        else:
            needle = _fold(logs.search)
            message = "lowerUTF8(message)"
            if _SIGMA in needle:
                message = f"replaceAll({message}, '{_FINAL_SIGMA}', '{_SIGMA}')"
            terms.append(f"position({message}, {{f_search:String}}) > 0")
            values["f_search"] = needle
    return Condition(" AND ".join(terms) or "1", values)


def matches(logs: LogFilter, record: Record) -> bool:
    """Whether `record` is asked for."""
    return bool(select(logs, Batch.of([record])))


def select(logs: LogFilter, batch: Batch) -> Sequence[int]:
    """The row numbers of `batch` that are asked for, ascending."""
    rows: Iterable[int] = range(len(batch))
    if logs.start is not None or logs.end is not None:
        times = batch.timestamps
        low = logs.start if logs.start is not None else -(1 << 63)
        high = logs.end if logs.end is not None else (1 << 63) - 1
        rows = [row for row in rows if low <= times[row] <= high]
    if logs.services:
        services, wanted = batch.services, frozenset(logs.services)
        rows = [row for row in rows if services[row] in wanted]
    if logs.levels:
        levels, accepted = batch.levels, frozenset(logs.levels)
        rows = [row for row in rows if levels[row] in accepted]
    if logs.search:
        messages, contains = batch.messages, _contains(logs.search)
        rows = [row for row in rows if contains(messages[row])]
    return rows if isinstance(rows, list) else range(len(batch))


def _fold(text: str) -> str:
    return text.lower().replace(_FINAL_SIGMA, _SIGMA)


def _contains(search: str) -> Callable[[str], bool]:
    if not search.isascii():
        needle = _fold(search)
        return lambda message: needle in _fold(message)
    ascii_needle = search.lower()
    raw_needle = ascii_needle.encode()
    # bytes.lower folds ASCII only, as the engine does: str.lower would also turn the Kelvin sign into "k".
    return lambda message: (
        ascii_needle in message.lower() if message.isascii() else raw_needle in message.encode().lower()
    )
