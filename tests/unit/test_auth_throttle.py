"""The throttle of failed attempts."""

import pytest

from logstream.auth.throttle import Throttle, address_subject
from logstream.clock import ManualClock
from logstream.errors import TooMany


def wait_of(throttle: Throttle, subject: str) -> int:
    with pytest.raises(TooMany) as caught:
        throttle.check(subject)
    return caught.value.retry_after


def test_waits_double_up_to_the_cap() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, free=3, first=1, longest=10)
    waits = []
    for attempt in range(9):
        if attempt >= 3:
            waits.append(wait_of(throttle, "ada"))
            clock.advance(waits[-1])
        throttle.check("ada")
        throttle.failed("ada")
    assert waits == [1, 2, 4, 8, 10, 10]


def test_success_and_time_forget() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, free=1, forget=100)
    throttle.failed("ada")
    wait_of(throttle, "ada")
    throttle.succeeded("ada")
    throttle.check("ada")
    throttle.failed("ada")
    clock.advance(101)
    throttle.failed("ada")
    assert wait_of(throttle, "ada") == 1


def test_taking_back_leaves_the_rest() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, free=2)
    attempts = [throttle.failed("ada") for _ in range(3)]
    throttle.take_back(attempts.pop())
    assert wait_of(throttle, "ada") == 1
    clock.advance(1)
    throttle.take_back(throttle.failed("ada"))
    throttle.check("ada")  # an attempt that is taken back starts no new wait
    for attempt in [*attempts, *attempts]:
        throttle.take_back(attempt)
    assert len(throttle) == 0


def test_many_failures_do_not_overflow() -> None:
    throttle = Throttle(ManualClock(), free=1, longest=60)
    for _ in range(5_000):
        throttle.failed("ada")
    assert wait_of(throttle, "ada") == 60


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    throttle = Throttle(ManualClock(), free=1, capacity=100)
    for number in range(1_000):
        throttle.failed(str(number))
    assert len(throttle) == 100
    throttle.check("0")
    wait_of(throttle, "999")


@pytest.mark.parametrize(
    ("host", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, "unknown"),
    ],
)
def test_what_of_an_address_is_counted(host: str | None, subject: str) -> None:
    assert address_subject(host) == subject
