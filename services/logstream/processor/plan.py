"""What one INSERT holds: a range of offsets, chosen by looking at headers only, and how it is remembered.

A plan is stored as commit metadata before its INSERT is sent. Whoever resumes the partition sends the very
same rows under the very same token, or finds them stored; nobody ever guesses from what is in the table.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from logstream.bus.header import Header, MalformedRecord, NewerVersion, decode_block
from logstream.bus.protocol import Message
from logstream.clock import NS_PER_SECOND

_DAY_NS = 86_400 * NS_PER_SECOND
_VERSION = 1
_MIN_ROW_BYTES = 21
"""The least that a row takes in a block: one value a column."""


@dataclass(frozen=True, slots=True)
class Item:
    """One bus record to be stored.

    reason: why its bytes cannot be, when they cannot; `header` is then None unless it can be believed.
    newer: they can, by a later version of LogStream.
    """

    offset: int
    value: bytes
    header: Header | None
    payload: memoryview
    reason: str = ""
    newer: bool = False

    @property
    def rows(self) -> int:
        return self.header.rows if self.header else 0

    @property
    def day(self) -> int:
        """UTC day of arrival, counted from the epoch: the table's partition."""
        return self.header.received_at // _DAY_NS if self.header else 0


def item_of(message: Message) -> Item:
    """The record in `message`; never raises for what is in it."""
    nothing = memoryview(b"")
    try:
        header, payload = decode_block(message.value)
    except NewerVersion as error:
        return Item(message.offset, message.value, None, nothing, error.message, newer=True)
    except MalformedRecord as error:
        return Item(message.offset, message.value, None, nothing, error.message)
    if header.rows * _MIN_ROW_BYTES > len(payload):
        # Told before anything is made for so many rows: the number may be damage, too.
        reason = f"the record is cut off: {header.rows} rows cannot be in {len(payload)} bytes"
        return Item(message.offset, message.value, header, nothing, reason)
    return Item(message.offset, message.value, header, payload)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows to be stored by one INSERT: those of the bus records `first` … `last`, or, when `first_row` is set,
    rows `first_row` … `last_row` of the one record `first`."""

    incarnation: int
    partition: int
    first: int
    last: int
    first_row: int | None = None
    last_row: int | None = None

    @property
    def token(self) -> str:
        """The INSERT's deduplication token; the same rows always get the same."""
        token = f"{self.incarnation}:{self.partition}:{self.first}-{self.last}"
        return token if self.first_row is None else f"{token}:{self.first_row}-{self.last_row}"

    def dump(self) -> str:
        """As commit metadata."""
        fields = {"v": _VERSION, "incarnation": self.incarnation, "first": self.first, "last": self.last}
        if self.first_row is not None and self.last_row is not None:
            fields |= {"first_row": self.first_row, "last_row": self.last_row}
        return json.dumps(fields, separators=(",", ":"))


def idle(incarnation: int) -> str:
    """Commit metadata while nothing is planned. The incarnation tells a position of an earlier topic."""
    return json.dumps({"v": _VERSION, "incarnation": incarnation}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Remembered:
    """Commit metadata, read. `incarnation` is None when there was none."""

    incarnation: int | None
    plan: Plan | None


def remembered(metadata: str, partition: int) -> Remembered:
    """What `Plan.dump` or `idle` wrote. Raises ValueError for anything else."""
    if not metadata:
        return Remembered(None, None)
    try:
        fields = json.loads(metadata)
        if fields["v"] != _VERSION:
            raise ValueError(f"version {fields['v']}")
        incarnation = fields["incarnation"]
        if "first" not in fields:
            return Remembered(incarnation, None)
        plan = Plan(
            incarnation, partition, fields["first"], fields["last"], fields.get("first_row"), fields.get("last_row")
        )
        return Remembered(incarnation, plan)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"commit metadata cannot be read: {metadata[:200]!r} ({error})") from error


def choose(items: Sequence[Item], *, max_rows: int, max_bytes: int, max_records: int) -> int:
    """How many of `items`, from the first on, one INSERT shall hold: at least 1 when there are any.

    Within the limits as far as more than one record goes; of one UTC day, because an INSERT over two days
    would be two parts; a record that cannot be stored stands alone.
    """
    rows = size = 0
    for count, item in enumerate(items):
        rows += item.rows
        size += len(item.value)
        if count and (
            count >= max_records
            or rows > max_rows
            or size > max_bytes
            or item.reason
            or items[0].reason
            or item.day != items[0].day
        ):
            return count
    return len(items)
