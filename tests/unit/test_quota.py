"""Quotas on a clock that moves when told to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.auth.principal import Principal, Quota, Scope
from logstream.auth.quota import QuotaLimiter, Usage
from logstream.auth.streams import StreamInfo
from logstream.clock import ManualClock
from logstream.errors import TooMany
from logstream.stream import make_stream


def caller(records: float | None = None, bytes_: float | None = None, key_id: str = "k") -> Principal:
    return Principal("key", key_id, "k", frozenset({Scope.INGEST}), quota=Quota(records, bytes_))


def test_without_a_quota_nothing_is_kept_or_refused() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(), records=10**9, bytes_=10**12)
    assert len(limiter) == 0


def test_a_burst_of_two_seconds_then_the_rate() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    for _ in range(20):
        limiter.charge(caller(10), records=1, bytes_=1)
    with pytest.raises(TooMany) as caught:
        limiter.charge(caller(10), records=1, bytes_=1)
    assert (caught.value.field, caught.value.limit, caught.value.retry_after) == ("records_per_second", 10, 1)
    clock.advance(0.1)
    limiter.charge(caller(10), records=1, bytes_=1)
    with pytest.raises(TooMany):
        limiter.charge(caller(10), records=1, bytes_=1)


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    limiter.charge(caller(None, 100), records=1, bytes_=1_100)
    with pytest.raises(TooMany) as caught:
        limiter.charge(caller(None, 100), records=1, bytes_=150)
    assert caught.value.retry_after == 11  # 900 of debt and 150 more, at 100 a second
    clock.advance(caught.value.retry_after)
    limiter.charge(caller(None, 100), records=1, bytes_=150)


def test_more_than_the_burst_needs_a_full_bucket() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    limiter.charge(caller(10), records=1, bytes_=0)
    with pytest.raises(TooMany):
        limiter.charge(caller(10), records=1000, bytes_=0)
    clock.advance(0.1)
    limiter.charge(caller(10), records=1000, bytes_=0)


def test_both_are_charged_or_neither() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(10, 10), records=0, bytes_=20)
    with pytest.raises(TooMany, match="10 bytes per second"):
        limiter.charge(caller(10, 10), records=20, bytes_=1)
    limiter.charge(caller(10, 10), records=20, bytes_=0)


def test_a_changed_quota_holds_at_once() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(1000), records=1, bytes_=0)
    limiter.charge(caller(1), records=2, bytes_=0)
    with pytest.raises(TooMany):
        limiter.charge(caller(1), records=1, bytes_=0)
    limiter.charge(caller(None), records=10**6, bytes_=0)


def test_keys_do_not_share_a_bucket() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(1, key_id="a"), records=2, bytes_=0)
    limiter.charge(caller(1, key_id="b"), records=2, bytes_=0)


def test_a_refund_gives_back() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(1), records=2, bytes_=0)
    limiter.refund(caller(1), records=2, bytes_=0)
    limiter.charge(caller(1), records=2, bytes_=0)
    limiter.refund(caller(1, key_id="never seen"), records=2, bytes_=0)


def test_memory_is_bounded_by_the_keys_in_use() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    for number in range(20_000):
        limiter.charge(caller(1, key_id=str(number)), records=1, bytes_=0)
        clock.advance(0.01)
    assert len(limiter) <= 1024


@given(
    st.floats(0.01, 1e6),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 10)), max_size=60),
)
def test_never_more_than_rate_and_burst_and_one_request(rate: float, steps: list[tuple[int, float]]) -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    taken, largest = 0, 0
    for amount, pause in steps:
        clock.advance(pause)
        try:
            limiter.charge(caller(rate), records=amount, bytes_=0)
        except TooMany as refused:
            clock.advance(refused.retry_after)
            limiter.charge(caller(rate), records=amount, bytes_=0)
        taken += amount
        largest = max(largest, amount)
        assert taken <= (rate * (2 + clock.monotonic()) + largest) * (1 + 1e-6)


def stream(records: float | None = None, bytes_: float | None = None, name: str = "default") -> StreamInfo:
    return StreamInfo(make_stream(name), 30, quota=Quota(records, bytes_))


def test_a_stream_has_a_quota_of_its_own_beside_those_of_its_keys() -> None:
    limiter = QuotaLimiter(ManualClock())
    limiter.charge(caller(10, key_id="a"), records=15, bytes_=0, stream=stream(10))
    with pytest.raises(TooMany, match="quota of this stream is 10 records per second"):
        limiter.charge(caller(key_id="b"), records=10, bytes_=0, stream=stream(10))
    limiter.charge(caller(key_id="b"), records=10, bytes_=0, stream=stream(10, name="other"))
    with pytest.raises(TooMany, match="quota of this key is 10 records per second"):
        limiter.charge(caller(10, key_id="a"), records=10, bytes_=0, stream=stream(100, name="third"))
    # What the key's bucket refused was not taken from the stream's.
    limiter.charge(caller(key_id="b"), records=200, bytes_=0, stream=stream(100, name="third"))


def test_a_refund_gives_back_to_both() -> None:
    limiter = QuotaLimiter(ManualClock())
    for _ in range(3):
        limiter.charge(caller(10), records=20, bytes_=7, stream=stream(10, 10))
        limiter.refund(caller(10), records=20, bytes_=7, stream=stream(10, 10))


def test_what_others_used_is_taken_too() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    limiter.heard("k", Usage(Quota(10, None), 20))
    with pytest.raises(TooMany) as refused:
        limiter.charge(caller(10), records=5, bytes_=0)
    assert refused.value.retry_after == 1
    limiter.heard("k", Usage(Quota(10, None), 20))
    clock.advance(2)
    with pytest.raises(TooMany):
        limiter.charge(caller(10), records=5, bytes_=0)
    clock.advance(0.5)
    limiter.charge(caller(10), records=5, bytes_=0)
