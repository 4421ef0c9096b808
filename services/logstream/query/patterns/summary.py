"""The patterns of a period, with counts that can be compared with another period's."""

from collections.abc import Mapping
from dataclasses import dataclass

from logstream.query.patterns.merge import learn
from logstream.query.patterns.shape import Seen
from logstream.query.patterns.template import Template

EXAMPLES = 3
"""Examples kept of a pattern, of its most frequent shapes."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A template with its number of messages, how many there were in the period before, and example messages."""

    template: Template
    count: int
    before: int
    examples: tuple[str, ...]


def summarise(shapes: Mapping[str, Seen], before: Mapping[str, Seen] | None = None) -> list[Pattern]:
    """The patterns of `shapes`, the most frequent first.

    Which words are values is learnt from both periods together, so that a kind of message has one template in
    both. A pattern that is only in `before` has a count of 0.
    """
    before = before or {}
    members: dict[Template, list[str]] = {}
    for shape, template in learn(shapes.keys() | before.keys()).items():
        members.setdefault(template, []).append(shape)
    patterns = []
    for template, own in members.items():
        count = sum(shapes[shape].count for shape in own if shape in shapes)
        past = sum(before[shape].count for shape in own if shape in before)
        frequent = sorted(own, key=lambda shape: (-shapes[shape].count if shape in shapes else 0, shape))
        examples = tuple((shapes.get(shape) or before[shape]).example for shape in frequent[:EXAMPLES])
        patterns.append(Pattern(template, count, past, examples))
    return sorted(patterns, key=lambda pattern: (-pattern.count, -pattern.before, pattern.template.text))
