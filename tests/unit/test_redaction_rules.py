"""Rules on batches: fields, actions, overlaps, rejections, and rules that cannot be."""

import hashlib
import hmac
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from logstream.record import Batch, Decoded, Level, Record, Rejection
from logstream.redact import Redacted, Redactor, RuleError, redactor_for
from logstream.settings import IngestLimits, RedactionRule, RedactionSettings

CARD = "4111 1111 1111 1111"
KEY = "a key of sixteen characters or more"


def rules(
    *written: dict[str, Any], detectors: tuple[str, ...] = (), key: str = KEY, stream: str = "default"
) -> Redactor:
    settings = RedactionSettings(
        rules=tuple(RedactionRule(**rule) for rule in written), detectors=detectors, hash_key=SecretStr(key)
    )
    return redactor_for(settings, stream)


def record(message: str = "m", service: str = "s", trace: str = "", **metadata: str) -> Record:
    return Record(1, service, Level.INFO, message, metadata, trace)


def redact(redactor: Redactor, *records: Record, rejections: tuple[Rejection, ...] = (), first: int = 0) -> Redacted:
    return redactor.redact(Decoded(Batch.of(records), rejections), first)


def only(redactor: Redactor, sent: Record) -> Record:
    [kept] = redact(redactor, sent).decoded.batch
    return kept


def test_without_rules_the_batch_is_the_same_object() -> None:
    decoded = Decoded(Batch.of([record(CARD)]))
    assert not rules()
    assert rules().redact(decoded).decoded is decoded
    assert rules(detectors=("email",)).redact(decoded).decoded is decoded, "nothing found, nothing copied"


def test_the_batch_that_came_is_not_changed() -> None:
    batch = Batch.of([record(CARD, pan=CARD)])
    redacted = rules(detectors=("all",)).redact(Decoded(batch)).decoded.batch
    assert (batch.messages, batch.metadata) == ([CARD], [{"pan": CARD}])
    assert (redacted.messages, redacted.metadata) == (["[card]"], [{"pan": "[card]"}])


def test_messages_and_metadata_by_default_services_when_named_trace_ids_never() -> None:
    sent = record(CARD, service="4111111111111111", trace="4111111111111111", pan=CARD)
    kept = only(rules({"detector": "card"}), sent)
    assert (kept.message, kept.metadata) == ("[card]", {"pan": "[card]"})
    assert (kept.service, kept.trace_id) == ("4111111111111111", "4111111111111111")
    kept = only(rules({"detector": "card", "fields": ["service"]}), sent)
    assert (kept.service, kept.message) == ("[card]", CARD)


def test_metadata_is_named_by_key() -> None:
    redactor = rules({"detector": "card", "fields": ["metadata.card.*", "metadata.pa?"]})
    kept = only(redactor, record(CARD, **{"card.number": CARD, "pan": CARD, "page": CARD, "Pan": CARD}))
    assert kept.message == CARD
    assert kept.metadata == {"card.number": "[card]", "pan": "[card]", "page": CARD, "Pan": CARD}


def test_values_under_telling_keys_are_findings_as_a_whole() -> None:
    sent = [record(**{"user.password": "a b c", "n": "1"}), record(n="2"), record(token="null", authorization="x")]
    redacted = redact(rules({"detector": "secret", "action": "drop"}, detectors=("all",)), *sent)
    assert [kept.metadata for kept in redacted.decoded.batch] == [{"n": "1"}, {"n": "2"}, {"token": "null"}]
    assert redacted.found == {"secret": 2}
    elsewhere = rules({"detector": "secret", "fields": ["message", "metadata.user.*"]})
    assert only(elsewhere, record(password="a b c")).metadata == {"password": "a b c"}


def test_what_the_decoder_put_into_metadata_is_redacted_too() -> None:
    kept = only(rules(detectors=("all",)), record(**{"logstream.level": CARD, "logstream.truncated": "metadata.token"}))
    assert kept.metadata == {"logstream.level": "[card]", "logstream.truncated": "metadata.token"}


def test_actions_on_messages_and_metadata() -> None:
    sent = record(f"pay {CARD}!", pan=CARD, other="x")
    assert only(rules({"detector": "card", "action": "keep_last"}), sent).message == "pay [card:1111]!"
    kept = only(rules({"detector": "card", "action": "drop"}), sent)
    assert (kept.message, kept.metadata) == ("[card]", {"other": "x"})
    assert only(rules({"name": "pin", "pattern": "pay", "action": "keep_last"}), sent).message == f"[pin] {CARD}!", (
        "of short values nothing stays"
    )


