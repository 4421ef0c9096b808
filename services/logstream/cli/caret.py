"""Where a query is wrong: the query with a caret under the column. Pure."""

from collections.abc import Sequence

_MARGIN = "  "


def point(query: str, column: int, expected: Sequence[str], *, width: int) -> list[str]:
    """Lines of at most `width` cells, the words of what was expected apart: as much of the query as has room around
    `column` (characters, from 1), and a caret below it.
    """
    at = min(max(column - 1, 0), len(query))
    room = max(width - len(_MARGIN) - 2, 20)
    shown = [_visible(character) for character in query]
    start, end = 0, len(shown)
    if _cells(shown) > room:
        # The caret stands at two thirds: what is wrong is mostly what came before.
        start = at
        while start > 0 and _cells(shown[start - 1 : at]) <= room * 2 // 3:
            start -= 1
        end = at
        while end < len(shown) and _cells(shown[start : end + 1]) <= room:
            end += 1
    before, after = ("…" if start else ""), ("…" if end < len(shown) else "")
    text = before + "".join(shown[start:end]) + after
    indent = " " * (len(before) + _cells(shown[start:at]))
    lines = [_MARGIN + text, f"{_MARGIN}{indent}^"]
    if expected:
        wanted = expected[0] if len(expected) == 1 else f"{', '.join(expected[:-1])} or {expected[-1]}"
        said = f" expected {wanted}"
        if len(lines[1]) + len(said) <= width:
            lines[1] += said
        else:
            lines.append(_MARGIN + said.strip())
    return lines


def _visible(character: str) -> str:
    """What takes the place of a character that a terminal would obey, or that would not be seen."""
    return " " if character.isspace() else character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _cells(characters: Sequence[str]) -> int:
    from rich.cells import cell_len

    return sum(map(cell_len, characters))
