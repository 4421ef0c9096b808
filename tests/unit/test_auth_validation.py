"""What people type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.auth import validation
from logstream.errors import InvalidValue


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("admin@localhost", "admin@localhost"),
        ("a+b.c@x.y.z", "a+b.c@x.y.z"),
        ("e\u0301@example.com", "\u00e9@example.com"),
    ],
)
def test_an_address_has_one_spelling(typed: str, address: str) -> None:
    assert validation.email(typed) == address


@pytest.mark.parametrize("typed", ["", "ada", "@example.com", "ada@", "a b@x.y", "a@b@c", "a@x..y", "a@x.", "a\0@x.y"])
def test_what_is_no_address(typed: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        validation.email(typed)
    assert caught.value.field == "email"


def test_limits_are_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        validation.email("a" * 300 + "@example.com")
    assert caught.value.limit == 254
    with pytest.raises(InvalidValue) as caught:
        validation.password("short", field="new_password")
    assert (caught.value.field, caught.value.limit) == ("new_password", 10)
    with pytest.raises(InvalidValue) as caught:
        validation.password("x" * 257)
    assert caught.value.limit == 256
    with pytest.raises(InvalidValue) as caught:
        validation.name(" ")
    assert caught.value.limit == 100


@pytest.mark.parametrize("typed", ["aaaaaaaaaaaa", "ada@example.com", "line\nbreak and more", "lone \ud800 surrogate"])
def test_bad_passwords_are_not_repeated(typed: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        validation.password(typed, email="ada@example.com")
    assert typed not in caught.value.message


@given(st.text(max_size=300))
def test_an_accepted_password_is_typed_the_same_again(text: str) -> None:
    try:
        accepted = validation.password(text)
    except InvalidValue:
        return
    assert validation.typed_password(text) == accepted
    accepted.encode()


@given(st.text(max_size=300))
def test_validation_is_total_and_stable(text: str) -> None:
    for check in (validation.email, validation.name):
        try:
            once = check(text)
        except InvalidValue:
            continue
        assert check(once) == once
        once.encode()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_rate_is_positive_and_finite(value: float) -> None:
    with pytest.raises(InvalidValue):
        validation.rate(value, field="records_per_second")


def test_no_rate_is_no_limit() -> None:
    assert validation.rate(None, field="records_per_second") is None
    assert validation.rate(0.5, field="records_per_second") == 0.5
