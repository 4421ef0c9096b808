"""What stands in the place of what was taken out: [name], [name:last four], [name:hash]."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from logstream.redact.rule import Rule

_HASH_BYTES = 10
"""80 bits: two of a million million values share a hash with a chance of less than one half."""
_LETTERS = "ghijkmnpqrstvwxz"
"""Sixteen letters, none of which is a digit of a number: no detector takes a hash for something else."""
_KEPT = 4
_LEAST_TO_KEEP_OF = 12


class Marker:
    """Makes marks, and knows those it could have made. hash_key: of HMAC-SHA-256."""

    def __init__(self, rules: Sequence[Rule], hash_key: bytes) -> None:
        self._key = hash_key
        self._plain = {rule.name: b"[" + rule.name.encode() + b"]" for rule in rules}
        names = "|".join(sorted(rule.name for rule in rules))
        self._marks = re.compile(
            rf"\[(?:{names})(?::(?:[A-Za-z0-9]{{{_KEPT}}}|[{_LETTERS}]{{{_HASH_BYTES * 2}}}))?\]".encode()
        )

    def mark(self, rule: Rule, value: bytes, *, whole: bool) -> bytes:
        """What stands in the place of `value`. whole: it is what the rule found, not joined with other findings."""
        detail = b""
        if not whole or rule.action not in ("hash", "keep_last"):
            return self._plain[rule.name]
        if rule.action == "hash":
            detail = b":" + self.hash(rule.normal(value))
        else:
            text = bytes(byte for byte in value if chr(byte).isalnum() and byte < 128)
            if len(text) >= _LEAST_TO_KEEP_OF:
                detail = b":" + text[-_KEPT:]
        return b"[" + rule.name.encode() + detail + b"]"

    def hash(self, value: bytes) -> bytes:
        digest = hmac.digest(self._key, value, hashlib.sha256)[:_HASH_BYTES]
        return "".join(_LETTERS[int(digit, 16)] for digit in digest.hex()).encode()

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where marks stand in `data`."""
        if b"[" not in data:
            return []
        return [match.span() for match in self._marks.finditer(data)]
