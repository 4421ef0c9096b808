"""The format of a file, from some of its lines.

Every grammar is tried on the sample; a candidate's score is the share of lines that it matches times how specific it
is. Lines that do not fit the best candidate are tried with the others that matched some of the sample, unless their
timestamps say less or stand further behind.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from logstream.errors import InvalidValue
from logstream.formats.layouts import HEADS, WHOLE, Layout
from logstream.formats.model import MAX_LINE_CHARS, Parsed, Reading
from logstream.formats.structured import JsonFormat, LogfmtFormat
from logstream.formats.textual import Position, TextFormat, find_positions
from logstream.formats.times import GRAMMAR, day_order

SAMPLE_LINES = 400
SAMPLE_CHARS = 4000
"""Characters of a line that detection looks at."""
_POSITIONS = 4
"""Places of timestamps that are tried with every head."""
_OTHERS = 3
"""Candidates tried after the best one, when a line does not fit it."""
_SELDOM = 0.05
"""Where fewer of the lines that are not indented than this have a timestamp, it is part of some message: to join all
others to those would make a few events of a whole file."""
_ENOUGH = 0.5
"""Share of the sample (of the lines that are no continuation) that a structured format must match."""

_LESS = {"clock": 0.6, "month-day": 0.9}
"""Timestamps that may be part of a fuller one, those that say least first."""


class LineParser(Protocol):
    def parse(self, line: str) -> Parsed | None:
        """The event that the line begins, None when it does not fit."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """How to read the lines of one file.

    name: one of `names()`. matched: the share of the sample's lines that fitted, 0 to 1. times: the grammar of the
    timestamps, "" where lines have none or name their fields. structured: the lines name
    their fields, so nothing but such a line begins an event.
    """

    name: str
    matched: float
    parsers: Sequence[LineParser] = field(repr=False)
    times: str = ""
    structured: bool = False

    def parse(self, line: str) -> Parsed | None:
        """The event that `line` begins; None when it fits nothing, as the lines of a stack trace do.

        Without line end; white space at the end is left out. Never raises.
        """
        line = line.rstrip()
        cut = len(line) > MAX_LINE_CHARS
        if cut:
            line = line[:MAX_LINE_CHARS]
        for parser in self.parsers:
            if (parsed := parser.parse(line)) is not None:
                if cut:
                    parsed.metadata["truncated"] = "true"
                return parsed
        return None


PLAIN = Format("plain", 0.0, ())
"""Every line is a message."""


def detect(sample: Iterable[str], reading: Reading) -> Format:
    """The format that fits best; PLAIN when none fits. Looks at SAMPLE_LINES lines. Never raises on any text."""
    lines = _sample(sample)
    if not lines:
        return PLAIN
    for parser in (JsonFormat(reading), LogfmtFormat(reading)):
        share = sum(parser.parse(line) is not None for line in lines) / len(lines)
        if share >= _ENOUGH:
            return Format(parser.name, share, (parser,), structured=True)
    found = _textual(lines, reading)
    begin = sum(1 for line in lines if not line[0].isspace()) or 1
    return found if found is not None and found.matched * len(lines) >= _SELDOM * begin else PLAIN


def names() -> list[str]:
    """Formats that can be asked for by name."""
    return ["json", "logfmt", "plain", *dict.fromkeys(layout.name for layout in (*WHOLE, *HEADS))]


def named(name: str, sample: Iterable[str], reading: Reading) -> Format:
    """The format called `name` (one of `names()`). Raises InvalidValue for another name, and when no line fits it."""
    if name == "plain":
        return PLAIN
    if name == "json":
        return Format("json", 1.0, (JsonFormat(reading),), structured=True)
    if name == "logfmt":
        return Format("logfmt", 1.0, (LogfmtFormat(reading),), structured=True)
    layouts = [layout for layout in (*WHOLE, *HEADS) if layout.name == name]
    if not layouts:
        raise InvalidValue(f"there is no format {name}", field="format", limit=", ".join(names()))
    found = _textual(_sample(sample), reading, layouts)
    if found is None:
        raise InvalidValue(f"no line of the sample is of the format {name}", field="format")
    return found


def _sample(sample: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for line in sample:
        if len(lines) >= SAMPLE_LINES:
            break
        if line := line[:SAMPLE_CHARS].rstrip():
            lines.append(line)
    return lines


@dataclass(slots=True)
class _Candidate:
    score: float
    matched: frozenset[int]
    parser: TextFormat


def _textual(lines: list[str], reading: Reading, layouts: Sequence[Layout] = (*WHOLE, *HEADS)) -> Format | None:
    votes: Counter[Position] = Counter()
    for line in lines:
        votes.update(find_positions(line))
    positions = [p for p, _ in votes.most_common(_POSITIONS)]
    begin = sum(1 for line in lines if not line[0].isspace()) or 1
    candidates: list[_Candidate] = []
    for layout in layouts:
        for position in _places(layout, positions):
            parser = TextFormat(layout, position, reading, _order(lines, position, reading))
            matched = frozenset(i for i, line in enumerate(lines) if parser.matches(line))
            if not matched:
                continue
            weight = layout.weight
            if layout.sure and sum(parser.captured(lines[i], layout.sure) for i in matched) * 10 < len(matched):
                weight *= 0.5
            if position is not None:
                weight *= _LESS.get(position.grammar.name, 1.0)
                weight += 0.3 if position.epoch is not None else 0.0
            candidates.append(_Candidate(min(1.0, len(matched) / begin) * weight, matched, parser))
    if not candidates:
        return None
    candidates.sort(key=lambda c: -c.score)
    chosen = candidates[:1]
    seen = set(chosen[0].matched)
    for candidate in candidates[1:]:
        if len(chosen) > _OTHERS:
            break
        if candidate.matched - seen and _may_follow(candidate.parser.position, chosen[0].parser.position):
            chosen.append(candidate)
            seen |= candidate.matched
    best = chosen[0].parser
    _with_fallback(chosen, reading, lines)
    times = best.position.grammar.name if best.position is not None else ""
    return Format(best.layout.name, len(seen) / len(lines), [c.parser for c in chosen], times)


def _may_follow(other: Position | None, best: Position | None) -> bool:
    """Whether a line may be read by `other` that the best candidate does not fit: only by a timestamp that says as much
    and does not stand further behind. Others are times in a message: "Retry at 11:30:00 was refused".
    """
    if other is None:
        return True
    if best is None:
        return other.words == 0
    return other.words <= best.words and _says(other) >= _says(best)


def _says(position: Position) -> int:
    """How much of a date a timestamp has."""
    name = position.grammar.name
    return [*_LESS].index(name) if name in _LESS else len(_LESS)


def _with_fallback(chosen: list[_Candidate], reading: Reading, lines: list[str]) -> None:
    """Lines outside the sample may have another head behind the same timestamp."""
    position = chosen[0].parser.position
    for layout in HEADS:
        if layout.weight < 0.7 and position is not None and not chosen[0].parser.layout.whole:
            if not _goes_with(layout, position):
                continue
            parser = TextFormat(layout, position, reading, _order(lines, position, reading))
            chosen.append(_Candidate(0.0, frozenset(), parser))


def _places(layout: Layout, positions: Sequence[Position]) -> Sequence[Position | None]:
    if layout.whole:
        if "%T%" not in layout.pattern:
            return [None]
        return [Position(GRAMMAR[name]) for name in layout.times]
    return [p for p in positions if _goes_with(layout, p)]


def _goes_with(layout: Layout, position: Position) -> bool:
    name = position.grammar.name
    # A klog line begins with its level, so it goes with no head that has one.
    return name in layout.times if layout.times or name == "klog" else True


def _order(lines: Sequence[str], position: Position | None, reading: Reading) -> str:
    if position is None or position.grammar.name not in {"slashed", "month-day"}:
        return "mdy"
    texts = []
    for line in lines:
        words = line.split(None, position.words)
        if len(words) > position.words:
            texts.append(words[position.words].lstrip('[(<"'))
    return day_order(texts, reading)
