"""What people type, checked with an answer that names the field and the limit."""

import re
import unicodedata

from logstream.auth.principal import Quota
from logstream.errors import InvalidValue

MAX_EMAIL = 254  # RFC 5321, 4.5.3.1.3
MIN_PASSWORD = 10
MAX_PASSWORD = 256
MAX_NAME = 100

# No more than "something@something": whether an address exists only a message to it could tell.
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@.]+(\.[^\s@.]+)*")


def _has_control(text: str) -> bool:
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def email(text: str) -> str:
    """The address in lower case and NFC. Raises InvalidValue."""
    if len(text) > MAX_EMAIL:
        raise InvalidValue(f"email must not be longer than {MAX_EMAIL} characters", field="email", limit=MAX_EMAIL)
    address = unicodedata.normalize("NFC", text.strip()).lower()
    if _has_control(address) or not _EMAIL.fullmatch(address):
        raise InvalidValue("email must look like name@example.com", field="email")
    return address


def password(text: str, *, email: str = "", field: str = "password") -> str:
    """A new password in the form that is hashed (`typed_password`). Raises InvalidValue; never repeats it."""
    normal = typed_password(text)
    if len(text) > MAX_PASSWORD:
        raise InvalidValue(
            f"{field} must not be longer than {MAX_PASSWORD} characters", field=field, limit=MAX_PASSWORD
        )
    if _has_control(text):
        raise InvalidValue(f"{field} must not have control characters", field=field)
    if len(normal) < MIN_PASSWORD:
        raise InvalidValue(f"{field} must have at least {MIN_PASSWORD} characters", field=field, limit=MIN_PASSWORD)
    if len(set(normal)) < 4:
        raise InvalidValue(f"{field} must have at least 4 different characters", field=field, limit=4)
    if email and normal.lower() in {email, email.partition("@")[0]}:
        raise InvalidValue(f"{field} must not be the e-mail address", field=field)
    return normal


def typed_password(text: str) -> str:
    """What somebody typed, in the form that is hashed: NFKC, so that two keyboards type the same.

    Empty, which is nobody's password, when it could not have been accepted as a new one.
    """
    if len(text) > MAX_PASSWORD or _has_control(text):
        return ""
    return unicodedata.normalize("NFKC", text)


def name(text: str, *, field: str = "name") -> str:
    """A name for people, without space around it. Raises InvalidValue."""
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_NAME:
        raise InvalidValue(f"{field} must have 1 to {MAX_NAME} characters", field=field, limit=MAX_NAME)
    if _has_control(stripped):
        raise InvalidValue(f"{field} must not have control characters", field=field)
    return stripped


def rate(value: float | None, *, field: str) -> float | None:
    """A quota: a positive finite number, or None for no limit. Raises InvalidValue."""
    if value is not None and not 0 < value <= 1e15:
        raise InvalidValue(f"{field} must be greater than 0, or null for no limit", field=field, limit=0)
    return value


def quota(value: Quota) -> Quota:
    """Both rates as in `rate`. Raises InvalidValue."""
    rate(value.records_per_second, field="records_per_second")
    rate(value.bytes_per_second, field="bytes_per_second")
    return value
