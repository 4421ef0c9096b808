"""The form of credentials."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.auth import keys


def test_a_key_is_parsed_to_its_id_and_digest() -> None:
    made = keys.make_key()
    assert re.fullmatch(r"ls_[a-z0-9]{12}_[0-9A-Za-z]{43}_[0-9a-f]{8}", made.text)
    parsed = keys.parse_key(made.text)
    assert parsed == (made.id, made.digest)
    secret = made.text.split("_")[2]
    assert made.digest == hashlib.sha256(secret.encode()).digest()


def test_keys_differ_and_do_not_print_their_secret() -> None:
    made = [keys.make_key() for _ in range(100)]
    assert len({key.text for key in made}) == len({key.id for key in made}) == 100
    assert made[0].text.split("_")[2] not in repr(made[0])
    token = keys.make_token(keys.SESSION_PREFIX)
    assert token.text not in repr(token)


# One of each for all examples: what may be drawn depends on it.
KEY = keys.make_key().text
TOKEN = keys.make_token(keys.SESSION_PREFIX).text


@given(st.data())
def test_one_changed_character_is_noticed(data: st.DataObject) -> None:
    text = KEY
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda c: c != text[at]))
    with pytest.raises(keys.MalformedCredential):
        keys.parse_key(text[:at] + other + text[at + 1 :])


def answer(text: str) -> str:
    with pytest.raises(keys.MalformedCredential) as caught:
        keys.parse_key(text)
    return str(caught.value)


ANSWERS = {answer(text) for text in ("", "x" * keys.KEY_LENGTH, keys.make_key().text[:-8] + "????????")}


@given(st.text(max_size=200))
def test_no_text_is_anything_but_malformed(text: str) -> None:
    with pytest.raises(keys.MalformedCredential) as caught:
        keys.parse_key(text)
    assert str(caught.value) in ANSWERS, "says what is wrong, and repeats nothing of the input"
    for prefix in (keys.SESSION_PREFIX, keys.TICKET_PREFIX):
        with pytest.raises(keys.MalformedCredential):
            keys.parse_token(text, prefix)


def test_a_credential_of_one_sort_is_no_other() -> None:
    session = keys.make_token(keys.SESSION_PREFIX)
    assert keys.parse_token(session.text, keys.SESSION_PREFIX) == session.digest
    with pytest.raises(keys.MalformedCredential):
        keys.parse_token(session.text, keys.TICKET_PREFIX)
    with pytest.raises(keys.MalformedCredential):
        keys.parse_key(session.text)


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_a_cut_token_is_malformed(cut: int) -> None:
    with pytest.raises(keys.MalformedCredential):
        keys.parse_token(keys.make_token(keys.TICKET_PREFIX).text[:-cut], keys.TICKET_PREFIX)


@pytest.mark.parametrize("wrapped", ["X", "Bearer X", "bearer X", "BEARER   X ", " X\t"])
def test_the_credential_of_a_header(wrapped: str) -> None:
    assert keys.credential_of(wrapped) == "X"


@given(st.data())
def test_one_changed_character_of_a_token_is_noticed(data: st.DataObject) -> None:
    text = TOKEN
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("_0aZ\u00e9").filter(lambda c: c != text[at]))
    with pytest.raises(keys.MalformedCredential):
        keys.parse_token(text[:at] + other + text[at + 1 :], keys.SESSION_PREFIX)


def test_digests_are_compared() -> None:
    assert keys.same(b"a" * 32, b"a" * 32)
    assert not keys.same(b"a" * 32, b"b" * 32)
