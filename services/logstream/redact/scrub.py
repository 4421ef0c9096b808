"""One value: what all rules find in it, and what is left of it.

Findings are looked for in the text as it came, joined where they overlap, and replaced in one go, so that no rule
hides from another what it was to find. That is repeated until nothing is found, since what was apart may touch now;
marks are never looked into. So redacting what was redacted changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from logstream.redact.mark import Marker
from logstream.redact.rule import Rule
from logstream.redact.secret import is_no_secret

MAX_FINDINGS = 1_000
"""A value in which a rule finds more is replaced as a whole: work and growth are bounded."""
_MAX_PASSES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule found data[start:end]; as a whole, or joined with what other rules found."""

    rule: Rule
    start: int
    end: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """data: what is left. findings: of the first pass, in the data as it came. later: of the passes after it."""

    data: bytes
    findings: Sequence[Finding]
    later: Sequence[Finding] = ()


class _TooMany(Exception):
    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.name)
        self.rule = rule


def found_by(rule: Rule, data: bytes) -> Iterator[tuple[int, int]]:
    """What one rule finds, from left to right; findings of its groups may lie in each other."""
    at, end, search = 0, len(data), rule.regex.search
    while at < end:
        match = search(data, at)
        if match is None:
            return
        spans = [match.span(group) for group in range(1, rule.groups + 1)] if rule.groups else [match.span()]
        at = max(match.end(), at + 1)
        for first, last in spans:
            if first < 0 or first == last:
                continue
            if rule.check is None:
                yield first, last
                continue
            judged = rule.check(data, first, last)
            if isinstance(judged, int):
                at = max(judged, match.start() + 1)
            else:
                yield judged
                at = judged[1]


class Scrubber:
    """Applies rules to single values."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker

    def scrub(self, data: bytes, rules: Sequence[Rule], likely: Sequence[Rule], limit: int) -> Scrubbed:
        """What `rules` leave of `data`. likely: the rules that may find something in it as it is.

        limit: bytes; a value that would become longer than it and than it was becomes one mark.
        """
        try:
            findings = self._findings(data, likely)
            if not findings:
                return Scrubbed(data, ())
            text = self._replaced(data, findings)
            later: list[Finding] = []
            for _ in range(_MAX_PASSES):
                more = self._findings(text, rules)
                if not more:
                    break
                later += more
                text = self._replaced(text, more)
            else:
                return self.whole(data, findings[0].rule)
        except _TooMany as error:
            return self.whole(data, error.rule)
        if len(text) > max(limit, len(data)):
            return self.whole(data, findings[0].rule)
        return Scrubbed(text, findings, later)

    def is_secret(self, data: bytes) -> bool:
        """Whether a value under a key that names a secret holds one: not only marks, nor what stands for none."""
        if not data or is_no_secret(data):
            return False
        return sum(end - start for start, end in self._marker.spans(data)) < len(data)

    def whole(self, data: bytes, rule: Rule) -> Scrubbed:
        """All of `data` as one finding."""
        finding = Finding(rule, 0, len(data))
        return Scrubbed(self._marker.mark(rule, data, whole=True), (finding,))

    def _findings(self, data: bytes, rules: Sequence[Rule]) -> list[Finding]:
        raw: list[Finding] = []
        for rule in rules:
            for count, (start, end) in enumerate(found_by(rule, data)):
                if count == MAX_FINDINGS:
                    raise _TooMany(rule)
                raw.append(Finding(rule, start, end))
        if not raw:
            return raw
        raw.sort(key=lambda finding: (finding.start, finding.rule.index, -finding.end))
        joined = _joined(raw) if len(raw) > 1 else raw
        marks = self._marker.spans(data)
        return list(_outside(joined, marks)) if marks else joined

    def _replaced(self, data: bytes, findings: Sequence[Finding]) -> bytes:
        parts: list[bytes] = []
        at = 0
        for finding in findings:
            parts += (
                data[at : finding.start],
                self._marker.mark(finding.rule, data[finding.start : finding.end], whole=finding.whole),
            )
            at = finding.end
        parts.append(data[at:])
        return b"".join(parts)


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
        done[-1] = Finding(first.rule, start, end, whole)
    return done


def _outside(findings: Sequence[Finding], marks: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """The findings without what lies in marks. Both are sorted and free of overlaps."""
    at = 0
    for finding in findings:
        start = finding.start
        while at < len(marks) and marks[at][1] <= start:
            at += 1
        here = at
        while here < len(marks) and marks[here][0] < finding.end:
            begin, end = marks[here]
            if start < begin:
                yield Finding(finding.rule, start, begin, False)
            start = end
            here += 1
        if start < finding.end:
            yield Finding(finding.rule, start, finding.end, finding.whole and start == finding.start)
