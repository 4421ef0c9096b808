"""Single values: what all rules find in them, and what is left of them.

Findings are looked for in the text as it came, joined where they overlap, and replaced in one go, so that no rule
hides from another what it was to find. That is repeated until nothing is found, since what was apart may touch now;
marks are never looked into. So redacting what was redacted changes nothing.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import re2  # type: ignore[import-untyped]

from logstream.redact.mark import Marker
from logstream.redact.rule import Rule
from logstream.redact.secret import is_no_secret

MAX_FINDINGS = 1_000
"""A value in which a rule finds more is replaced as a whole: work and growth are bounded."""
_MAX_PASSES = 4
_SAMPLE = 32
"""When so many texts one after another have something, those behind them are not asked one by one."""


class Finding(NamedTuple):
    """A rule found value[start:end]; as a whole, or joined with what other rules found."""

    start: int
    end: int
    rule: Rule
    whole: bool = True


class Value(NamedTuple):
    """A text in UTF-8 and the rules that are for it.

    limit: bytes; if it would become longer than this and than it was, it becomes one mark.
    """

    data: bytes
    rules: Sequence[Rule]
    limit: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """data: what is left. findings: of the first pass, in the data as it came. later: of the passes after it."""

    data: bytes
    findings: Sequence[Finding]
    later: Sequence[Finding] = ()

    def strictest(self) -> Rule:
        """The rule whose action goes farthest, of those that found something."""
        if len(self.findings) == 1 and not self.later:
            return self.findings[0].rule
        return min((finding.rule for finding in (*self.findings, *self.later)), key=lambda rule: rule.rank)


def touched(regex: "re2._Regexp", data: bytes, sizes: Iterator[int]) -> list[int]:
    """Which of the texts joined in `data` may hold a match: those that do, ascending, and perhaps some more.

    sizes: of the texts in bytes; looked at only when there is a match.
    """
    match = regex.search(data)
    if match is None:
        return []
    starts = list(accumulate((size + 1 for size in sizes), initial=0))
    found: list[int] = []
    while match is not None:
        at = bisect_right(starts, match.start()) - 1
        found.append(at)
        if at + 2 >= len(starts):
            break
        if len(found) % _SAMPLE == 0 and at - found[-_SAMPLE] == _SAMPLE - 1:
            more = list(range(at + 1, min(at + 1 + 4 * _SAMPLE, len(starts) - 1)))
            found += more
            at = found[-1]
            if at + 2 >= len(starts):
                break
        match = regex.search(data, starts[at + 1])
    return found


def found_by(rule: Rule, data: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """What one rule finds from data[at] on, from left to right: start and end, and those of the match it is in."""
    stop, search, groups, check = len(data), rule.regex.search, rule.groups, rule.check
    while at < stop:
        match = search(data, at)
        if match is None:
            return
        first, past = match.span()
        at = past
        spans = [match.span(group) for group in range(1, groups + 1)] if groups else [(first, past)]
        for begin, last in spans:
            if begin < 0 or begin == last:
                continue
            if check is None:
                yield begin, last, first, past
                continue
            judged = check(data, begin, last)
            if isinstance(judged, int):
                # What is no finding may reach into the next line, and hide what begins there.
                line = data.find(b"\n", first, past)
                at = max(judged if line < 0 else min(judged, line + 1), first + 1)
            else:
                at = judged[1]
                yield *judged, first, past


def _place(finding: Finding) -> tuple[int, int, int]:
    return finding.start, finding.rule.index, -finding.end


class Scrubber:
    """Applies rules to values, many at once. hint: matches wherever one of the rules may; None: unknown."""

    def __init__(self, rules: Sequence[Rule], marker: Marker, hint: "re2._Regexp | None") -> None:
        self._rules = rules
        self._marker = marker
        self._hint = hint

    def scrub(self, values: Sequence[Value]) -> list[Scrubbed | None]:
        """What the rules leave of each value; None: all of it."""
        done: list[Scrubbed | None] = [None] * len(values)
        at: Sequence[int] = range(len(values))
        for number in range(_MAX_PASSES + 1):
            at, now = self._asked(at, [self._now(values[i], done[i]) for i in at], again=number > 0)
            changed = []
            for i, (data, findings) in zip(at, self._findings(now, [values[i] for i in at]), strict=True):
                if findings:
                    changed.append(i)
                    done[i] = self._replaced(values[i], done[i], data, findings, last=number == _MAX_PASSES)
            if not changed:
                break
            at = changed
        return done

    def whole(self, data: bytes, rule: Rule) -> Scrubbed:
        """All of `data` as one finding."""
        return Scrubbed(self._marker.mark(rule, data, whole=True), (Finding(0, len(data), rule),))

    def is_secret(self, data: bytes) -> bool:
        """Whether a value under a key that names a secret holds one: not only marks, nor what stands for none."""
        if not data or is_no_secret(data):
            return False
        return sum(end - start for start, end in self._marker.spans(data)) < len(data)

    def _now(self, value: Value, done: Scrubbed | None) -> bytes:
        return value.data if done is None else done.data

    def _asked(self, at: Sequence[int], now: list[bytes], *, again: bool) -> tuple[Sequence[int], list[bytes]]:
        """Those that may hold something still; at first all are to be asked."""
        if not again or self._hint is None:
            return at, now
        left = touched(self._hint, b"\n".join(now), map(len, now))
        return [at[i] for i in left], [now[i] for i in left]

    def _replaced(
        self, value: Value, before: Scrubbed | None, data: bytes, findings: Sequence[Finding], *, last: bool
    ) -> Scrubbed:
        parts: list[bytes] = []
        at = 0
        for start, end, rule, whole in findings:
            parts += (data[at:start], self._marker.mark(rule, data[start:end], whole=whole))
            at = end
        parts.append(data[at:])
        text = b"".join(parts)
        if last or len(text) > max(value.limit, len(value.data)):
            return self.whole(value.data, min((finding.rule for finding in findings), key=lambda rule: rule.rank))
        if before is None:
            return Scrubbed(text, findings)
        return Scrubbed(text, before.findings, (*before.later, *findings))

    def _findings(self, texts: Sequence[bytes], values: Sequence[Value]) -> Iterator[tuple[bytes, Sequence[Finding]]]:
        """What is found in each text, from left to right, without overlaps and marks."""
        raw: list[list[Finding]] = [[] for _ in texts]
        data = b"\n".join(texts)
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        for rule in self._rules:
            if rule.joinable:
                self._look(rule, data, starts, values, raw)
            else:
                for at, text in enumerate(texts):
                    if rule in values[at].rules:
                        _take(rule, text, raw[at])
        for text, found in zip(texts, raw, strict=True):
            yield text, self._settled(text, found) if found else found

    def _look(
        self, rule: Rule, data: bytes, starts: Sequence[int], values: Sequence[Value], raw: list[list[Finding]]
    ) -> None:
        """What `rule` finds in texts that are joined in `data`. A match from one into the next is none of either."""
        at = 0
        while at < len(data):
            skip = len(data)
            for start, end, first, past in found_by(rule, data, at):
                row = bisect_right(starts, first) - 1
                begin, following = starts[row], starts[row + 1]
                if rule not in values[row].rules:
                    skip = following
                    break
                if past >= following:
                    raw[row] = [finding for finding in raw[row] if finding.rule is not rule]
                    _take(rule, data[begin : following - 1], raw[row])
                    skip = following
                    break
                raw[row].append(Finding(start - begin, end - begin, rule))
                if len(raw[row]) > MAX_FINDINGS:
                    raw[row] = [Finding(0, following - 1 - begin, rule)]
                    skip = following
                    break
            at = skip

    def _settled(self, text: bytes, raw: list[Finding]) -> Sequence[Finding]:
        if len(raw) > 1:
            raw.sort(key=_place)
        if marks := self._marker.spans(text):
            raw = sorted(_outside(raw, marks), key=_place)
        return _joined(raw) if len(raw) > 1 else raw


def _take(rule: Rule, text: bytes, found: list[Finding]) -> None:
    """Adds what `rule` finds in one text."""
    for start, end, _, _ in found_by(rule, text):
        found.append(Finding(start, end, rule))
        if len(found) > MAX_FINDINGS:
            found[:] = [Finding(0, len(text), rule)]
            return


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that do not overlap, of those that do and are sorted by their start."""
    done: list[Finding] = []
    for finding in findings:
        if not done or finding.start >= done[-1].end:
            done.append(finding)
            continue
        last = done[-1]
        first = min(last, finding, key=lambda one: one.rule.rank)
        start, end = last.start, max(last.end, finding.end)
        whole = first.whole and (first.start, first.end) == (start, end)
        done[-1] = Finding(start, end, first.rule, whole)
    return done


def _outside(findings: Sequence[Finding], marks: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """The findings without what lies in marks. Both are sorted."""
    at = 0
    for start, end, rule, whole in findings:
        while at < len(marks) and marks[at][1] <= start:
            at += 1
        begin, here = start, at
        while here < len(marks) and marks[here][0] < end:
            if begin < marks[here][0]:
                yield Finding(begin, marks[here][0], rule, False)
            begin = marks[here][1]
            here += 1
        if begin < end:
            yield Finding(begin, end, rule, whole and begin == start)
