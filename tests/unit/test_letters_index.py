"""The state of letters is the fold of what stands behind them: whoever reads it, at once or in pieces, comes to it."""

import random
from collections import Counter

import pytest
from tests.support.letters import letter

from logstream.bus.header import encode as encode_record
from logstream.bus.protocol import Message
from logstream.clock import ManualClock
from logstream.letters.format import Disposition, encode
from logstream.letters.index import PartitionIndex, State
from logstream.stream import make_stream

STREAM = make_stream("index")
CLOCK = ManualClock()


class Topic:
    """A partition in memory."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def append(self, value: bytes) -> int:
        self.messages.append(Message(0, len(self.messages), value))
        return len(self.messages) - 1

    def letter(self, number: int, **changes: object) -> int:
        made = letter(STREAM, CLOCK, number, **changes)
        return self.append(encode_record(made.header(), made.payload()))

    def dispose(self, action: str, *letters: tuple[int, int], **fields: object) -> int:
        disposition = Disposition(action=action, letters=letters, **fields)  # type: ignore[arg-type]
        return self.append(encode_record(*encode(disposition)))

    def index(self, *, start: int = 0, max_letters: int = 1_000_000) -> PartitionIndex:
        made = PartitionIndex(max_letters=max_letters)
        if start:
            made.forget(start)
        for message in self.messages[start:]:
            made.add(message)
        return made


def states(index: PartitionIndex) -> dict[int, State]:
    return {offset: index.state(at) for at, offset in enumerate(index.offsets)}


def test_the_first_disposition_that_knows_the_latest_counts() -> None:
    topic = Topic()
    one = topic.letter(1)
    begun = topic.dispose("replaying", (one, one))
    topic.dispose("replaying", (one, one))
    topic.dispose("discarded", (one, one))
    index = topic.index()
    assert (states(index), index.latest(0)) == ({one: State.REPLAYING}, begun)
    again = topic.dispose("replaying", (one, begun))
    assert topic.index().latest(0) == again
    done = topic.dispose("replayed", (one, 77), incarnation=5)
    topic.dispose("replayed", (one, 78), incarnation=5)
    topic.dispose("discarded", (one, done))
    index = topic.index()
    assert (states(index), index.latest(0)) == ({one: State.REPLAYED}, done)
    assert (index.replayed, index.discarded) == ({"key1": 1}, {})
    assert [index.replayed_letter(5, at) for at in (76, 77, 78)] == [None, one, None]
    assert index.replayed_letter(6, 77) is None


def test_replayed_needs_a_replay() -> None:
    topic = Topic()
    one = topic.letter(1)
    topic.dispose("replayed", (one, 3))
    topic.dispose("replaying", (one + 50, one + 50))
    assert states(topic.index()) == {one: State.WAITING}


def test_what_cannot_be_read_is_passed_over() -> None:
    topic = Topic()
    topic.append(b"")
    topic.append(b"LS\x01\x02 what is this")
    one = topic.letter(1)
    topic.dispose("later versions do more", (one, one))
    topic.append(encode_record(encode(Disposition(action="discarded"))[0], b'{"version": 2, "action": "discarded"}'))
    for field in ("offset", "row", "rows"):
        topic.letter(2, **{field: -1})
        topic.letter(2, **{field: 2**64})
    topic.dispose("replayed", (one, -1))
    index = topic.index()
    assert states(index) == {one: State.WAITING}
    assert index.next == len(topic.messages)


def test_repeats_of_an_identity_are_dropped_wherever_they_come() -> None:
    topic = Topic()
    kept = [topic.letter(number) for number in (1, 2, 4)]
    topic.letter(2)
    topic.letter(4)
    kept.append(topic.letter(3))  # out of order, and yet new
    topic.letter(3)
    kept.append(topic.letter(3, row=1))
    kept.append(topic.letter(3, row=None, raw=b"", record=None))
    kept.append(topic.letter(3, incarnation=8))
    assert list(topic.index().offsets) == kept


def test_reading_in_pieces_and_from_the_middle_comes_to_the_same() -> None:
    rng = random.Random(7)
    topic = Topic()
    live = PartitionIndex(max_letters=1_000_000)
    for step in range(2_000):
        known = list(live.offsets)
        if not known or rng.random() < 0.4:
            topic.letter(rng.choice((step + 1, step)), key_id=rng.choice(("a", "b")))
        else:
            at = rng.randrange(len(known))
            follows = rng.choice((live.latest(at), known[at]))
            action = rng.choice(("replaying", "replaying", "replayed", "discarded"))
            topic.dispose(action, (known[at], step if action == "replayed" else follows))
        live.add(topic.messages[-1])
        if rng.random() < 0.01:
            topic.dispose(
                "tally", last=live.last, replayed=dict(live.replayed), discarded=dict(live.discarded), at=step
            )
            if rng.random() < 0.5:
                live.add(topic.messages[-1])
            else:
                # One whose writer did not see the newest record counts nothing.
                topic.messages.pop()
                topic.letter(10_000 + step)
                topic.dispose("tally", last=live.last, replayed={"x": 999}, at=step)
                live.add(topic.messages[-2])
                live.add(topic.messages[-1])
    whole = topic.index()
    assert states(whole) == states(live)
    assert (whole.replayed, whole.discarded) == (live.replayed, live.discarded)
    assert "x" not in whole.replayed
    counted = whole.count()
    assert counted[State.REPLAYED] == whole.replayed
    assert counted[State.DISCARDED] == whole.discarded
    by_state = Counter(states(whole).values())
    assert all(sum(counted[state].values()) == by_state[state] for state in State)
    # Whoever begins at a tally that counts knows the sums of all before it.
    start = whole.tallied
    late = topic.index(start=start)
    gone = {offset for offset in whole.offsets if offset < start}
    assert states(late).keys() == states(whole).keys() - gone
    assert not late.complete


def test_the_newest_letters_are_kept() -> None:
    topic = Topic()
    for number in range(3_000):
        topic.letter(number)
    index = topic.index(max_letters=1_000)
    assert 1_000 <= len(index) <= 1_125
    assert index.offsets[-1] == 2_999
    assert not index.complete
    index.forget(2_990)
    assert list(index.offsets) == list(range(2_990, 3_000))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [3, 2, 1, 0]),
        ({"before": 2}, [1, 0]),
        ({"states": frozenset({State.DISCARDED})}, [1]),
        ({"key_id": "b"}, [3]),
        ({"key_id": "c"}, []),
        ({"died_from": 1_700_000_002}, [3, 2]),
        ({"died_to": 1_700_000_001}, [1, 0]),
        ({"died_from": -5, "died_to": 2**40}, [3, 2, 1, 0]),
    ],
)
def test_letters_are_selected_newest_first(wanted: dict[str, object], expected: list[int]) -> None:
    topic = Topic()
    for number in range(4):
        topic.letter(number, key_id="b" if number == 3 else "a", died_at=(1_700_000_000 + number) * 10**9)
    topic.dispose("discarded", (1, 1))
    index = topic.index()
    assert index.select(**{"before": 100, **wanted}).tolist() == expected  # type: ignore[arg-type]


def test_counts_are_of_the_minutes_that_are_asked() -> None:
    topic = Topic()
    for number in range(4):
        topic.letter(number, received_at=number * 60 * 10**9, died_at=number * 10**9)
    index = topic.index()
    assert index.count(start_minute=1, end_minute=3)[State.WAITING] == {"key1": 2}
    assert index.count(died_from=3)[State.WAITING] == {"key1": 1}
    assert index.count(start_minute=9)[State.WAITING] == {}
