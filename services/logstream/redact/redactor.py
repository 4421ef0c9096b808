"""Rules on whole batches.

Most batches hold nothing. All texts of a batch are joined, and one search for anything that any rule may find goes
over them: that is all a clean batch costs. Only the texts in which it found something are looked at by rules.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import TypeVar

import re2  # type: ignore[import-untyped]

from logstream.record import Batch, Decoded, Rejection
from logstream.redact.mark import Marker
from logstream.redact.pattern import compile_hint
from logstream.redact.rule import Rule, rules_for
from logstream.redact.scrub import Finding, Scrubbed, Scrubber
from logstream.settings import IngestLimits, RedactionSettings

REJECTED = "redaction"
"""The code of a record that a rule with the action `reject` keeps out."""
MARK_PREFIX = "logstream."
"""Metadata keys of LogStream's own."""
_MAX_KNOWN_KEYS = 4_096
_T = TypeVar("_T")
_EMPTY: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Redacted:
    """decoded: what may be kept. found: how many findings by name of the rule."""

    decoded: Decoded
    found: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Key:
    """What holds for the values under one metadata key."""

    rules: tuple[Rule, ...]
    whole: Rule | None
    """The value is a finding, whatever it is."""


@dataclass(slots=True)
class _Changes:
    """What becomes of the rows of a batch."""

    found: Counter[str] = field(default_factory=Counter)
    messages: dict[int, str] = field(default_factory=dict)
    services: dict[int, str] = field(default_factory=dict)
    metadata: dict[int, dict[str, str]] = field(default_factory=dict)
    rejected: dict[int, Rule] = field(default_factory=dict)


