"""Messages to shapes: the fast pass over every line."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

MASK = "<*>"
HEAD_CHARACTERS = 1024
"""A longer message is cut here: what tells messages apart stands in front, and the work per line stays bounded."""
VALUE_PATTERN = r"[A-Za-z_.-]*[0-9][0-9A-Za-z_.-]*"
"""A word with a digit in it, in RE2's syntax: numbers, addresses, hexadecimal ids, UUIDs, times. A leftmost match
starts where the word does."""

# The same words. The look-behind and the possessive repetition, which RE2 needs neither, keep Python's matcher
# linear in a long word without digits.
_VALUE = re.compile(r"(?<![0-9A-Za-z_.-])[A-Za-z_.-]*+[0-9][0-9A-Za-z_.-]*+")
_BLANKS = " \t\n\v\f\r"
_CHUNK = 10_000
_SEPARATOR = "\0"


@dataclass(slots=True)
class Seen:
    """How many messages had a shape, and the first of them."""

    count: int
    example: str


def head_of(message: str) -> str:
    """The part of `message` that decides its shape: its first line, at most HEAD_CHARACTERS, a mask for the rest."""
    if len(message) <= HEAD_CHARACTERS and "\n" not in message:
        return message
    text = message.strip(_BLANKS)
    end = text.find("\n", 0, HEAD_CHARACTERS)
    if end < 0:
        if len(text) <= HEAD_CHARACTERS:
            return text
        # Not in the middle of a word: half a value would make a shape of its own.
        end = max(text.rfind(" ", 0, HEAD_CHARACTERS), 0)
    return f"{text[:end]} {MASK}"


def shape_of(message: str) -> str:
    """`message` with every value that has a digit replaced by a mask."""
    return _VALUE.sub(MASK, head_of(message))


def shape_sql(message: str) -> str:
    """`shape_of` as an expression of ClickHouse over the String expression `message`, for
    `SELECT shape, count(), any(message) GROUP BY shape`.
    """
    text = f"trim(BOTH ' \\t\\n\\v\\f\\r' FROM {message})"
    cut = f"substringUTF8({text}, 1, {HEAD_CHARACTERS})"
    head = (
        f"multiIf(lengthUTF8({message}) <= {HEAD_CHARACTERS} AND position({message}, '\\n') = 0, {message}, "
        f"position({cut}, '\\n') > 0, concat(substring({cut}, 1, position({cut}, '\\n') - 1), ' {MASK}'), "
        f"lengthUTF8({text}) <= {HEAD_CHARACTERS}, {text}, "
        f"concat(if(position({cut}, ' ') = 0, '', replaceRegexpOne({cut}, ' [^ ]*$', '')), ' {MASK}'))"
    )
    return f"replaceRegexpAll({head}, '{VALUE_PATTERN}', '{MASK}')"


class ShapeCounter:
    """Counts the shapes of messages; keeps at most `limit` of them and one example each.

    Messages of further shapes are only counted, in `rest`. As long as `rest` is 0 the counts do not depend on the
    order of the messages (the examples are the first seen).
    """

    def __init__(self, limit: int = 10_000) -> None:
        if limit < 1:
            raise ValueError(f"limit: {limit} is less than 1")
        self.limit = limit
        self.rest = 0
        self.shapes: dict[str, Seen] = {}

    def add(self, messages: Iterable[str]) -> None:
        """Count `messages`, reading them in chunks."""
        source = iter(messages)
        while chunk := list(islice(source, _CHUNK)):
            self._add_chunk(chunk)

    def _add_chunk(self, messages: list[str]) -> None:
        shapes = _shapes(messages)
        counts = Counter(shapes)
        new = counts.keys() - self.shapes.keys()
        if new:
            for shape, message in zip(shapes, messages, strict=True):
                if shape in new:
                    new.discard(shape)
                    if len(self.shapes) < self.limit:
                        self.shapes[shape] = Seen(0, message)
                    if not new:
                        break
        for shape, count in counts.items():
            seen = self.shapes.get(shape)
            if seen is None:
                self.rest += count
            else:
                seen.count += count


def _shapes(messages: Sequence[str]) -> list[str]:
    """The shapes of `messages`, masked in one call, which is twice as fast as one call a message."""
    text = _SEPARATOR.join(messages)
    if "\n" not in text and max(map(len, messages)) <= HEAD_CHARACTERS:
        shapes = _VALUE.sub(MASK, text).split(_SEPARATOR)
        if len(shapes) == len(messages):
            return shapes
    return [shape_of(message) for message in messages]
