"""What one INSERT holds, and how it is remembered."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.bus.header import Header, Kind, Segment, encode
from logstream.bus.protocol import Message
from logstream.clock import NS_PER_SECOND
from logstream.processor.plan import Item, Plan, choose, idle, item_of, remembered
from logstream.processor.rows import keys_between

DAY_NS = 86_400 * NS_PER_SECOND


def item(offset: int, *, rows: int = 1, size: int = 100, received_at: int = DAY_NS, bad: bool = False) -> Item:
    header = Header(rows, received_at, 0, 0, (Segment("k", rows),))
    return Item(offset, bytes(size), None if bad else header, memoryview(b""), "bad" if bad else "")


def count(items: Sequence[Item], *, max_rows: int = 1000, max_bytes: int = 10**6, max_records: int = 10**6) -> int:
    return choose(items, max_rows=max_rows, max_bytes=max_bytes, max_records=max_records)


items_of_any_kind = st.lists(
    st.builds(
        lambda rows, size, at, bad: item(0, rows=rows, size=size, received_at=at, bad=bad),
        st.integers(0, 300), st.integers(1, 5000), st.integers(0, 3 * DAY_NS), st.integers(0, 9).map(lambda n: n == 0),
    ),
    max_size=30,
)  # fmt: skip


@given(items_of_any_kind, st.integers(1, 500), st.integers(1, 20_000), st.integers(1, 40))
def test_a_plan_is_the_longest_range_within_every_limit(
    items: list[Item], max_rows: int, max_bytes: int, max_records: int
) -> None:
    def fits(n: int) -> bool:
        part = items[:n]
        return n == 1 or (
            n <= max_records
            and sum(i.rows for i in part) <= max_rows
            and sum(len(i.value) for i in part) <= max_bytes
            and len({i.day for i in part}) == 1
            and all(i.header for i in part)
        )

    n = count(items, max_rows=max_rows, max_bytes=max_bytes, max_records=max_records)
    assert n == (0 if not items else max(k for k in range(1, len(items) + 1) if fits(k)))


def test_a_single_record_over_the_limits_is_planned_alone() -> None:
    assert count([item(0, rows=5000), item(1)]) == 1
    assert count([item(0, size=10**7), item(1)]) == 1


def test_a_day_ends_at_midnight_utc() -> None:
    last, first = item(0, received_at=2 * DAY_NS - 1), item(1, received_at=2 * DAY_NS)
    assert count([last, first]) == 1
    assert count([last, last]) == 2
    assert (last.day, first.day) == (1, 2)


def test_bytes_that_are_no_record_stand_alone() -> None:
    assert count([item(0, bad=True), item(1)]) == 1
    assert count([item(0), item(1), item(2, bad=True)]) == 2


@given(
    st.integers(1, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**50), st.integers(0, 2**50),
    st.none() | st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)  # fmt: skip
def test_a_plan_is_remembered_whole(
    incarnation: int, partition: int, first: int, last: int, rows: tuple[int, int] | None
) -> None:
    plan = Plan(incarnation, partition, first, last, *(rows or (None, None)))
    memory = remembered(plan.dump(), partition)
    assert (memory.incarnation, memory.plan) == (incarnation, plan)
    assert len(plan.dump()) < 4096


def test_tokens_tell_all_ranges_apart() -> None:
    plans = [
        Plan(1, 0, 0, 9), Plan(2, 0, 0, 9), Plan(1, 1, 0, 9), Plan(1, 0, 0, 8), Plan(1, 0, 9, 9),
        Plan(1, 0, 9, 9, 0, 4), Plan(1, 0, 9, 9, 0, 5), Plan(1, 0, 9, 9, 5, 5),
    ]  # fmt: skip
    assert len({plan.token for plan in plans}) == len(plans)
    assert Plan(7, 3, 5, 6).token == "7:3:5-6"


def test_nothing_planned_is_remembered_too() -> None:
    memory = remembered(idle(5), 0)
    assert (memory.incarnation, memory.plan) == (5, None)
    assert remembered("", 0).incarnation is None


@pytest.mark.parametrize(
    "metadata", ["x", "[]", "{}", '{"v":2,"incarnation":1}', '{"v":1}', '{"v":1,"incarnation":1,"first":1}']
)
def test_other_metadata_is_refused(metadata: str) -> None:
    with pytest.raises(ValueError, match="commit metadata"):
        remembered(metadata, 0)


def test_a_message_becomes_an_item_whatever_it_holds() -> None:
    header = Header(2, DAY_NS, 0, 0, (Segment("k", 2),))
    good = item_of(Message(0, 7, encode(header, b"body" * 20)))
    assert (good.offset, good.header, good.payload, good.rows, good.reason) == (7, header, b"body" * 20, 2, "")
    letter = Header(1, 0, 0, 0, (Segment("k", 1),), kind=Kind.DEAD_LETTER)
    for value in (b"", b"rubbish", encode(letter, b"{}")):
        bad = item_of(Message(0, 8, value))
        assert (bad.offset, bad.header, bad.rows, bad.value) == (8, None, 0, value)
        assert bad.reason


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=6), st.data())
def test_keys_between_are_those_of_the_rows(pairs: list[tuple[str, int]], data: st.DataObject) -> None:
    owners = [key for key, rows in pairs for _ in range(rows)]
    first = data.draw(st.integers(0, max(0, len(owners) - 1)))
    last = data.draw(st.integers(first, max(first, len(owners) - 1)))
    keys = keys_between([Segment(*pair) for pair in pairs], first, last)
    assert [key for key, rows in keys for _ in range(rows)] == owners[first : last + 1]
