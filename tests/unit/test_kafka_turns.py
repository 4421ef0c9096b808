"""Partitions take turns of a certain time."""

from collections import Counter

from logstream.bus.kafka.turns import Turns


def test_a_turn_lasts_its_time() -> None:
    turns = Turns(1.0, first=4)
    assert [turns.choose(now, 6) for now in (10.0, 10.5, 10.999)] == [4, 4, 4]
    assert turns.choose(11.0, 6) == 5
    assert turns.choose(11.9, 6) == 5
    assert turns.choose(12.0, 6) == 0


def test_a_pause_is_one_turn() -> None:
    turns = Turns(1.0, first=0)
    turns.choose(0.0, 3)
    assert turns.choose(50.0, 3) == 1
    # It began when somebody came.
    assert turns.choose(50.9, 3) == 1


def test_all_partitions_get_the_same() -> None:
    turns = Turns(1.0)
    seen = Counter(turns.choose(tick / 10, 6) for tick in range(600))
    assert seen == dict.fromkeys(range(6), 100)


def test_a_topic_that_grew_gets_the_new_ones_too() -> None:
    turns = Turns(1.0, first=0)
    assert {turns.choose(float(now), 2) for now in range(4)} == {0, 1}
    assert {turns.choose(float(now), 5) for now in range(10, 15)} == {0, 1, 2, 3, 4}


def test_processes_begin_anywhere() -> None:
    assert len({Turns(1.0).choose(0.0, 1_000) for _ in range(20)}) > 1
