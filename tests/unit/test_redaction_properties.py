"""What holds for any text: no planted secret is left, redacting twice is redacting once, bounds are kept."""

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from logstream.collector.decode.json_body import JsonDecoder
from logstream.record import Batch, Decoded, Level, Record
from logstream.redact import Redactor, redactor_for
from logstream.redact.card import luhn
from logstream.settings import IngestLimits, RedactionRule, RedactionSettings

LIMITS = IngestLimits()
SETTINGS = RedactionSettings(
    rules=(
        RedactionRule(name="order", pattern=r"order-(\d+)", action="hash"),
        RedactionRule(detector="card", action="keep_last"),
        RedactionRule(detector="email", action="hash"),
    ),
    detectors=("all",),
    hash_key=SecretStr("0123456789abcdef"),
)
REDACTOR = redactor_for(SETTINGS, "default", LIMITS)
MASKING = redactor_for(RedactionSettings(detectors=("all",), rules=()), "default", LIMITS)

alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def cards() -> st.SearchStrategy[str]:
    def make(body: str, shape: str) -> str:
        number = next(body + str(digit) for digit in range(10) if luhn(f"{body}{digit}".encode()))
        return shape.join((number[:4], number[4:8], number[8:12], number[12:]))

    bodies = st.builds(
        lambda start, rest: start + rest, st.sampled_from(["4", "51", "55", "6011"]), st.text("0123456789", min_size=14)
    )
    return st.builds(make, bodies.map(lambda text: text[:15]), st.sampled_from(["", " ", "-"]))


def token(prefix: str, size: int) -> st.SearchStrategy[str]:
    return st.text(alphanumeric, min_size=size, max_size=size).map(lambda text: prefix + text)


emails = st.builds(
    lambda user, host: f"{user}@{host}.example.com",
    st.text("abcdefghijkl0123456789._+", min_size=1, max_size=12).filter(lambda text: text.strip(".") == text),
    st.text("abcdefghijkl", min_size=1, max_size=10),
)
keys = st.one_of(
    token("ghp_", 36), token("sk_live_", 24), token("AIza", 35), token("glpat-", 20), token("xoxb-", 24),
    token("npm_", 36), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=16).map("AKIA".__add__),
    st.builds(
        lambda one, two, three: f"ls_{one}_{two}_{three}",
        st.text("abcdef0123456789", min_size=12, max_size=12), st.text(alphanumeric, min_size=43, max_size=43),
        st.text("abcdef0123456789", min_size=8, max_size=8),
    ),
)  # fmt: skip
jwts = st.builds(
    lambda body, seal: f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.{seal}",
    st.binary(min_size=8, max_size=40), st.text(alphanumeric, min_size=20, max_size=43),
)  # fmt: skip
pems = st.binary(min_size=40, max_size=120).map(
    lambda data: f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(data).decode()}\n-----END PRIVATE KEY-----"
)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6, network="2001:db8::/32").map(str)
secrets = st.one_of(cards(), emails, keys, jwts, pems, ipv4, ipv6)

# What may stand beside a secret: not a letter or digit, which would make it another word.
edges = st.sampled_from(
    ["", " ", "\n", '"', "'", "(", ")", "=", ",", ";", "<", ">", "|", "…", "→", "\t", "\u00a0", "é", "字"]
)
noise = st.text(max_size=40)
fences = st.sampled_from([" ", "\n", '"', "(", "|", "\t", "  "])


@given(noise, fences, secrets, fences, noise)
@settings(max_examples=300, deadline=None)
def test_a_secret_in_any_text_is_gone(before: str, left: str, secret: str, right: str, after: str) -> None:
    text = MASKING.explain(before + left + secret + right + after)[0].data.decode("utf-8", "surrogatepass")
    assert secret not in text


@given(secrets, secrets, edges, edges, edges)
@settings(max_examples=300, deadline=None)
def test_secrets_side_by_side_are_gone(one: str, two: str, a: str, b: str, c: str) -> None:
    """Also where one stands right beside the other, as far as a fence between them shows where it ends."""
    text = f"{a}{one} {b} {two}{c}"
    left = MASKING.explain(text)[0].data.decode()
    assert one not in left
    assert two not in left


passwords = st.text(alphanumeric + "!#%()*+./:<>?@^_~", min_size=4, max_size=30).filter(
    lambda text: text.lower() not in {"null", "none", "true", "false", "undefined"} and text.strip("*.xX- ") != ""
)


@given(
    passwords, st.sampled_from(['"password":"%s"', "password=%s", "PASSWORD: %s;", r"\"db_passwd\":\"%s\"", "pwd='%s'"])
)
@settings(max_examples=200, deadline=None)
def test_a_password_behind_its_name_is_gone(password: str, form: str) -> None:
    if form.startswith("pwd=") and password.startswith("/"):
        return
    left = MASKING.explain("login {" + form % password + "} ok")[0].data.decode()
    assert password not in left.replace("[secret]", "").replace("password", "").replace("PASSWORD", "")


