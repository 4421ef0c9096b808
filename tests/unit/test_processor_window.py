"""Which records are repeats: decided by records alone, however they are cut into ranges."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.bus.header import NO_KEY, Header, Segment, encode
from logstream.bus.protocol import Claimed, Message
from logstream.processor.plan import Item, item_of
from logstream.processor.window import ClaimWindow

SECOND = 10**9
WINDOW = 600.0
BASE = 1_700_000_000 * SECOND
PAYLOAD = bytes(64)


def item(offset: int, key: int, at: float, body: int = 1) -> Item:
    """key 0: none. at: seconds after the start."""
    header = Header(
        1, BASE + int(at * SECOND), 0, 0, (Segment("k", 1),),
        idempotency_key=bytes([key]) * 16, fingerprint=bytes([body]) * 16,
    )  # fmt: skip
    return item_of(Message(0, offset, encode(header, PAYLOAD)))


def dropped(items: Sequence[Item], cuts: Sequence[int] = (), *, limit: int = 1000) -> frozenset[int]:
    """Offsets of repeats, the items taken range by range."""
    window = ClaimWindow(WINDOW, limit)
    found: frozenset[int] = frozenset()
    for first, last in zip((0, *cuts), (*cuts, len(items)), strict=True):
        decision = window.decide(items[first:last])
        # A plan that is halved or resumed decides again, and the same.
        assert window.decide(items[first:last]) == decision
        window.add(decision.claims)
        found |= decision.dropped
    return found


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2)])
def test_a_repeat_within_the_window_is_dropped(cuts: Sequence[int]) -> None:
    assert dropped([item(3, 7, 0), item(9, 7, 599), item(10, 7, 600)], cuts) == {9}


def test_the_window_counts_from_the_record_that_was_kept() -> None:
    assert dropped([item(0, 7, 0), item(1, 7, 500), item(2, 7, 700), item(3, 7, 1200)]) == {1, 3}


def test_another_body_another_key_or_none_is_kept() -> None:
    assert not dropped([item(0, 7, 0), item(1, 7, 1, body=2), item(2, 8, 1), item(3, 0, 1), item(4, 0, 1)])
    without = Header(1, BASE, 0, 0, (Segment("k", 1),), idempotency_key=b"k" * 16)
    assert without.fingerprint == NO_KEY
    value = encode(without, PAYLOAD)
    assert not dropped([item_of(Message(0, i, value)) for i in range(2)])


def test_a_damaged_record_claims_nothing() -> None:
    damaged = Item(0, b"", item(0, 7, 0).header, memoryview(b""), "cut off")
    assert not dropped([damaged, item(1, 7, 1)])
    assert not dropped([item(0, 7, 0), Item(1, b"", item(1, 7, 1).header, memoryview(b""), "cut off")])


def test_the_clock_of_another_collector_may_be_behind() -> None:
    assert dropped([item(0, 7, 100), item(1, 7, 20)]) == {1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 400)), max_size=30), st.randoms())
def test_ranges_and_rebuilding_make_no_difference(rows: list[tuple[int, int, int]], rng: random.Random) -> None:
    at = 0
    items = []
    for offset, (key, body, step) in enumerate(rows):
        at += step
        items.append(item(offset, key, at, body + 1))
    whole = dropped(items)
    cuts = sorted(rng.sample(range(1, len(items)), rng.randrange(len(items)))) if items else []
    assert dropped(items, cuts) == whole
    # Another member rebuilds the window from what was recorded, at any cut.
    for cut in cuts:
        window = ClaimWindow(WINDOW, 1000)
        claims = list(ClaimWindow(WINDOW, 1000).decide(items[:cut]).claims)
        recorded = recorded_claims(items[:cut])
        since = window.since(items[cut].header.received_at)  # type: ignore[union-attr]
        window.add([claim for claim in recorded if claim.received_at >= since])
        assert window.decide(items[cut:]).dropped == {offset for offset in whole if offset >= cut}
        assert len(claims) <= len(recorded)


def recorded_claims(items: Sequence[Item]) -> list[Claimed]:
    window = ClaimWindow(WINDOW, 1000)
    found: list[Claimed] = []
    for one in items:
        decision = window.decide([one])
        window.add(decision.claims)
        found += decision.claims
    return found


def test_memory_is_bounded_by_number_and_by_time() -> None:
    window = ClaimWindow(WINDOW, 10)
    for i in range(200):
        window.add([Claimed(i.to_bytes(16, "big"), b"f" * 16, BASE + i)])
        assert len(window) <= 10
    window = ClaimWindow(WINDOW, 1000)
    for i in range(200):
        window.add([Claimed(i.to_bytes(16, "big"), b"f" * 16, BASE + int(i * 60 * SECOND))])
    assert len(window) <= 22
