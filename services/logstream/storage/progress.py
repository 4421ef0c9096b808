"""What a read's statements have cost so far, found in the engine by a tag in their text.

The tag is the value of a parameter that nothing asks for, in a SETTINGS clause at the end: the engine shows it where a
running statement can be seen (`system.processes.query`), behind a UNION, a WITH and an EXPLAIN alike. A comment would
be lost: a statement with bound parameters is shown as the engine prints it. A setting of the request would change from
one read to the next, which the embedded engine pays for, and a query id is one statement's only.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from clickhouse_connect.driver.exceptions import ClickHouseError

from logstream.storage.errors import over_limit

_MARK = "param_read = "
# As the engine prints it. A quote within a value is escaped there, so that no value can look like a tag.
_TAG = re.compile(rf"{_MARK}'([0-9a-f]{{16}})'")
# By default a statement is shown to its first 100,000 bytes, and a bound value as often as it is used.
_SHOWN_BYTES = 10_000_000

RUNNING = (
    "SELECT right(query, 1000), read_rows, total_rows_approx, read_bytes, peak_memory_usage "  # noqa: S608
    f"FROM system.processes WHERE is_initial_query AND position(query, '{_MARK}') > 0"
)
"""Every tagged statement that runs now, as rows for `progress`; of the text no more than its end.

What other servers of a cluster do for a statement is counted with it where it was asked."""


@dataclass(slots=True)
class Cost:
    """Of one read. Rows and (uncompressed) bytes of the statements that have ended.

    abandoned: nobody waited for the end of a statement, so that the engine may still be at work on it.
    """

    tag: str = field(default_factory=lambda: secrets.token_hex(8))
    rows_read: int = 0
    bytes_read: int = 0
    abandoned: bool = False

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Around a statement's answer."""
        try:
            yield
        except ClickHouseError:
            raise
        except BaseException:
            self.abandoned = True
            raise

    def add(self, summary: Mapping[str, str], limits: Mapping[str, object]) -> None:
        """Count a statement that ended; summary: its X-ClickHouse-Summary.

        limits: the statement's settings. The engine holds each statement to them; here they hold for all of the read
        together. Raises TooExpensive.
        """
        self.rows_read += int(summary.get("read_rows", 0))
        self.bytes_read += int(summary.get("read_bytes", 0))
        if (expensive := over_limit(self.rows_read, self.bytes_read, limits)) is not None:
            raise expensive


COST: ContextVar[Cost | None] = ContextVar("cost", default=None)
"""Of the read that is running in this context; None for what LogStream asks on its own behalf."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A statement under way. rows_total: as the engine estimates it, 0 while it cannot. memory: the most bytes held
    at once.
    """

    rows_read: int = 0
    rows_total: int = 0
    bytes_read: int = 0
    memory: int = 0

    def plus(self, more: "Progress") -> "Progress":
        return Progress(
            self.rows_read + more.rows_read,
            self.rows_total + more.rows_total,
            self.bytes_read + more.bytes_read,
            self.memory + more.memory,
        )


def tagged(sql: str, cost: Cost | None) -> str:
    """`sql`, marked as a statement of the read. It may end in a SETTINGS clause, but not in FORMAT."""
    # On a line of its own: the last one may end in a comment.
    return sql if cost is None else f"{sql}\nSETTINGS log_queries_cut_to_length = {_SHOWN_BYTES}, {_MARK}'{cost.tag}'"


def kill(tag: str) -> str:
    """The statement that ends every other statement with this tag."""
    if not re.fullmatch("[0-9a-f]{16}", tag):
        raise ValueError(f"not a tag: {tag!r}")
    return f"KILL QUERY WHERE position(query, '{_MARK}\\'{tag}\\'') > 0 ASYNC"


def progress(rows: Iterable[tuple[str, int, int, int, int]]) -> dict[str, Progress]:
    """The rows of `RUNNING` by tag; statements of one read are added up."""
    found: dict[str, Progress] = {}
    for query, *numbers in rows:
        match = _TAG.search(query)
        if match is not None:
            found[match[1]] = found.get(match[1], Progress()).plus(Progress(*numbers))
    return found


def added(answers: Iterable[dict[str, Progress]]) -> dict[str, Progress]:
    """What several servers tell, by tag."""
    found: dict[str, Progress] = {}
    for answer in answers:
        for tag, more in answer.items():
            found[tag] = found.get(tag, Progress()).plus(more)
    return found
