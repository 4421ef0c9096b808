"""A small flame graph (SVG) of folded stacks, as py-spy (`-f raw`) and stackcollapse scripts write them.

    python -m benchmarks.full_flame OUT.svg TITLE NAME=SECONDS=FILE…

Each file is one process: its stacks stand above NAME, as wide as its CPU SECONDS of the whole. Stacks that wait are
left out, and so is what is narrower than half a percent.
"""

import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

_WIDTH, _ROW, _MARGIN = 1000, 17, 8
_NARROWEST = 0.005
_DEEPEST = 26
_WAITING = (
    "Condition.wait", "Appender._run", "Fetcher._run", "Fetcher._obey", "Member._obey", "Member._run", "Runner.run",
    "_worker (concurrent", "epoll_", "Event.wait", "run_until_complete",
)  # fmt: skip
_COMMON = re.compile(
    r"_run_module_as_main|_run_code|<module>|Thread\.|_bootstrap|asyncio/runners|uvloop|run/__main__|run/lifecycle|"
    r"listcomp|genexpr|asyncio/tasks|asyncio/timeouts"
)
"""Frames that say nothing."""


@dataclass(slots=True)
class _Frame:
    name: str
    weight: float = 0.0
    children: "dict[str, _Frame]" = field(default_factory=dict)

    def add(self, stack: list[str], weight: float) -> None:
        frame = self
        frame.weight += weight
        for name in stack[:_DEEPEST]:
            frame = frame.children.setdefault(name, _Frame(name))
            frame.weight += weight


def _short(frame: str) -> str:
    """Without line numbers, so that calls from several lines are one, and without paths above the package."""
    frame = re.sub(r":\d+\)", ")", frame).replace(".<locals>", "")
    return re.sub(r" \((?:[\w.-]+/)*?((?:[\w.-]+/)?[\w.<>-]+)\)", r" (\1)", frame)


def read(path: Path, seconds: float, name: str, root: _Frame) -> None:
    """Add the stacks of one process."""
    stacks: list[tuple[list[str], int]] = []
    for line in path.read_text().splitlines():
        text, _, count = line.rpartition(" ")
        frames = text.split(";")
        if not frames[-1].startswith(_WAITING):
            stacks.append(([_short(frame) for frame in frames if not _COMMON.search(frame)], int(count)))
    total = sum(weight for _, weight in stacks) or 1
    for stack, weight in stacks:
        root.add([name, *stack], seconds * weight / total)


def _colour(frame: _Frame, depth: int) -> str:
    shade = (sum(frame.name.encode()) * 7 + depth * 3) % 40
    return f"hsl({18 + shade},{70 - shade // 2}%,{66 + shade // 4}%)"


def _draw(frame: _Frame, x: float, depth: int, scale: float, whole: float, rows: list[tuple[int, str]]) -> None:
    width = frame.weight * scale
    title = html.escape(f"{frame.name}: {100 * frame.weight / whole:.1f} %")
    room = int((width - 6) / 6.4)
    label = "" if room < 3 else frame.name if len(frame.name) <= room else frame.name[: room - 1] + "…"
    rows.append((
        depth,
        f'<g><title>{title}</title><rect x="{x:.1f}" y="@" width="{max(0.5, width - 0.6):.1f}" height="{_ROW - 1}"'
        f' rx="2" fill="{_colour(frame, depth)}"/>'
        + (f'<text x="{x + 3:.1f}" y="@@">{html.escape(label)}</text>' if label else "") + "</g>",
    ))  # fmt: skip
    for child in sorted(frame.children.values(), key=lambda c: c.name):
        if child.weight >= _NARROWEST * whole:
            _draw(child, x, depth + 1, scale, whole, rows)
            x += child.weight * scale


def svg(root: _Frame, title: str) -> str:
    """The picture; callers below, callees above."""
    rows: list[tuple[int, str]] = []
    _draw(root, _MARGIN, 0, (_WIDTH - 2 * _MARGIN) / root.weight, root.weight, rows)
    deepest = max(depth for depth, _ in rows)
    height = (deepest + 1) * _ROW + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace"'
        ' font-size="10.5">'
    )
    lines = [
        head,
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_MARGIN}" y="18" font-size="13">{html.escape(title)}</text>',
    ]
    for depth, text in rows:
        y = 30 + (deepest - depth) * _ROW
        lines.append(text.replace('"@@"', f'"{y + 12}"').replace('"@"', f'"{y}"'))
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture."""
    out, title, *parts = sys.argv[1:]
    root = _Frame("all")
    for part in parts:
        name, seconds, file = part.split("=", 2)
        read(Path(file), float(seconds), name, root)
    Path(out).write_text(svg(root, title))


if __name__ == "__main__":
    main()
