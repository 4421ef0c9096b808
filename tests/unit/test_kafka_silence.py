"""What is taken for silence: records that are there and do not come, while the brokers answer."""

from logstream.bus.kafka.silence import Silence

A, B = ("topic", 0), ("topic", 1)


def looks(silence: Silence, times: list[float], nexts: dict[tuple[str, int], int], end: int) -> list[bool]:
    return [bool(silence.look(now, nexts, dict.fromkeys(nexts, end))) for now in times]


def test_nothing_for_the_time_of_patience_is_silence() -> None:
    silence = Silence(10.0)
    assert looks(silence, [0, 5, 9.9], {A: 7}, 8) == [False] * 3
    assert silence.look(10.0, {A: 7, B: 8}, {A: 8, B: 8}) == [A]


def test_who_has_all_or_goes_on_is_not_silent() -> None:
    silence = Silence(10.0)
    assert not any(looks(silence, [0, 5, 10, 15, 20], {A: 8}, 8))
    for now in range(0, 100, 5):
        assert not silence.look(now, {A: now}, {A: 1_000})


def test_what_the_brokers_did_not_tell_begins_anew() -> None:
    silence = Silence(10.0)
    looks(silence, [0, 5], {A: 7}, 8)
    assert not silence.look(10.0, {A: 7}, {})
    assert looks(silence, [15, 20, 25], {A: 7}, 8) == [False, False, True]


def test_a_process_that_stood_still_proves_nothing() -> None:
    assert looks(Silence(10.0), [0, 500, 501], {A: 7}, 8) == [False, False, True]


def test_who_was_told_gets_twice_as_long_until_something_comes() -> None:
    silence = Silence(10.0)
    told = [now for now in range(0, 100, 5) if silence.look(now, {A: 7}, {A: 9})]
    assert told == [10, 30, 70]
    assert looks(silence, [100, 105, 110], {A: 8}, 9) == [False, False, True]
