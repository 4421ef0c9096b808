"""Payment card numbers: 13 to 19 digits of a known network that pass Luhn's test (ISO/IEC 7812-1, annex B)."""

import re

from logstream.redact.detector import START, Detector

_NETWORKS = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    rb"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    rb"|3[47]\d{13}"  # American Express
    rb"|3(?:0[0-59]|[68]\d)\d{11,16}"  # Diners Club
    rb"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}"  # Discover
    rb"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    rb"|62\d{14,17}|81\d{14,17}"  # UnionPay
    rb"|(?:50|5[6-8]|6[0-9])\d{11,17}"  # Maestro
    rb"|220[0-4]\d{12,15}"  # Mir
)
"""Numbers of other beginnings are no cards: times since the epoch have 13, 16 or 19 digits and begin with 1, and every
tenth number passes Luhn's test."""
_GOES_ON = frozenset({b".", b"-", b","})
_BEFORE = frozenset({b"_", *(b"%d" % digit for digit in range(10))})
_SINGLE = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLE = bytes.maketrans(b"0123456789", bytes(n * 2 - 9 * (n > 4) for n in range(10)))


def luhn(digits: bytes) -> bool:
    """Whether ASCII digits pass Luhn's test."""
    return (sum(digits[-1::-2].translate(_SINGLE)) + sum(digits[-2::-2].translate(_DOUBLE))) % 10 == 0


def is_card(digits: bytes) -> bool:
    return _NETWORKS.fullmatch(digits) is not None and luhn(digits)


def _check(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """The longest groups from the first on that are a card, unless they go on as a longer number."""
    text = data[start:end]
    first = min((at for at in (text.find(b" "), text.find(b"-")) if at >= 0), default=-1)
    following = start + first + 1 if first >= 0 else end
    if data[start - 1 : start] in _GOES_ON and data[max(0, start - 2) : start - 1] in _BEFORE:
        return following
    while True:
        if is_card(text.translate(None, b" -")) and not (b" " in text and b"-" in text) and not _goes_on(data, end):
            return start, end
        cut = max(text.rfind(b" "), text.rfind(b"-"))
        if cut < 0:
            return following
        text = text[:cut]
        end = start + cut


def _goes_on(data: bytes, end: int) -> bool:
    return data[end : end + 1] in _GOES_ON and data[end + 1 : end + 2].isdigit()


CARD = Detector(
    "card",
    "payment card numbers that pass Luhn's test",
    START + r"([2-68]\d{12,18}"
    r"|[2-68]\d{3}[ -]\d{4}[ -]\d{4}[ -]\d{1,4}(?:[ -]\d{1,3})?"
    r"|3\d{3}[ -]\d{6}[ -]\d{4,5}"
    r"|[56]\d{5}[ -]\d{7,13}"
    r"|[2-68]\d{7}[ -]\d{5,11})\b",
    check=_check,
    normal=lambda value: value.translate(None, b" -"),
)