def test_equal_values_have_equal_hashes_however_they_are_written() -> None:
    redactor = rules(
        {"detector": "card", "action": "hash"}, {"detector": "email", "action": "hash"},
        {"detector": "ipv6", "action": "hash"},
    )  # fmt: skip
    digest = hmac.digest(KEY.encode(), b"4111111111111111", hashlib.sha256)[:10].hex()
    expected = "[card:" + digest.translate(str.maketrans("0123456789abcdef", "ghijkmnpqrstvwxz")) + "]"
    kept = only(redactor, record(CARD, a="4111-1111-1111-1111", b="4111111111111111", c="5555555555554444"))
    assert {kept.message, kept.metadata["a"], kept.metadata["b"]} == {expected}
    assert kept.metadata["c"] not in (expected, "5555555555554444")
    kept = only(redactor, record("Ada@Example.com", a="ada@example.com", b="2001:db8::1", c="2001:0DB8:0::1"))
    assert kept.message == kept.metadata["a"]
    assert kept.metadata["b"] == kept.metadata["c"]


def test_hashes_depend_on_the_key_alone() -> None:
    def hashed(key: str) -> str:
        return only(rules({"detector": "card", "action": "hash"}, key=key), record(CARD)).message

    assert hashed(KEY) == hashed(KEY)
    assert hashed(KEY) != hashed(KEY + "x")


def test_rejected_records_are_named_by_their_place_in_the_request() -> None:
    redactor = rules({"detector": "card", "action": "reject"}, {"detector": "email"})
    before = (Rejection(11, "malformed_json", "?"), Rejection(13, "missing_message", "?"))
    redacted = redact(
        redactor, record("a"), record(CARD), record("x@example.com"), record("d", pan=CARD),
        rejections=before, first=10,
    )  # fmt: skip
    assert [kept.message for kept in redacted.decoded.batch] == ["a", "[email]"]
    assert [(r.index, r.code) for r in redacted.decoded.rejections] == [
        (11, "malformed_json"), (12, "redaction"), (13, "missing_message"), (15, "redaction"),
    ]  # fmt: skip
    reasons = [r.reason for r in redacted.decoded.rejections if r.code == "redaction"]
    assert all("'card'" in reason and "4111" not in reason for reason in reasons)
    assert redacted.found == {"card": 2, "email": 1}


def test_only_groups_are_replaced() -> None:
    redactor = rules({"name": "order", "pattern": r"order (\d+)(?: for (\w+))?"})
    assert only(redactor, record("order 17 for ada, order 18")).message == "order [order] for [order], order [order]"


def test_the_first_rule_wins_where_findings_overlap_and_all_of_them_goes() -> None:
    word, line = {"name": "word", "pattern": "bcd"}, {"name": "line", "pattern": "abc"}
    assert only(rules(word, line), record("-abcde-")).message == "-[word]e-"
    assert only(rules(line, word), record("-abcde-")).message == "-[line]e-"
    last = rules({"name": "in", "pattern": "1111 1", "action": "keep_last"}, {"detector": "card"})
    assert only(last, record(CARD)).message == "[in]", "joined findings keep nothing"
    strict = rules({"name": "in", "pattern": "1111 1"}, {"detector": "card", "action": "reject"})
    assert len(redact(strict, record(CARD)).decoded.batch) == 0


def test_what_comes_together_by_redaction_is_found_then() -> None:
    redactor = rules({"name": "x", "pattern": "x+"}, {"name": "y", "pattern": r"\[x\]y"})
    once = only(redactor, record("xxy"))
    assert once.message == "[x][y]"
    assert only(redactor, once) == once


def test_patterns_with_anchors_see_single_values() -> None:
    redactor = rules({"name": "whole", "pattern": r"^\d+$"}, {"name": "end", "pattern": r"\d\z"})
    sent = [record("17"), record("17 x"), record("x17", k="18")]
    kept = list(redact(redactor, *sent).decoded.batch)
    assert [r.message for r in kept] == ["[whole]", "17 x", "x1[end]"]
    assert kept[2].metadata == {"k": "[whole]"}


@pytest.mark.parametrize("pattern", [r"\s+", r"[^a-z]+", r"(?s)b.*", r"c(\s|\S)*", r"\W\w"])
def test_no_match_reaches_into_the_next_record(pattern: str) -> None:
    redactor = rules({"name": "p", "pattern": pattern})
    sent = [record("abc"), record("def"), record("1 bc", k="abc", l="2"), record("")]
    together = list(redact(redactor, *sent).decoded.batch)
    assert together == [only(redactor, one) for one in sent]


