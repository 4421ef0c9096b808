"""What credentials look like: made, recognised and compared here, without I/O.

    API key   ls_<id>_<secret>_<checksum>    id: 12 of a-z0-9, public, safe to log
    session   lss_<secret>_<checksum>        what a login answers with
    ticket    lst_<secret>_<checksum>        one WebSocket or SSE connection of a browser

secret: 256 random bits in 43 characters of 0-9A-Za-z. checksum: CRC-32 of all before it, eight hex digits; it
tells a cut or mistyped credential from an unknown one, and lets secret scanners tell a find from noise. What is
kept is the SHA-256 of the secret; with 256 bits of entropy a slow hash would add nothing.
"""

import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

KEY_PREFIX = "ls_"
SESSION_PREFIX = "lss_"
TICKET_PREFIX = "lst_"

_ID_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 12
_SECRET_LENGTH = 43  # 62^43 > 2^256
_CHECKSUM_LENGTH = 8
_SECRET_AT = len(KEY_PREFIX) + ID_LENGTH + 1
_KEY_CHECKSUM_AT = _SECRET_AT + _SECRET_LENGTH + 1
KEY_LENGTH = _KEY_CHECKSUM_AT + _CHECKSUM_LENGTH
TOKEN_LENGTH = len(SESSION_PREFIX) + _SECRET_LENGTH + 1 + _CHECKSUM_LENGTH


class MalformedCredential(ValueError):
    """Not a credential of ours; the message is a sentence for the caller and repeats nothing of the input."""


class ParsedKey(NamedTuple):
    """A well-formed key: its public id, and the SHA-256 of its secret."""

    id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `text` is the only copy of the secret."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A session or ticket just made. `text` is the only copy of the secret."""

    text: str = field(repr=False)
    digest: bytes = field(repr=False)


def new_id() -> str:
    """A random public identifier (62 bits), safe to log."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_LENGTH))


def _new_secret() -> str:
    number = int.from_bytes(secrets.token_bytes(32), "big")
    digits = []
    for _ in range(_SECRET_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_SECRET_ALPHABET[digit])
    return "".join(digits)


def _seal(body: str) -> str:
    return f"{body}_{crc32(body.encode()):08x}"


def make_key() -> NewKey:
    """A new API key."""
    key_id, secret = new_id(), _new_secret()
    return NewKey(key_id, _seal(f"{KEY_PREFIX}{key_id}_{secret}"), hashlib.sha256(secret.encode()).digest())


def make_token(prefix: str) -> NewToken:
    """A new session or ticket (`SESSION_PREFIX`, `TICKET_PREFIX`)."""
    secret = _new_secret()
    return NewToken(_seal(prefix + secret), hashlib.sha256(secret.encode()).digest())


def _check(raw: bytes, checksum_at: int) -> None:
    if b"%08x" % crc32(raw[: checksum_at - 1]) != raw[checksum_at:]:
        raise MalformedCredential("its checksum does not match: it was mistyped or cut")


def parse_key(text: str) -> ParsedKey:
    """The id and digest of a well-formed key.

    Raises MalformedCredential; nothing is looked up, so nothing is learned about which keys exist.
    """
    if len(text) != KEY_LENGTH or not text.isascii():
        raise MalformedCredential(f"a key has {KEY_LENGTH} characters and looks like ls_<id>_<secret>_<checksum>")
    raw = text.encode()
    # 95 is "_"
    if raw[:3] != b"ls_" or raw[_SECRET_AT - 1] != 95 or raw[_KEY_CHECKSUM_AT - 1] != 95:
        raise MalformedCredential("a key looks like ls_<id>_<secret>_<checksum>")
    _check(raw, _KEY_CHECKSUM_AT)
    return ParsedKey(
        text[len(KEY_PREFIX) : _SECRET_AT - 1], hashlib.sha256(raw[_SECRET_AT : _KEY_CHECKSUM_AT - 1]).digest()
    )


def parse_token(text: str, prefix: str) -> bytes:
    """The SHA-256 of the secret of a well-formed session or ticket. Raises MalformedCredential."""
    if len(text) != TOKEN_LENGTH or not text.isascii() or not text.startswith(prefix):
        raise MalformedCredential(f"it has {TOKEN_LENGTH} characters and looks like {prefix}<secret>_<checksum>")
    raw = text.encode()
    checksum_at = len(raw) - _CHECKSUM_LENGTH
    if raw[checksum_at - 1] != 95:
        raise MalformedCredential(f"it looks like {prefix}<secret>_<checksum>")
    _check(raw, checksum_at)
    return hashlib.sha256(raw[len(prefix) : checksum_at - 1]).digest()


def credential_of(authorization: str) -> str:
    """The credential in an Authorization header's value: bare, or after the scheme Bearer in any case."""
    text = authorization.strip(" \t")
    scheme, _, rest = text.partition(" ")
    return rest.strip(" \t") if scheme.lower() == "bearer" else text


def same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)
