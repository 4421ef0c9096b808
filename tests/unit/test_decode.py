"""Decoding of JSON bodies: framing, both ways of decoding, and that they agree."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logstream.collector.decode import lenient, typed
from logstream.collector.decode.json_body import PIECE_BYTES, JsonDecoder
from logstream.errors import BadRequest, TooLarge
from logstream.record import LEVEL_LABELS, Decoded, Record
from logstream.settings import IngestLimits

NOW = 1_795_503_000_000_000_000
LIMITS = IngestLimits()
DECODER = JsonDecoder(LIMITS)


def decode(body: bytes | str) -> Decoded:
    return DECODER.decode(body.encode() if isinstance(body, str) else body, now=NOW)


def one(record: dict[str, Any] | str | bytes, limits: IngestLimits = LIMITS) -> Record:
    text = json.dumps(record) if isinstance(record, dict) else record
    decoded = JsonDecoder(limits).decode(text.encode() if isinstance(text, str) else text, now=NOW)
    assert not decoded.rejections
    [found] = decoded.batch
    return found


def codes(body: bytes | str, limits: IngestLimits = LIMITS) -> list[tuple[int, str]]:
    decoded = JsonDecoder(limits).decode(body.encode() if isinstance(body, str) else body, now=NOW)
    return [(r.index, r.code) for r in decoded.rejections]


# The two ways agree

NAMES = st.sampled_from(["payment", "Zahlung-é", "日本", "a.b", "x" * 60])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
CANONICAL = st.fixed_dictionaries(
    {"message": TEXT},
    optional={
        "timestamp": st.one_of(
            st.sampled_from(["2026-11-24T06:50:00.123456789Z", "1950-01-01T00:00:00Z", "1795503000"]),
            st.integers(-2_000_000_000, 1_795_503_000),
        ),
        "service": NAMES,
        "level": st.sampled_from([*LEVEL_LABELS, "INFO", "WARNING", "crit", "3"]),
        "metadata": st.dictionaries(st.one_of(st.sampled_from(["a", "region", "é"]), TEXT), TEXT, max_size=5),
        "trace_id": st.sampled_from(["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
        "span_id": st.sampled_from(["", "00f067aa0ba902b7"]),
    },
)


@given(st.lists(CANONICAL, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_the_patient_way_agrees_with_the_fast_one(rows: list[dict[str, Any]], ascii_: bool, is_array: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_).encode() for row in rows]
    body = b"[" + b",".join(lines) + b"]" if is_array else b"\n".join(lines)
    fast = typed.decode(body, is_array=is_array, now=NOW, latest=NOW + 10**9, limits=LIMITS)
    patient = [lenient.decode(line, now=NOW, latest=NOW + 10**9, limits=LIMITS) for line in lines]
    assert list(fast) == [accepted.record for accepted in patient]
    assert not any(accepted.truncated for accepted in patient)


@given(st.lists(CANONICAL, min_size=60, max_size=70))
@settings(max_examples=20)
def test_one_unusual_record_changes_nothing_for_the_others(rows: list[dict[str, Any]]) -> None:
    expected = list(decode("\n".join(map(json.dumps, rows))).batch)
    for at in (0, 30, len(rows)):
        mixed = [*map(json.dumps, rows[:at]), '{"msg":"odd","n":1}', *map(json.dumps, rows[at:])]
        got = list(decode("\n".join(mixed)).batch)
        assert got[:at] + got[at + 1 :] == expected
        assert (got[at].message, got[at].metadata) == ("odd", {"n": "1"})


# Anything gets a defined answer

GOOD = json.dumps(
    {
        "timestamp": "2026-11-24T06:50:00Z",
        "service": "é",
        "level": "info",
        "message": 'a "q" \\ \u2028',
        "metadata": {"a": "b"},
    }
).encode()


def assert_defined(body: bytes) -> None:
    try:
        decoded = decode(body)
    except BadRequest:
        return
    assert len(decoded.batch) + len(decoded.rejections) > 0 or body.strip() in (b"[]", b"[ ]")
    for rejection in decoded.rejections:
        assert rejection.reason
    for record in decoded.batch:
        record.message.encode()
        for key, value in record.metadata.items():
            (key + value).encode()


@given(st.integers(0, len(GOOD) * 2 + 3), st.binary(max_size=3), st.sampled_from([0, 1, 3]), st.booleans())
@settings(max_examples=500)
def test_malformed_at_any_byte(at: int, inserted: bytes, removed: int, is_array: bool) -> None:
    body = b"[" + GOOD + b"," + GOOD + b"]" if is_array else GOOD + b"\n" + GOOD
    assert_defined(body[:at] + inserted + body[at + removed :])


def test_cut_off_at_any_byte() -> None:
    for body in (GOOD, GOOD + b"\n" + GOOD, b"[" + GOOD + b"]"):
        for end in range(len(body)):
            assert_defined(body[:end])


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"{}\x00{}")
def test_any_bytes(body: bytes) -> None:
    assert_defined(body)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
FIELDS = st.sampled_from(["message", "msg", "timestamp", "ts", "service", "level", "metadata", "trace_id", "x", "a.b"])


@given(st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_types_give_a_record_or_a_reason(record: dict[str, Any]) -> None:
    assert_defined(json.dumps(record).encode())


# Framing


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"["])
def test_what_is_no_body_at_all(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


def test_blank_lines_do_not_count_as_records() -> None:
    assert codes('\n\n{"message":"a"}\n\n  \nnot json\n') == [(1, "malformed_json")]


def test_indexes_count_records_across_pieces() -> None:
    line = '{"message":"' + "x" * 1000 + '"}\n'
    n = 3 * PIECE_BYTES // len(line)
    lines = [line] * n
    for at in (0, n // 2, n - 1):
        assert codes("".join([*lines[:at], '{"bad":1}\n', *lines[at:]])) == [(at, "missing_message")]
        array = "[" + ",".join([*lines[:at], '{"bad":1}', *lines[at:]]) + "]"
        assert codes(array) == [(at, "missing_message")]


@pytest.mark.parametrize("message", ["},{", '\\"},{\\"', "},", "]", "[{"])
def test_an_array_is_cut_only_between_its_elements(message: str) -> None:
    element = {"message": message * 100, "deep": [{"a": {"b": 1}}, {"c": 2}]}
    n = 3 * PIECE_BYTES // len(json.dumps(element))
    decoded = decode(json.dumps([element] * n))
    assert len(decoded.batch) == n
    assert set(decoded.batch.messages) == {message * 100}


def test_bodies_made_to_fill_memory() -> None:
    many = ",".join(f'"k{i}":1' for i in range(600_000))
    assert codes('{"message":"m",' + many + '}\n{"message":"b"}') == [(0, "too_many_metadata_keys")]
    with pytest.raises(TooLarge):
        decode("[" + "1," * 2_000_000 + "1]")
    with pytest.raises(TooLarge):
        decode('[{"a":"' + "x" * 2 * PIECE_BYTES + '"},' + "1," * 2_000_000 + "1]")
    assert codes('{"message":"m","' + "n" * 500_000 + '":{' + '"a":1,' * 10_000 + '"b":{"c":1}}}') == [
        (0, "name_too_long")
    ]


@pytest.mark.parametrize("tail", ["", ",", ",]", "]]", "] x", "]\n]"])
def test_a_long_array_that_is_not_whole(tail: str) -> None:
    element = '{"message":"' + "x" * 100 + '"}'
    with pytest.raises(BadRequest):
        decode("[" + ",".join([element] * (2 * PIECE_BYTES // len(element))) + tail)


def test_too_many_records() -> None:
    decoder = JsonDecoder(IngestLimits(max_records=10))
    assert len(decoder.decode(b'{"message":"a"}\n' * 10, now=NOW).batch) == 10
    with pytest.raises(TooLarge, match="max_records"):
        decoder.decode(b'{"message":"a"}\n' * 11, now=NOW)


@pytest.mark.parametrize("body", ["1", "null", '"text"', "[[]]", "[1]", "[null]", '["a"]'])
def test_not_an_object(body: str) -> None:
    assert codes(body) == [(0, "not_an_object")]


# Names of fields


@pytest.mark.parametrize(("field", "alias"), [(f, a) for f, names in lenient.ALIASES.items() for a in names])
def test_aliases(field: str, alias: str) -> None:
    value = {"timestamp": "1795503000", "level": "error"}.get(field, "value")
    for name in (alias, alias.upper(), alias.title()):
        body = {"message": "m", name: value} if field != "message" else {name: value}
        record = one(body)
        expected = {"timestamp": NOW, "level": 5}.get(field, "value")
        assert getattr(record, field) == expected
        assert record.metadata == {}


def test_dotted_aliases_may_be_objects() -> None:
    record = one(
        {"message": "m", "service": {"name": "s", "version": 2}, "log": {"level": "warn"}, "trace": {"id": "t"}}
    )
    assert (record.service, record.level, record.trace_id) == ("s", 4, "t")
    assert record.metadata == {"service.version": "2"}


def test_of_several_aliases_the_first_of_the_list_counts_and_the_others_are_kept() -> None:
    record = one({"event": "e", "msg": "m", "time": "x", "timestamp": "1795503000"})
    assert (record.message, record.timestamp) == ("m", NOW)
    assert record.metadata == {"event": "e", "time": "x"}


def test_null_is_absent_for_a_known_field_and_text_elsewhere() -> None:
    record = one({"message": None, "msg": "m", "level": None, "timestamp": None, "service": None, "user": None})
    assert (record.message, record.level, record.timestamp, record.service) == ("m", 3, NOW, "unknown")
    assert record.metadata == {"user": "null"}
    assert one({"message": "m", "metadata": None}).metadata == {}


def test_unknown_fields_never_overwrite_metadata() -> None:
    record = one({"host": "top", "message": "m", "metadata": {"host": "inner", "host_2": "taken"}})
    assert record.metadata == {"host": "inner", "host_2": "taken", "host_3": "top"}


def test_the_last_of_duplicate_keys_counts() -> None:
    assert one('{"message":"a","message":"b","metadata":{"k":"1","k":"2"}}').metadata == {"k": "2"}
    assert one('{"message":"a","message":"b","n":1,"n":2}') == one('{"message":"b","n":2}')


# Values


def test_values_keep_their_json_text() -> None:
    text = (
        '{"message":"m","i":12345678901234567890123,"f":1.50,"e":-1E+5,"t":true,"l":[1, {"a" : "é"}],'
        '"o":{"p":{"q":"s"},"empty":{}},"z":-0}'
    )
    assert one(text).metadata == {
        "i": "12345678901234567890123", "f": "1.50", "e": "-1E+5", "t": "true", "l": '[1, {"a" : "é"}]',
        "o.p.q": "s", "o.empty": "{}", "z": "-0",
    }  # fmt: skip


def test_metadata_is_flattened_without_a_prefix() -> None:
    record = one({"message": "m", "metadata": {"http": {"status": 200, "tags": ["a"]}, "n": None}})
    assert record.metadata == {"http.status": "200", "http.tags": '["a"]', "n": "null"}


@pytest.mark.parametrize("value", ['"text"', "5", "[1]"])
def test_metadata_that_is_no_object(value: str) -> None:
    assert one('{"message":"m","metadata":' + value + "}").metadata == {
        "metadata": json.loads(value) if value[0] == '"' else value
    }


@pytest.mark.parametrize(
    ("value", "text"), [("5", "5"), ("true", "true"), ('{"a": 1}', '{"a": 1}'), ("[1]", "[1]"), ('""', "")]
)
def test_a_message_that_is_no_string(value: str, text: str) -> None:
    assert one('{"message":' + value + "}").message == text
    assert one('{"message":' + value + "}").metadata == {}


def test_deep_nesting() -> None:
    nested: dict[str, Any] = {"end": 1}
    for _ in range(20):
        nested = {"n": nested}
    record = one({"message": "m", "a": nested}, IngestLimits(max_metadata_depth=3))
    assert record.metadata == {"a.n.n.n": json.dumps(nested["n"]["n"]["n"])}
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 100_000 + "1" + closing * 100_000
        assert codes('{"message":"m","a":' + deep + "}\n" + '{"message":"b"}') == [(0, "nesting_too_deep")]
        assert codes('[{"message":"b"}, {"message":"m","a":' + opening * 400 + "1" + closing * 400 + "}]") == []
    with pytest.raises(BadRequest):
        decode("[" * 100_000)


@pytest.mark.parametrize(
    ("body", "message", "repaired"),
    [
        (b'{"message":"a\xffb"}', "a\ufffdb", "utf8"),
        (b'{"message":"a\xed\xa0\x80b"}', "a\ufffd\ufffd\ufffdb", "utf8"),
        (b'{"message":"a\\ud800b"}', "a\ufffdb", "surrogates"),
        (b'{"message":"a\\uDC00\\ud83d\\ude00"}', "a\ufffd\U0001f600", "surrogates"),
        (b'{"message":"\\\\ud800 \\ud800"}', "\\ud800 \ufffd", "surrogates"),
        (b'{"message":"\xff\\udfff"}', "\ufffd\ufffd", "utf8,surrogates"),
    ],
)
def test_broken_text_is_repaired_with_a_mark(body: bytes, message: str, repaired: str) -> None:
    record = one(body)
    assert (record.message, record.metadata) == (message, {"logstream.repaired": repaired})


def test_nul_bytes() -> None:
    assert one('{"message":"a\\u0000b","metadata":{"\\u0000":"\\u0000"}}').message == "a\0b"
    assert codes(b'{"message":"a\0b"}') == [(0, "malformed_json")]


# Levels


@pytest.mark.parametrize(
    ("sent", "level"),
    [("WARN", 4), ("Warning", 4), ("crit", 6), (3, 5), ("7", 2), (30, 3), (50, 5), ("", 3), (" error ", 5)],
)
def test_levels(sent: str | int, level: int) -> None:
    assert (one({"message": "m", "level": sent}).level, one({"message": "m", "level": sent}).metadata) == (level, {})


@pytest.mark.parametrize(("number", "level"), [(1, 1), (4, 1), (5, 2), (9, 3), (13, 4), (17, 5), (24, 6)])
def test_severity_numbers_of_opentelemetry(number: int, level: int) -> None:
    assert one({"body": "m", "severityNumber": number}).level == level
    assert one({"body": "m", "severity_number": number, "severity_text": "DEBUG"}).level == 2


@pytest.mark.parametrize("sent", ["odd", 99, True, "9" * 40])
def test_an_unknown_level_is_kept(sent: Any) -> None:
    record = one({"message": "m", "level": sent})
    text = sent if isinstance(sent, str) else json.dumps(sent)
    assert (record.level, record.metadata) == (3, {"logstream.level": text})


# Limits of a record

SMALL = IngestLimits(max_message_bytes=64, max_metadata_value_bytes=64, max_name_bytes=16, max_metadata_keys=3)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64),
        ("é" * 33, "é" * 32),
        ("a" + "é" * 40, "a" + "é" * 31),
        ("\U0001f600" * 20, "\U0001f600" * 16),
    ],
)
def test_long_values_are_cut_on_a_character_with_a_mark(text: str, kept: str) -> None:
    cut = kept != text
    record = one({"message": text}, SMALL)
    assert (record.message, record.metadata) == (kept, {"logstream.truncated": "message"} if cut else {})
    record = one({"message": "m", "metadata": {"k": text}}, SMALL)
    assert record.metadata == {"k": kept} | ({"logstream.truncated": "metadata.k"} if cut else {})
    assert JsonDecoder(SMALL).decode(json.dumps({"message": text}).encode(), now=NOW).truncated == int(cut)


def test_several_long_values_share_the_mark() -> None:
    record = one({"message": "x" * 99, "metadata": {"a": "y" * 99, "b": "z"}}, SMALL)
    assert record.metadata["logstream.truncated"] == "metadata.a,message"


@pytest.mark.parametrize(
    "body",
    [{"metadata": {"k" * 17: "v"}}, {"service": "s" * 17}, {"trace_id": "t" * 17}, {"span_id": "é" * 9}, {"u" * 17: 1}],
)
def test_names_too_long_are_refused_by_name(body: dict[str, Any]) -> None:
    [rejection] = JsonDecoder(SMALL).decode(json.dumps({"message": "m", **body}).encode(), now=NOW).rejections
    assert rejection.code == "name_too_long"
    assert "16 (max_name_bytes)" in rejection.reason


def test_too_many_metadata_keys() -> None:
    keys = {f"k{i}": "v" for i in range(4)}
    assert codes(json.dumps({"message": "m", "metadata": keys}), SMALL) == [(0, "too_many_metadata_keys")]
    assert codes(json.dumps({"message": "m", **keys}), SMALL) == [(0, "too_many_metadata_keys")]
    del keys["k0"]
    assert one({"message": "x" * 99, "metadata": keys}, SMALL).metadata == {**keys, "logstream.truncated": "message"}


def test_the_future_is_refused_by_name_and_the_past_welcome() -> None:
    assert codes('{"message":"m","timestamp":"2026-11-25T06:50:00Z"}') == []
    assert codes('{"message":"m","timestamp":"2026-11-25T06:50:00.000000001Z"}') == [(0, "timestamp_in_future")]
    assert one({"message": "m", "timestamp": "1900-01-01T00:00:00Z"}).timestamp < 0
    assert codes('{"message":"m","ts":"9999-01-01T00:00:00Z"}') == [(0, "timestamp_out_of_range")]
    assert codes('{"message":"m","ts":"soon"}') == [(0, "invalid_timestamp")]


def test_epochs_keep_their_nanoseconds() -> None:
    for sent in ("1795502999.123456789", '"1795502999.123456789"', "1795502999123456789"):
        assert one('{"message":"m","ts":' + sent + "}").timestamp == 1_795_502_999_123_456_789


def limits_at(body: Sequence[dict[str, Any]], limits: IngestLimits) -> Decoded:
    return JsonDecoder(limits).decode("\n".join(map(json.dumps, body)).encode(), now=NOW)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=80))
def test_the_fast_way_misses_no_limit(lengths: list[int]) -> None:
    rows = [{"message": "m" * n, "metadata": {"k": "v" * (70 - n)}} for n in lengths]
    decoded = limits_at(rows, SMALL)
    assert [len(m) for m in decoded.batch.messages] == [min(n, 64) for n in lengths]
    assert [len(m["k"]) for m in decoded.batch.metadata] == [min(70 - n, 64) for n in lengths]
    assert decoded.truncated == sum(n > 64 or n < 6 for n in lengths)
