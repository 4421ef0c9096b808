"""What a replay may change, and the rows that come out."""

import pytest
from tests.support.letters import letter

from logstream.bus.header import Header, Segment
from logstream.bus.header import encode as encode_record
from logstream.bus.protocol import Message
from logstream.clock import ManualClock
from logstream.errors import InvalidValue
from logstream.letters.edit import Changes, Unreplayable, material
from logstream.letters.format import Fields, claim_of, fields_of, look, raw_of
from logstream.processor.letter import Letter
from logstream.record import Batch, Record
from logstream.settings import IngestLimits
from logstream.storage.block import decode, encode
from logstream.stream import make_stream

STREAM = make_stream("edit")
CLOCK = ManualClock()
LIMITS = IngestLimits()


def written(made: Letter) -> tuple[Fields, bytes]:
    value = encode_record(made.header(), made.payload())
    return fields_of(Message(0, 0, value)), value


def whole(raw: bytes, rows: int) -> tuple[Fields, bytes]:
    return written(letter(STREAM, CLOCK, 1, row=None, rows=rows, raw=raw, record=None, key_id="a,b"))


def test_without_changes_the_very_bytes_are_sent() -> None:
    fields, value = written(letter(STREAM, CLOCK, 3))
    made = material(fields, value, Changes(), LIMITS)
    assert (made.payload, made.rows, made.segments) == (raw_of(value), 1, (Segment("key1", 1),))
    assert (made.min_timestamp, made.max_timestamp, made.preview.message) == (1_003, 1_003, "poison 3")


def test_changes_replace_set_and_drop() -> None:
    fields, value = written(letter(STREAM, CLOCK, 3))
    changes = Changes(5, "t", "WARN", "m", "a", "b", {"new": "1"}, ["n", "none"])
    changes.check(LIMITS)
    made = material(fields, value, changes, LIMITS)
    assert list(decode(made.payload, 1)) == [Record(5, "t", 4, "m", {"new": "1"}, "a", "b")]
    assert (made.min_timestamp, made.max_timestamp) == (5, 5)
    assert Changes.load(changes.dump()) == Changes(5, "t", "WARN", "m", "a", "b", {"new": "1"}, ["n", "none"])
    assert Changes().dump() is None
    assert Changes.load(None) == Changes()


def test_a_whole_record_that_can_be_read_after_all_is_sent_with_its_keys() -> None:
    rows = [Record(9, "s", 3, "x"), Record(7, "s", 3, "y"), Record(8, "s", 3, "z")]
    head = Header(3, 1, 7, 9, (Segment("a", 2), Segment("b", 1)))
    fields, value = whole(encode_record(head, encode(Batch.of(rows))), 3)
    made = material(fields, value, Changes(level="error"), LIMITS)
    assert (made.rows, made.segments, made.min_timestamp, made.max_timestamp) == (3, head.segments, 7, 9)
    assert [record.level for record in decode(made.payload, 3)] == [5, 5, 5]
    assert look(value).share == (("a", 2), ("b", 1))


@pytest.mark.parametrize("raw", [b"", b"nothing", encode_record(Header(2, 1, 1, 1, (Segment("a", 2),)), b"no block")])
def test_what_cannot_be_read_is_not_sent(raw: bytes) -> None:
    fields, value = whole(raw, 2)
    with pytest.raises(Unreplayable, match="discard"):
        material(fields, value, Changes(), LIMITS)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (Changes(timestamp=-(2**62) * 2), "set.timestamp"),
        (Changes(timestamp=2**63), "set.timestamp"),
        (Changes(service=""), "set.service"),
        (Changes(service="x" * 257), "set.service"),
        (Changes(level="loud"), "set.level"),
        (Changes(message="ä" * 200_000), "set.message"),
        (Changes(message="\ud800"), "set.message"),
        (Changes(metadata={"": "x"}), "set.metadata"),
        (Changes(metadata={"k" * 257: "x"}), "set.metadata"),
        (Changes(metadata={"k": "x" * 40_000}), "set.metadata.k"),
        (Changes(metadata={str(n): "" for n in range(129)}), "set.metadata"),
        (Changes(drop_metadata=[str(n) for n in range(129)]), "drop_metadata"),
    ],
)
def test_limits_are_those_of_ingestion(changes: Changes, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        changes.check(LIMITS)
    assert caught.value.field == field


def test_too_many_keys_together_are_refused() -> None:
    record = Record(1, "s", 3, "m", {str(n): "" for n in range(100)})
    fields, value = written(letter(STREAM, CLOCK, 1, raw=encode(Batch.of([record])), record=record))
    with pytest.raises(InvalidValue, match="130 metadata keys"):
        material(fields, value, Changes(metadata={f"n{n}": "" for n in range(30)}), LIMITS)


def test_the_same_letter_always_claims_the_same() -> None:
    one, _ = written(letter(STREAM, CLOCK, 1))
    again, _ = written(letter(STREAM, CLOCK, 1, died_at=5, reason="another"))
    other, _ = written(letter(STREAM, CLOCK, 1, row=1))
    assert claim_of(STREAM, one, None) == claim_of(STREAM, again, None)
    assert claim_of(STREAM, one, None).key != claim_of(STREAM, other, None).key
    changed = claim_of(STREAM, one, Changes(message="m").dump())
    assert changed.key == claim_of(STREAM, one, None).key
    assert changed.fingerprint != claim_of(STREAM, one, None).fingerprint
    assert claim_of(make_stream("elsewhere"), one, None).key != changed.key