@pytest.mark.parametrize("split", ["bearer", "basic", "password=", "password: ", '{"token": '])
def test_what_is_no_finding_hides_none_in_the_next_record(split: str) -> None:
    redactor = rules(detectors=("all",))
    sent = [record(split), record("bearer abc123def"), record(split), record("null password=x")]
    together = list(redact(redactor, *sent).decoded.batch)
    assert together == [only(redactor, one) for one in sent]
    assert together[1].message == "bearer [bearer]"


def test_many_findings_in_one_value_make_it_one_mark() -> None:
    sent = record("ab " * 1_000, short="ab " * 10)
    kept = only(rules({"name": "ab", "pattern": "ab"}), sent)
    assert kept.message == "[ab] " * 1_000
    kept = only(rules({"name": "ab", "pattern": "ab"}), record("ab " * 1_001))
    assert kept.message == "[ab]"


def test_no_value_grows_past_its_limit() -> None:
    limits = IngestLimits(max_message_bytes=100, max_metadata_value_bytes=64)
    settings = RedactionSettings(rules=(RedactionRule(name="ab", pattern="ab"),))
    [kept] = (
        redactor_for(settings, "s", limits).redact(Decoded(Batch.of([record("ab" * 26, k="ab" * 17)]))).decoded.batch
    )
    assert (kept.message, kept.metadata) == ("[ab]", {"k": "[ab]"})


def test_rules_are_of_streams() -> None:
    written = {"detector": "card", "streams": ["pay*"]}, {"detector": "email"}
    assert [rule.name for rule in rules(*written, stream="payments").rules] == ["card", "email"]
    assert [rule.name for rule in rules(*written, stream="default").rules] == ["email"]


def test_detectors_come_behind_the_rules_and_not_twice() -> None:
    redactor = rules({"detector": "card", "action": "keep_last"}, detectors=("card", "ip"))
    assert [(rule.name, rule.action) for rule in redactor.rules] == [
        ("card", "keep_last"), ("ipv4", "mask"), ("ipv6", "mask"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "field", "column", "says"),
    [
        ({"name": "x", "pattern": "a(b"}, "rules.1.pattern", None, "'x'"),
        ({"name": "x", "pattern": r"ab\y"}, "rules.1.pattern", 3, "'x', column 3: invalid escape"),
        ({"name": "x", "pattern": r"a(?=b)"}, "rules.1.pattern", 2, "'x', column 2"),
        ({"name": "x", "pattern": "a*"}, "rules.1.pattern", None, "empty text"),
        ({"name": "x", "pattern": r"(?:\pL{1000}){50}"}, "rules.1.pattern", None, "'x'"),
        ({"pattern": "a"}, "rules.1.name", None, "needs a name"),
        ({"name": "x"}, "rules.1", None, "either a detector or a pattern"),
        ({"detector": "card", "pattern": "a"}, "rules.1", None, "either a detector or a pattern"),
        ({"detector": "cards"}, "rules.1.detector", None, "there is no detector 'cards'"),
        ({"detector": "card", "fields": ["trace_id"]}, "rules.1.fields", None, "'trace_id'"),
        ({"detector": "card", "fields": ["metadata."]}, "rules.1.fields", None, "'metadata.'"),
        ({"name": "email", "pattern": "a"}, "rules.1", None, "two rules with the name 'email'"),
    ],
)
def test_a_wrong_rule_is_named(rule: dict[str, Any], field: str, column: int | None, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        rules({"detector": "email"}, rule)
    assert caught.value.field == field
    assert says in caught.value.message
    if column is not None:
        assert caught.value.column == column
        assert caught.value.body()["error"]["column"] == column


def test_hashing_needs_a_key_which_is_not_shown() -> None:
    with pytest.raises(RuleError, match="LOGSTREAM_REDACTION_HASH_KEY must have 16") as caught:
        rules({"detector": "card", "action": "hash"}, key="too short")
    assert "too short" not in str(caught.value)
    assert "too short" not in repr(RedactionSettings(hash_key=SecretStr("too short")))


@pytest.mark.parametrize(
    "rule",
    [{"detector": "card", "action": "burn"}, {"name": "A b", "detector": "card"}, {"detector": "card", "x": 1},
     {"name": "x", "pattern": "a" * 1001}, {"detector": "card", "fields": []}],
)  # fmt: skip
def test_rules_of_another_form_are_no_settings(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedactionRule(**rule)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_REDACTION_DETECTORS", '["ip"]')
    monkeypatch.setenv("LOGSTREAM_REDACTION_RULES", '[{"detector": "card", "action": "keep_last"}]')
    redactor = redactor_for(RedactionSettings(), "default")
    assert [rule.name for rule in redactor.rules] == ["card", "ipv4", "ipv6"]