nested: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abcdef.-", min_size=1, max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def plant(value: Any, secret: str) -> Any:
    """`value` with the secret in every place where a text can be."""
    if isinstance(value, dict):
        return {key: plant(inner, secret) for key, inner in value.items()} or {"k": secret}
    if isinstance(value, list):
        return [plant(inner, secret) for inner in value] or [secret]
    return f"{value} {secret}\nrest"


@given(nested, secrets.filter(lambda secret: "\n" not in secret), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_secret_in_nested_json_is_gone_after_flattening(value: Any, secret: str, at_top: bool) -> None:
    planted = plant(value, secret)
    body = {"message": f"a {secret}", "metadata": {"m": planted}} | ({"top": planted} if at_top else {})
    decoded = JsonDecoder(LIMITS).decode(json.dumps(body).encode(), now=1)
    assert len(decoded.batch) == 1
    [kept] = MASKING.redact(decoded).decoded.batch
    assert secret not in kept.message
    assert not [key for key, text in kept.metadata.items() if secret in text]


texts = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.one_of(
            secrets,
            st.sampled_from(["[card]", "[secret]", "[card:1111]", "[", "]", "password=", "Bearer ", "order-7"]),
            st.text("0123456789 .-:@[]=\n", max_size=12),
        ),
        max_size=6,
    ).map("".join),
)  # fmt: skip


@given(texts, texts)
@settings(max_examples=500, deadline=None)
def test_redacting_twice_is_redacting_once(message: str, value: str) -> None:
    sent = Record(1, "s", Level.INFO, message, {"k": value, "token": value})
    [once] = REDACTOR.redact(Decoded(Batch.of([sent]))).decoded.batch
    again = REDACTOR.redact(Decoded(Batch.of([once])))
    assert list(again.decoded.batch) == [once]
    assert not again.found


@given(st.lists(st.tuples(texts, texts), max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_batch_is_redacted_as_its_records_are(rows: list[tuple[str, str]]) -> None:
    records = [Record(1, "s", Level.INFO, message, {"k": value}) for message, value in rows]
    together = list(REDACTOR.redact(Decoded(Batch.of(records))).decoded.batch)
    alone = [next(iter(REDACTOR.redact(Decoded(Batch.of([record]))).decoded.batch)) for record in records]
    assert together == alone


@given(texts)
@settings(max_examples=200, deadline=None)
def test_positions_are_in_order_and_within_the_text(text: str) -> None:
    scrubbed, _ = REDACTOR.explain(text)
    size, at = len(text.encode("utf-8", "surrogatepass")), 0
    for start, end, _, _ in scrubbed.findings:
        assert at <= start < end <= size
        at = end


SIZE = LIMITS.max_message_bytes
HOSTILE = {
    "digits": "4" * SIZE,
    "groups of digits": "4111 " * (SIZE // 5),
    "almost cards": "4111-1111-1111-1112 " * (SIZE // 20),
    "cards": "4111111111111111 " * (SIZE // 17),
    "at signs": "@" * SIZE,
    "almost addresses": "a@" * (SIZE // 2),
    "addresses": "a@b.cc " * (SIZE // 7),
    "dots": "1." * (SIZE // 2),
    "colons": ":" * SIZE,
    "hexadecimal": "a:" * (SIZE // 2),
    "zeros": "::1 " * (SIZE // 4),
    "brackets": "[" * SIZE,
    "marks": "[card]" * (SIZE // 6),
    "marks and cards": "[card]4111111111111111" * (SIZE // 22),
    "begin": "-----BEGIN PRIVATE KEY-----" * (SIZE // 27),
    "names": "password=" * (SIZE // 9),
    "quotes": 'password="' * (SIZE // 10),
    "escapes": "password=" + '\\"' * (SIZE // 2 - 8),
    "tokens": "eyJ" * (SIZE // 3),
    "schemes": "://a:" * (SIZE // 5),
    "percents": "%40" * (SIZE // 3),
    "wide": "字" * (SIZE // 3),
    "nested": '{"a":' * (SIZE // 5),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_bounded_time_and_space(name: str) -> None:
    """Generous: the slowest takes half a second; what grows with the square of the length would take hours."""
    text = HOSTILE[name]
    begin = time.process_time()
    [once] = REDACTOR.redact(Decoded(Batch.of([Record(1, "s", Level.INFO, text, {})]))).decoded.batch
    assert time.process_time() - begin < 20
    assert len(once.message.encode()) <= SIZE
    [twice] = REDACTOR.redact(Decoded(Batch.of([once]))).decoded.batch
    assert twice.message == once.message


def test_lone_surrogates_are_no_trouble() -> None:
    text = MASKING.explain("\ud800 ada@example.com")[0].data.decode("utf-8", "surrogatepass")
    assert text == "\ud800 [email]"


def redactor(**rule: Any) -> Redactor:
    return redactor_for(RedactionSettings(rules=(RedactionRule(**rule),), detectors=()), "default")


@pytest.mark.parametrize("pattern", [r"\w", r"\b\w", r".", r"a|\]", r"\[", r"p+", r"\S+$", r"^."])
@given(st.text("ap[]: \n1", max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_pattern_comes_to_rest(pattern: str, text: str) -> None:
    one = redactor(name="p", pattern=pattern)
    once = one.explain(text)[0].data.decode()
    assert one.explain(once)[0].data.decode() == once