class Redactor:
    """The rules of one stream. Not for use by several threads at a time."""

    def __init__(self, rules: Sequence[Rule], hash_key: bytes = b"", limits: IngestLimits | None = None) -> None:
        self.rules = tuple(rules)
        limits = limits or IngestLimits()
        self._message_limit = limits.max_message_bytes
        self._value_limit = limits.max_metadata_value_bytes
        self._name_limit = limits.max_name_bytes
        self._scrubber = Scrubber(Marker(rules, hash_key))
        self._message_rules = tuple(rule for rule in rules if rule.in_message)
        self._service_rules = tuple(rule for rule in rules if rule.in_service)
        self._metadata_rules = tuple(rule for rule in rules if rule.in_metadata)
        self._names_keys = any(rule.whole is not None for rule in self._metadata_rules)
        self._keys: dict[str, _Key] = {}
        texts = [rule for rule in rules if rule.in_message or rule.in_metadata]
        hints = [rule.hint for rule in texts if rule.hint is not None]
        together = compile_hint(hints) if hints else None
        self._hinted = {rule: compile_hint([rule.hint]) for rule in texts if rule.hint is not None}
        self._together = [together] if together is not None else list(self._hinted.values())
        self._alone = [rule for rule in texts if rule.hint is None]

    def __bool__(self) -> bool:
        return bool(self.rules)

    def redact(self, decoded: Decoded, first_index: int = 0) -> Redacted:
        """What is left of the records, and the records that are rejected besides.

        first_index: the place in the request of the first record that `decoded` is about.
        """
        batch = decoded.batch
        if not self.rules or not len(batch):
            return Redacted(decoded, _EMPTY)
        changes = _Changes()
        if self._names_keys:
            self._redact_whole_values(batch, changes)
        if self._service_rules:
            self._redact_services(batch, changes)
        self._redact_texts(batch, changes)
        if not changes.found:
            return Redacted(decoded, _EMPTY)
        changed = Batch(
            timestamps=batch.timestamps,
            services=_with(batch.services, changes.services),
            levels=batch.levels,
            messages=_with(batch.messages, changes.messages),
            metadata=_with(batch.metadata, changes.metadata),
            trace_ids=batch.trace_ids,
            span_ids=batch.span_ids,
        )
        if not changes.rejected:
            return Redacted(replace(decoded, batch=changed), changes.found)
        places = _places(len(batch), decoded.rejections, first_index)
        refused = [
            Rejection(
                places[row],
                REJECTED,
                f"the record holds what the redaction rule '{rule.name}' keeps out: leave it out, and send it again",
            )
            for row, rule in changes.rejected.items()
        ]
        rejections = sorted((*decoded.rejections, *refused), key=lambda rejection: rejection.index)
        kept = [row for row in range(len(batch)) if row not in changes.rejected]
        return Redacted(Decoded(_rows(changed, kept), rejections, decoded.truncated), changes.found)

    def explain(self, text: str, *, key: str | None = None, service: bool = False) -> tuple[Scrubbed, Sequence[Rule]]:
        """What becomes of one message, of the value under a metadata key, or of a service, and the rules that found
        something, in order."""
        rules, limit = self._message_rules, self._message_limit
        if service:
            rules, limit = self._service_rules, self._name_limit
        data = _encode(text)
        scrubbed: Scrubbed | None = None
        if key is not None:
            known = self._key(key)
            rules, limit = known.rules, self._value_limit
            if known.whole is not None and text and self._scrubber.is_secret(data):
                scrubbed = self._scrubber.whole(data, known.whole)
        if scrubbed is None:
            scrubbed = self._scrubber.scrub(data, rules, rules, limit)
        found = {finding.rule: None for finding in (*scrubbed.findings, *scrubbed.later)}
        return scrubbed, sorted(found, key=lambda rule: rule.index)

    # Whole values of metadata

    def _key(self, key: str) -> _Key:
        known = self._keys.get(key)
        if known is None:
            rules = () if key.startswith(MARK_PREFIX) else tuple(r for r in self._metadata_rules if r.takes_key(key))
            folded = _encode(key.lower())
            whole = next((r for r in rules if r.whole is not None and r.whole.search(folded) is not None), None)
            if len(self._keys) >= _MAX_KNOWN_KEYS:
                self._keys.clear()
            known = self._keys[key] = _Key(rules, whole)
        return known

    def _redact_whole_values(self, batch: Batch, changes: _Changes) -> None:
        names: set[str] = set().union(*batch.metadata)
        secret = {name: whole for name in names if (whole := self._key(name).whole) is not None}
        if not secret:
            return
        for row, metadata in enumerate(batch.metadata):
            for name in secret.keys() & metadata.keys():
                data = _encode(metadata[name])
                if data and self._scrubber.is_secret(data):
                    scrubbed = self._scrubber.whole(data, secret[name])
                    self._take_value(batch, row, name, scrubbed, changes)

    # Services

    def _redact_services(self, batch: Batch, changes: _Changes) -> None:
        scrubbed = {
            name: done
            for name in set(batch.services)
            if (done := self._scrub(_encode(name), self._service_rules, self._name_limit)).findings
        }
        if not scrubbed:
            return
        for row, name in enumerate(batch.services):
            if name in scrubbed:
                done = scrubbed[name]
                strictest = self._count(done, row, changes)
                data = self._scrubber.whole(b"", strictest).data if strictest.action == "drop" else done.data
                changes.services[row] = _decode(data)

    def _scrub(self, data: bytes, rules: Sequence[Rule], limit: int) -> Scrubbed:
        return self._scrubber.scrub(data, rules, rules, limit)

    # Messages and values

    def _redact_texts(self, batch: Batch, changes: _Changes) -> None:
        texts: list[str] = []
        if self._message_rules:
            texts += batch.messages
        messages = len(texts)
        if self._metadata_rules:
            texts += chain.from_iterable(map(dict.values, batch.metadata))
        if not texts:
            return
        candidates = self._candidates(texts)
        if not candidates:
            return
        likely = self._likely([texts[at] for at in candidates])
        ends: list[int] = []
        if candidates[-1] >= messages:
            ends = list(accumulate(map(len, batch.metadata), initial=messages))
        for at, rules in zip(candidates, likely, strict=True):
            if not rules:
                continue
            if at < messages:
                self._redact_message(batch, at, rules, changes)
            else:
                row = bisect_right(ends, at) - 1
                name = _nth(batch.metadata[row], at - ends[row])
                self._redact_value(batch, row, name, rules, changes)

    def _candidates(self, texts: Sequence[str]) -> list[int]:
        """Which texts may hold something, ascending."""
        found: set[int] = set()
        if self._together:
            data, joined = _join(texts)
            for regex in self._together:
                found.update(_touched(regex, data, joined, texts))
        for rule in self._alone:
            search = rule.regex.search
            found.update(at for at, text in enumerate(texts) if search(_encode(text)) is not None)
        return sorted(found)

    def _likely(self, texts: Sequence[str]) -> Sequence[list[Rule]]:
        """For each text the rules that may find something in it."""
        likely: list[list[Rule]] = [[] for _ in texts]
        data, joined = _join(texts)
        for rule, regex in self._hinted.items():
            for at in _touched(regex, data, joined, texts):
                likely[at].append(rule)
        for rule in self._alone:
            for rules in likely:
                rules.append(rule)
        return likely

    def _redact_message(self, batch: Batch, row: int, likely: Sequence[Rule], changes: _Changes) -> None:
        data = _encode(batch.messages[row])
        here = [rule for rule in likely if rule.in_message]
        scrubbed = self._scrubber.scrub(data, self._message_rules, here, self._message_limit)
        if scrubbed.findings:
            strictest = self._count(scrubbed, row, changes)
            left = self._scrubber.whole(b"", strictest).data if strictest.action == "drop" else scrubbed.data
            changes.messages[row] = _decode(left)

    def _redact_value(self, batch: Batch, row: int, name: str, likely: Sequence[Rule], changes: _Changes) -> None:
        known = self._key(name)
        here = [rule for rule in likely if rule in known.rules] if len(known.rules) < len(self.rules) else likely
        if not here or (row in changes.metadata and changes.metadata[row].get(name) != batch.metadata[row][name]):
            return
        data = _encode(batch.metadata[row][name])
        scrubbed = self._scrubber.scrub(data, known.rules, here, self._value_limit)
        if scrubbed.findings:
            self._take_value(batch, row, name, scrubbed, changes)

    def _take_value(self, batch: Batch, row: int, name: str, scrubbed: Scrubbed, changes: _Changes) -> None:
        strictest = self._count(scrubbed, row, changes)
        metadata = changes.metadata.get(row)
        if metadata is None:
            metadata = changes.metadata[row] = dict(batch.metadata[row])
        if strictest.action == "drop":
            del metadata[name]
        else:
            metadata[name] = _decode(scrubbed.data)

    def _count(self, scrubbed: Scrubbed, row: int, changes: _Changes) -> Rule:
        """Counts the findings; the rule whose action is the strictest."""
        findings: Sequence[Finding] = (*scrubbed.findings, *scrubbed.later)
        for finding in findings:
            changes.found[finding.rule.name] += 1
        strictest = min((finding.rule for finding in findings), key=lambda rule: rule.rank)
        if strictest.action == "reject":
            changes.rejected.setdefault(row, strictest)
        return strictest


