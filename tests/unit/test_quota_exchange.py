"""The bound of quotas that several collectors share: simulated collectors, messages that take time, on one clock."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logstream.auth.exchange import AWAY_SECONDS, MEMBER_SECONDS, QuotaExchange, _decode
from logstream.auth.principal import Principal, Quota, Scope
from logstream.auth.quota import BURST_SECONDS, QuotaLimiter
from logstream.auth.signals import MAX_PAYLOAD
from logstream.clock import ManualClock
from logstream.errors import TooMany

TICK = 0.25
REPORT_TICKS = 2


def caller(rate: float, key_id: str = "k") -> Principal:
    return Principal("key", key_id, "k", frozenset({Scope.INGEST}), quota=Quota(rate, None))


@dataclass
class World:
    """So many collectors; `delay`: seconds a message takes. cut: who neither sends nor hears."""

    count: int
    delay: float = 0.0
    clock: ManualClock = field(default_factory=ManualClock)
    cut: set[int] = field(default_factory=set)
    ticks: int = 0

    def __post_init__(self) -> None:
        self.limiters = [QuotaLimiter(self.clock) for _ in range(self.count)]
        self.exchanges = [QuotaExchange(limiter, self.clock) for limiter in self.limiters]
        self.under_way: list[tuple[float, str]] = []

    def tick(self) -> None:
        """A quarter of a second: what has arrived is heard, everybody checks, and reports every half second."""
        self.clock.advance(TICK)
        self.ticks += 1
        now = self.clock.monotonic()
        arrived = [message for at, message in self.under_way if at <= now]
        self.under_way = [(at, message) for at, message in self.under_way if at > now]
        for message in arrived:
            for number, exchange in enumerate(self.exchanges):
                if number not in self.cut:
                    exchange.hear(message)
        for number, exchange in enumerate(self.exchanges):
            exchange.check()
            if self.ticks % REPORT_TICKS == 0 and number not in self.cut:
                self.under_way += [(now + self.delay, message) for message in exchange.reports()]

    def take(self, number: int, rate: float, amount: int) -> int:
        """What a request of `amount` at a collector comes to: all or nothing."""
        try:
            self.limiters[number].charge(caller(rate), records=amount, bytes_=0)
        except TooMany:
            return 0
        return amount

    def settle(self) -> None:
        for _ in range(int(6 / TICK)):
            self.tick()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 6),
    delay=st.sampled_from([0.0, 0.2, 0.5, 0.7]),
    rate=st.sampled_from([10.0, 1000.0]),
    greedy=st.sets(st.integers(0, 5)),
    ticks=st.integers(8, 60),
    seed=st.integers(0, 10**6),
)
@example(count=4, delay=0.7, rate=1000.0, greedy={0, 1, 2, 3}, ticks=60, seed=1)
def test_no_window_lets_through_more_than_the_bound(
    count: int, delay: float, rate: float, greedy: set[int], ticks: int, seed: int
) -> None:
    """greedy: collectors whose senders ask for more all the time; seed: of requests of all sizes besides."""
    world = World(count, delay)
    world.settle()
    history: list[tuple[float, int]] = []
    largest = 0
    chance = random.Random(seed)
    for _ in range(ticks):
        for _ in range(chance.randrange(4)):
            amount = max(1, int(rate * chance.uniform(0, 2.5)))
            largest = max(largest, amount)
            history.append((world.clock.monotonic(), world.take(chance.randrange(count), rate, amount)))
        for number in {number % count for number in greedy}:
            while taken := world.take(number, rate, int(rate / 10)):
                history.append((world.clock.monotonic(), taken))
        world.tick()
    # Reported half a second later at most, then under way, then heard at a tick.
    seconds = REPORT_TICKS * TICK + delay + TICK
    burst = BURST_SECONDS * rate
    for first, (start, _) in enumerate(history):
        total = 0
        for at, amount in history[first:]:
            total += amount
            bound = rate * (at - start) + count * burst + (count - 1) * rate * seconds
            bound += count * max(0.0, largest - burst) + count * 0.002 * rate
            assert total <= bound * (1 + 1e-9)
    assert not any(exchange.away for exchange in world.exchanges)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_in_the_long_run_it_is_the_quota_and_all_of_it(count: int) -> None:
    world = World(count, delay=0.1)
    world.settle()
    total = 0
    for _ in range(int(200 / TICK)):
        total += sum(world.take(number, 100, 5) for number in range(count) for _ in range(20))
        world.tick()
    assert 100 * 200 * 0.95 <= total <= 100 * 200 + 200 * count + 100 * count


def test_one_busy_collector_has_the_whole_quota() -> None:
    world = World(4)
    world.settle()
    total = 0
    for _ in range(int(100 / TICK)):
        total += sum(world.take(0, 100, 5) for _ in range(20))
        world.tick()
    assert total >= 100 * 100


def test_while_the_exchange_is_away_each_takes_its_part() -> None:
    world = World(4)
    world.settle()
    assert [exchange.collectors for exchange in world.exchanges] == [4] * 4
    world.cut = {0, 1, 2, 3}
    for _ in range(int((AWAY_SECONDS + 1) / TICK)):
        world.tick()
    assert all(exchange.away for exchange in world.exchanges)
    total = 0
    for _ in range(int(100 / TICK)):
        total += sum(world.take(number, 100, 1) for number in range(4) for _ in range(60))
        world.tick()
    assert 0.95 * 100 * 100 <= total <= 100 * 100 + BURST_SECONDS * 100
    # Back again: nobody pays for what was everybody's own part.
    world.cut = set()
    world.settle()
    assert not any(exchange.away for exchange in world.exchanges)
    assert [exchange.collectors for exchange in world.exchanges] == [4] * 4
    assert world.take(0, 100, 200) == 200


def test_with_some_cut_off_it_is_less_than_twice_the_quota() -> None:
    world = World(4)
    world.settle()
    world.cut = {0, 1, 2}
    world.settle()
    total = 0
    for _ in range(int(100 / TICK)):
        total += sum(world.take(number, 100, 1) for number in range(4) for _ in range(60))
        world.tick()
    assert total <= (1 + 3 / 4) * 100 * 100 + 4 * BURST_SECONDS * 100


def test_flapping_does_not_forget_what_was_let_through() -> None:
    world = World(2, delay=0.1)
    world.settle()
    total, seconds = 0, 120
    for number in range(int(seconds / TICK)):
        world.cut = {1} if number % 8 in (0, 1, 2, 3) else set()
        total += sum(world.take(collector, 100, 5) for collector in (0, 1) for _ in range(60))
        world.tick()
    # Cut for a second of every two, which is never long enough to be away: all of it is charged in the end.
    assert total <= 100 * seconds + 2 * BURST_SECONDS * 100 + 100 * 3


def test_who_stops_is_no_longer_counted() -> None:
    world = World(3)
    world.settle()
    gone = world.exchanges.pop()
    for _ in range(int((MEMBER_SECONDS + 1) / TICK)):
        world.tick()
    assert [exchange.collectors for exchange in world.exchanges] == [2, 2]
    assert gone.collectors == 3


def test_messages_fit_and_say_all() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    exchange = QuotaExchange(limiter, clock)
    for number in range(1000):
        limiter.charge(caller(10, f"key{number:09}"), records=number % 20, bytes_=7)
    limiter.refund(caller(10, "key000000003"), records=5, bytes_=7)
    messages = list(exchange.reports())
    assert 1 < len(messages) < 20
    assert all(len(message.encode()) <= MAX_PAYLOAD for message in messages)
    found = {subject: usage for message in messages for subject, usage in _decode(message)[2]}
    assert len(found) == 1000
    assert (found["key000000013"].records, found["key000000013"].bytes_) == (13, 7)
    assert found["key000000003"].records == -2
    assert list(exchange.reports()) == [], "nothing new, and it was there a moment ago"


def test_what_could_not_be_sent_is_sent_again() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    exchange = QuotaExchange(limiter, clock)
    limiter.charge(caller(10), records=7, bytes_=0)
    reports = exchange.reports()
    next(reports)
    reports.close()
    (again,) = exchange.reports()
    assert _decode(again)[2][0][1].records == 7


def test_what_waits_does_not_grow_while_nothing_can_be_sent() -> None:
    clock = ManualClock()
    limiter = QuotaLimiter(clock)
    exchange = QuotaExchange(limiter, clock)
    limiter.charge(caller(10), records=7, bytes_=0)
    for _ in range(3600):
        clock.advance(1)
        exchange.check()
        reports = exchange.reports()
        next(reports)
        reports.close()
    assert exchange.away
    # Whoever comes back is heard at once, not behind an hour of messages that say nothing.
    assert len(list(exchange.reports())) == 1


@pytest.mark.parametrize(
    "foreign", ["", "x", "a b", "a 1\nk", "a 1\nk 1 2 0 -", "a 1\nk 1 2 nan -", "a 1\nk x 2 1 -", "\0", "a 1 2"]
)
def test_foreign_messages_are_left_alone(foreign: str) -> None:
    limiter = QuotaLimiter(ManualClock())
    exchange = QuotaExchange(limiter, ManualClock())
    exchange.hear(foreign)
    assert (len(limiter), exchange.collectors) == (0, 1)
