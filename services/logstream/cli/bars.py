"""Bars of a chart. Pure."""

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉"
PALETTE = ("36", "35", "33", "32", "34", "31", "96", "95")
"""ANSI colours of series without one of their own."""
GLYPHS = "█▓▒░▚▞▤▥"
"""Fills of series where there are no colours."""


def bar(share: float, width: int) -> str:
    """A bar of `share` (0 to 1) of `width` cells, exact to an eighth; what is above 0 is always seen."""
    if share <= 0:
        return ""
    whole, part = divmod(round(min(share, 1.0) * width * 8), 8)
    return ("█" * whole + _EIGHTHS[part].strip()) or "▏"


def cells(counts: Sequence[int], most: int, width: int) -> list[int]:
    """How many of `width` cells each part of a stacked bar gets, when `most` fills all of them.

    Together they are as long as the total demands; as far as there are cells, no part above 0 is without one.
    """
    total = sum(counts)
    if total <= 0 or most <= 0:
        return [0] * len(counts)
    length = max(1, round(min(total / most, 1.0) * width))
    exact = [count * length / total for count in counts]
    found = [int(part) for part in exact]
    for index in sorted(range(len(counts)), key=lambda i: found[i] - exact[i])[: length - sum(found)]:
        found[index] += 1
    for index, count in enumerate(counts):
        largest = max(range(len(found)), key=found.__getitem__)
        if count > 0 and not found[index] and found[largest] > 1:
            found[largest] -= 1
            found[index] = 1
    return found