def redactor_for(settings: RedactionSettings, stream: str, limits: IngestLimits | None = None) -> Redactor:
    """The redactor of a stream; false when it has no rules. Raises RuleError."""
    return Redactor(rules_for(settings, stream), settings.hash_key.get_secret_value().encode(), limits)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    """Expressions of bytes may cut a character in two, which no text holds."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _join(texts: Sequence[str]) -> tuple[bytes, bool]:
    """The texts with line feeds between them, and whether all is ASCII."""
    joined = "\n".join(texts)
    return _encode(joined), joined.isascii()


def _touched(regex: "re2._Regexp", data: bytes, is_ascii: bool, texts: Sequence[str]) -> Iterator[int]:
    """Which of the joined `texts` the expression matches in, and perhaps some more, ascending."""
    match = regex.search(data)
    if match is None:
        return
    sizes = map(len, texts) if is_ascii else (len(_encode(text)) for text in texts)
    starts = list(accumulate((size + 1 for size in sizes), initial=0))
    while match is not None:
        at = bisect_right(starts, match.start()) - 1
        yield at
        if at + 1 >= len(texts):
            return
        match = regex.search(data, starts[at + 1])


def _nth(metadata: Mapping[str, str], number: int) -> str:
    for at, key in enumerate(metadata):
        if at == number:
            return key
    raise IndexError(number)


def _with(column: Sequence[_T], changed: Mapping[int, _T]) -> Sequence[_T]:
    if not changed:
        return column
    copy = list(column)
    for row, value in changed.items():
        copy[row] = value
    return copy


def _places(rows: int, rejections: Sequence[Rejection], first: int) -> list[int]:
    """The place in the request of each row that was not rejected."""
    gone = {rejection.index for rejection in rejections}
    every = range(first, first + rows + len(gone))
    return [place for place in every if place not in gone]


def _rows(batch: Batch, rows: Sequence[int]) -> Batch:
    return Batch(
        timestamps=[batch.timestamps[row] for row in rows],
        services=[batch.services[row] for row in rows],
        levels=bytes([batch.levels[row] for row in rows]),
        messages=[batch.messages[row] for row in rows],
        metadata=[batch.metadata[row] for row in rows],
        trace_ids=[batch.trace_ids[row] for row in rows],
        span_ids=[batch.span_ids[row] for row in rows],
    )
