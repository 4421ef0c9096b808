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
_DOUBLED = bytes(n * 2 - 9 * (n > 4) for n in range(10))
_SEPARATED = re.compile(rb"[ -]")


def luhn(digits: bytes) -> bool:
    """Whether ASCII digits pass Luhn's test."""
    total = sum(digits[-1::-2]) - 48 * len(digits[-1::-2])
    return (total + sum(_DOUBLED[digit - 48] for digit in digits[-2::-2])) % 10 == 0


def is_card(digits: bytes) -> bool:
    return _NETWORKS.fullmatch(digits) is not None and luhn(digits)


def _check(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """The longest groups from the first on that are a card, unless they go on as a longer number."""
    before, two_before = data[start - 1 : start], data[max(0, start - 2) : max(0, start - 1)]
    first = _SEPARATED.search(data, start, end)
    following = first.end() if first else end
    if before in (b".", b"-", b",") and (two_before.isdigit() or two_before == b"_"):
        return following
    separators = {data[at : at + 1] for at in range(start, end) if data[at] in b" -"}
    while True:
        if len(separators) <= 1 and is_card(data[start:end].translate(None, b" -")) and not _goes_on(data, end):
            return start, end
        cut = max(data.rfind(b" ", start, end), data.rfind(b"-", start, end))
        if cut < 0:
            return following
        end = cut
        separators = {data[at : at + 1] for at in range(start, end) if data[at] in b" -"}


def _goes_on(data: bytes, end: int) -> bool:
    return data[end : end + 1] in (b".", b"-", b",") and data[end + 1 : end + 2].isdigit()


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
