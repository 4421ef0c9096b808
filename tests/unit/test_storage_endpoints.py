"""Which server is asked: addresses as they are set, rests after failures, and what is told of health."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.metrics import STORE_REPLICA_FAILURES, STORE_REPLICA_UP
from logstream.storage.endpoints import MAX_REST_SECONDS, Address, Endpoint, Shard, addresses


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shard(time: Time, *names: str) -> Shard:
    return Shard([Endpoint(Address("http", name, 8123), time) for name in names])


def asked(shard: Shard) -> str:
    return shard.choose().address.host


A, B, C = (Address("http", host, 8123) for host in "abc")


@pytest.mark.parametrize(
    ("setting", "shards"),
    [
        ("http://a:8123", [[A]]),
        ("http://a, http://b:8123", [[A, B]]),
        ("http://a,http://b;http://c", [[A, B], [C]]),
        ('["http://a", "http://b"]', [[A, B]]),
        ('[["http://a", "http://b"], ["http://c"]]', [[A, B], [C]]),
        ("https://a/clickhouse/", [[Address("https", "a", 8443, "/clickhouse")]]),
        ("http://[::1]:9", [[Address("http", "::1", 9)]]),
    ],
)
def test_addresses_are_replicas_by_shard(setting: str, shards: list[list[Address]]) -> None:
    assert addresses(setting) == shards


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("", "http://HOST"),
        ("a:8123", "http://HOST"),
        ("http://a,", "http://HOST"),
        ("tcp://a:9000", "http://HOST"),
        ("http://a:99999", "cannot be read"),
        ("http://a,http://a:8123", "twice"),
        ("http://a,https://b", "mixes"),
        ("[1]", "list of URLs"),
        ("[]", "list of URLs"),
        ("[[]]", "list of URLs"),
        ('["http://a"', "JSON"),
        ('[["http://a"], "http://b"]', "list of URLs"),
    ],
)
def test_what_is_no_address_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as refused:
        addresses(setting)
    assert refused.value.field == "store.url"


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidValue, match="LOGSTREAM_STORE_PASSWORD") as refused:
        addresses("http://user:s3cret@a:8123")
    assert "s3cret" not in str(refused.value.body())


def test_one_that_answers_is_asked_again() -> None:
    time = Time()
    replicas = shard(time, "a", "b")
    assert [asked(replicas) for _ in range(3)] == ["a", "a", "a"]
    replicas.choose().failed("away")
    assert [asked(replicas) for _ in range(3)] == ["b", "b", "b"]
    time.now += MAX_REST_SECONDS
    # Nobody is moved back: pages of a search stay with one replica.
    assert asked(replicas) == "b"
    replicas.choose().failed("away")
    assert asked(replicas) == "a"


def test_rests_become_longer_and_end() -> None:
    time = Time()
    endpoint = Endpoint(A, time)
    rests = []
    for _ in range(10):
        endpoint.failed("away")
        rests.append(endpoint.rests_until - time.now)
        time.now = endpoint.rests_until
    assert 0.75 <= rests[0] <= 1
    assert all(rest <= MAX_REST_SECONDS for rest in rests)
    assert rests[4] > 4 * rests[0]
    endpoint.answered()
    endpoint.failed("away")
    assert endpoint.rests_until - time.now <= 1


def test_calls_that_fail_together_are_one_failure() -> None:
    time = Time()
    endpoint = Endpoint(A, time)
    for _ in range(50):
        endpoint.failed("away")
    assert endpoint.rests_until - time.now <= 1


def test_when_all_rest_the_next_to_wake_is_asked() -> None:
    time = Time()
    replicas = shard(time, "a", "b", "c")
    for _ in range(3):
        replicas.choose().failed("away")
        time.now += 0.01
    assert asked(replicas) in "abc"
    assert [one.address.host for one in replicas.one_after_another()] != []


@given(st.integers(1, 5), st.integers(0, 5))
def test_each_replica_is_asked_once_in_one_call(count: int, failing: int) -> None:
    replicas = shard(Time(), *map(str, range(count)))
    seen = []
    for endpoint in replicas.one_after_another():
        seen.append(endpoint)
        if len(seen) > failing:
            endpoint.answered()
            break
        endpoint.failed("away")
    assert len(seen) == len(set(seen)) == min(count, failing + 1)


def test_health_is_told_when_it_changes() -> None:
    endpoint = Endpoint(Address("http", "told", 8123), Time())
    up = STORE_REPLICA_UP.labels("told:8123")
    with capture_logs() as told:
        for _ in range(3):
            endpoint.failed("Network Error")
        assert up._value.get() == 0
        for _ in range(3):
            endpoint.answered()
        assert up._value.get() == 1
    assert [entry["event"] for entry in told] == ["replica_away", "replica_back"]
    assert STORE_REPLICA_FAILURES.labels("told:8123")._value.get() == 3


def test_refused_credentials_are_not_tried_again_at_once() -> None:
    time = Time()
    replicas = shard(time, "a")
    replicas.choose().failed("refuses the credentials", credentials=True)
    with pytest.raises(StoreUnavailable, match="refuses the credentials"):
        replicas.choose()
    time.now += 1
    assert asked(replicas) == "a"
