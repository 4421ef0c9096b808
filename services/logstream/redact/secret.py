"""Credentials: by the form their issuers gave them, by the header they come in, and by the name before them."""

import base64
import binascii

from logstream.redact.detector import START, Detector


def _has_digit(value: bytes) -> bool:
    return any(48 <= byte < 58 for byte in value)


def _check_key(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """`sk-` begins words, too: a key has digits."""
    value = data[start:end]
    return end if value.startswith(b"sk-") and not _has_digit(value) else (start, end)


API_KEY = Detector(
    "api_key",
    "keys of LogStream, AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI and others",
    START
    + r"("
    + "|".join(
        (
            r"ls_[a-z0-9]{12}_[0-9A-Za-z]{43}_[0-9a-f]{8}|ls[st]_[0-9A-Za-z]{43}_[0-9a-f]{8}",
            r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{16}\b",
            r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,244}",
            r"gl(?:pat|ptt|rt|dt|cbt|ft|oas|agent|imt|ffct|soat)-[A-Za-z0-9_.\-]{20,}",
            r"xox[abeoprs]-[A-Za-z0-9\-]{10,}|xapp-[A-Za-z0-9\-]{10,}",
            r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9_/\-]{10,}",
            r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,}",
            r"AIza[0-9A-Za-z_\-]{35}|GOCSPX-[0-9A-Za-z_\-]{28}|ya29\.[0-9A-Za-z_\-]{20,}",
            r"sk-[A-Za-z0-9_\-]{20,}",
            r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,}|hf_[A-Za-z0-9]{30,}|do[opr]_v1_[0-9a-f]{64}",
            r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
        )
    )
    + r")",
    check=_check_key,
)


JWT = Detector("jwt", "JSON web tokens", START + r"(eyJ[A-Za-z0-9_\-]{5,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*){0,3})")

PRIVATE_KEY = Detector(
    "private_key",
    "private keys in PEM, from BEGIN to END or to the end of the text",
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
    hint=r"PRIVATE KEY",
)

URL_PASSWORD = Detector(
    "url_password",
    "passwords in URLs: scheme://user:password@host",
    r"://[^\s/?#@:\"'<>]*:([^\s/\"'<>]+)@",
)


def _check_bearer(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """`Basic` is followed by base64 of user:password, `Bearer` by what is no word: both are words of prose, too."""
    value = data[start:end]
    if data[max(0, start - 20) : start].rstrip(b" +\t").removesuffix(b"%20")[-5:].lower() == b"basic":
        try:
            return (start, end) if b":" in base64.b64decode(value + b"=" * (-len(value) % 4)) else end
        except (binascii.Error, ValueError):
            return end
    return (start, end) if _has_digit(value) or len(value) >= 20 else end


BEARER = Detector(
    "bearer",
    "tokens behind Bearer, credentials behind Basic",
    r"(?i)\b(?:bearer|basic)(?:\s|%20|\+){1,3}([a-z0-9._~+/\-]{6,}=*)",
    check=_check_bearer,
)

_KEY_OF = r"(?:secret|private|api|access|account|encryption|signing|shared|storage|master|auth)[_.\-]?key"
_NAMES = (
    r"(?:pass(?:word|wd|phrase|code)\d?|pwd|secret|token|credentials?"
    rf"|{_KEY_OF}|(?:set-)?cookie|jsessionid|phpsessid|authorization|cvv2?|cvc2?)"
)
_HEADERS = r"(?:authorization|(?:set-)?cookie)"
_QUOTE = r"""(?:\\*["'])?"""
_IS = rf"""{_QUOTE}\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}"""
_SCHEME = r"(?:(?:bearer|basic|token|apikey|negotiate)\s+)?"
_VALUE = (
    r"(?:\\+\"((?:[^\"\\]|\\\\\\\"|\\[^\"])*)"  # JSON in JSON
    r"|\"((?:[^\"\\]|\\.)*)"
    r"|'((?:[^'\\]|\\.)*)"
    r"|([^\s\"'&,;\\]+))"
)
_NO_SECRETS = frozenset({b"null", b"none", b"nil", b"true", b"false", b"undefined", b"yes", b"no", b"{", b"[", b"{}"})


def is_no_secret(value: bytes) -> bool:
    """Whether a value says only that there is, or is not, a secret, or is masked already."""
    masked = value.strip(b"*.xX- " if len(value) > 2 else b"*")
    return not masked or value.lower() in _NO_SECRETS


def _check_secret(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    value = data[start:end]
    if is_no_secret(value):
        return end
    before = data[max(0, start - 32) : start].lower()
    if before.rstrip(b" ").endswith(b"token:"):
        # Parsers say "unexpected token: X"; what a program calls a token has digits or is long.
        return (start, end) if _has_digit(value) or len(value) >= 16 else end
    if before.endswith(b"pwd=") and value.startswith(b"/"):
        return end  # the working directory
    return start, end


SECRET = Detector(
    "secret",
    "what follows password=, token=, secret=, Authorization: and the like; metadata under such keys",
    rf"(?i)(?:{_HEADERS}{_IS}(?:digest|aws4-hmac-sha256)\s([^\r\n]+)"
    rf"|cookie:\s{{0,4}}([^\r\n\"']+)"
    rf"|{_NAMES}{_IS}{_SCHEME}{_VALUE})",
    hint=rf"(?i){_NAMES}{_IS}\S",
    check=_check_secret,
    keys=rf"(?:{_NAMES}s?|[._\-]auth|^auth)$|(?:password|secret|credential|cookie|authorization)s?\.",
)
