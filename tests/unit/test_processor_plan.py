"""What is on the bus may be anything; what is remembered must fit a commit."""

import pytest

from logstream.bus.header import Header, Segment, encode
from logstream.bus.protocol import Message
from logstream.processor.plan import Plan, choose, idle, item_of, remembered

DAY = 86_400 * 10**9


def value(rows: int = 1, received_at: int = 20_000 * DAY, payload: bytes = bytes(64)) -> bytes:
    return encode(Header(rows, received_at, 0, 0, (Segment("k", rows),)), payload)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"foreign", b"LS", value()[:40], value(received_at=-1), value(received_at=1 << 62), b"\0" * 1000],
)
def test_bytes_that_are_no_record_are_told(damaged: bytes) -> None:
    item = item_of(Message(0, 5, damaged))
    assert item.reason
    assert (item.header, item.newer, item.rows, item.offset) == (None, False, 0, 5)


def test_a_number_of_rows_that_cannot_be_is_damage_but_counts() -> None:
    item = item_of(Message(0, 5, value(rows=2**32 - 1)))
    assert "cut off" in item.reason
    assert item.rows == 2**32 - 1


def test_a_newer_version_is_no_damage() -> None:
    newer = bytearray(value())
    newer[2] = 9
    item = item_of(Message(0, 5, bytes(newer)))
    assert item.newer
    assert "upgrade" in item.reason


def test_what_cannot_be_stored_stands_alone() -> None:
    newer = bytearray(value())
    newer[2] = 9
    values = [value(), value(), b"foreign", b"foreign", value(), bytes(newer)]
    items = [item_of(Message(0, offset * 3, v)) for offset, v in enumerate(values)]
    sizes = []
    while items:
        sizes.append(choose(items, max_rows=100, max_bytes=10_000, max_records=100))
        del items[: sizes[-1]]
    assert sizes == [2, 1, 1, 1, 1]


def test_what_is_remembered_is_small_whatever_it_says() -> None:
    plan = Plan(2**32 - 1, 65_535, 2**63 - 2, 2**63 - 1, 2**32 - 2, 2**32 - 1)
    assert len(plan.dump().encode()) < 256
    assert remembered(plan.dump(), 65_535).plan == plan
    assert remembered(idle(7), 0).incarnation == 7
    assert remembered("", 0).incarnation is None
    for foreign in ("x", "{}", '{"v":2,"incarnation":1}', "[]", "null"):
        with pytest.raises(ValueError, match="cannot be read"):
            remembered(foreign, 0)
