"""A template: the constant words of a kind of message, and where its values stand."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from logstream.query.patterns.shape import MASK


@dataclass(frozen=True)
class Template:
    """`atoms` are words, punctuation and masks in order; `text` is the same to read, with the spaces of a message."""

    atoms: tuple[str, ...]
    text: str

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits; the same for the same atoms, in every process and period."""
        return blake2b("\0".join(self.atoms).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def matches(self, message: str) -> bool:
        """Whether `message` has the template's constants in its order, and only values elsewhere.

        White space does not count: a message may have two spaces where another has one. Takes time linear in the
        message for each constant.
        """
        text = _squeezed(message)
        first, *others = self._constants
        if not others:
            return text == first
        if not text.startswith(first):
            return False
        *inner, last = others
        at = len(first)
        for constant in inner:
            found = text.find(constant, at)
            if found < 0:
                return False
            at = found + len(constant)
        return len(text) - at >= len(last) and text.endswith(last)

    @cached_property
    def _constants(self) -> tuple[str, ...]:
        return tuple(_squeezed("".join(self.atoms)).split(MASK))


def _squeezed(text: str) -> str:
    return "".join(text.split())
