"""Quantities as Kubernetes writes them: `500m`, `2Gi`, `1e3`."""

import re
from decimal import Decimal

MAX_LENGTH = 32
_NUMBER = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
# Kubernetes' own pattern, without a sign: nothing here can be negative.
PATTERN = rf"^{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))?$"
_PARTS = re.compile(r"([0-9.]+)([KMGTPE]i|[numkMGTPE])?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def check_quantity(value: str | int) -> str | int:
    """Raises ValueError."""
    if isinstance(value, int) and value < 0:
        raise ValueError("must not be negative")
    if isinstance(value, str) and (len(value) > MAX_LENGTH or not re.fullmatch(PATTERN, value)):
        raise ValueError("must be a quantity, as 500m or 2Gi")
    return value


def amount(quantity: str | int) -> Decimal:
    """The number that a checked quantity stands for."""
    text = str(quantity)
    found = _PARTS.fullmatch(text)
    if found is None:
        return Decimal(text)
    number, suffix = Decimal(found[1]), found[2] or ""
    if suffix in _BINARY:
        return number * Decimal(1024) ** (_BINARY.index(suffix) + 1)
    return number.scaleb(_DECIMAL[suffix])
