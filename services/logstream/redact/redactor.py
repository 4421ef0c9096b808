"""Rules on whole batches.

Most batches hold nothing. All texts of a batch are joined, and one search for anything that any rule may find goes
over them: that is all a clean batch costs. Only the texts in which it found something are looked at by rules.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice
from typing import TypeVar

from logstream.record import Batch, Decoded, Rejection
from logstream.redact.mark import Marker
from logstream.redact.pattern import compile_hint
from logstream.redact.rule import Rule, rules_for
from logstream.redact.scrub import Scrubbed, Scrubber, Value, touched
from logstream.settings import IngestLimits, RedactionSettings

REJECTED = "redaction"
"""The code of a record that a rule with the action `reject` keeps out."""
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
        self._message_rules = tuple(rule for rule in rules if rule.in_message)
        self._service_rules = tuple(rule for rule in rules if rule.in_service)
        self._metadata_rules = tuple(rule for rule in rules if rule.in_metadata)
        self._names_keys = any(rule.whole is not None for rule in self._metadata_rules)
        self._keys: dict[str, _Key] = {}
        hints = [rule.hint for rule in rules if rule.hint is not None]
        together = compile_hint(hints) if hints else None
        self._hints = [together] if together is not None else [compile_hint([hint]) for hint in hints]
        self._alone = [rule for rule in rules if rule.hint is None]
        self._scrubber = Scrubber(self.rules, Marker(rules, hash_key), together if not self._alone else None)

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
        data = _encode(text)
        value = Value(data, self._message_rules, self._message_limit)
        if service:
            value = Value(data, self._service_rules, self._name_limit)
        scrubbed: Scrubbed | None = None
        if key is not None:
            known = self._key(key)
            value = Value(data, known.rules, self._value_limit)
            if known.whole is not None and self._scrubber.is_secret(data):
                scrubbed = self._scrubber.whole(data, known.whole)
        scrubbed = scrubbed or self._scrubber.scrub([value])[0] or Scrubbed(data, ())
        found = {finding.rule: None for finding in (*scrubbed.findings, *scrubbed.later)}
        return scrubbed, sorted(found, key=lambda rule: rule.index)

    # Whole values of metadata

    def _key(self, key: str) -> _Key:
        known = self._keys.get(key)
        if known is None:
            rules = tuple(rule for rule in self._metadata_rules if rule.takes_key(key))
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
                if self._scrubber.is_secret(data):
                    scrubbed = self._scrubber.whole(data, secret[name])
                    self._take_value(batch, row, name, scrubbed, changes)

    # Services

    def _redact_services(self, batch: Batch, changes: _Changes) -> None:
        names = list(set(batch.services))
        values = [Value(_encode(name), self._service_rules, self._name_limit) for name in names]
        found = {name: done for name, done in zip(names, self._scrubber.scrub(values), strict=True) if done is not None}
        if found:
            for row, name in enumerate(batch.services):
                if name in found:
                    changes.services[row] = self._left(found[name], row, changes)

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
        ends: list[int] = []
        if candidates[-1] >= messages:
            ends = list(accumulate(map(len, batch.metadata), initial=messages))
        places: list[tuple[int, str | None]] = []
        values: list[Value] = []
        for at in candidates:
            if at < messages:
                places.append((at, None))
                values.append(Value(_encode(texts[at]), self._message_rules, self._message_limit))
                continue
            row = bisect_right(ends, at) - 1
            name = next(islice(batch.metadata[row], at - ends[row], None))
            rules = self._key(name).rules
            if rules and not (row in changes.metadata and changes.metadata[row].get(name) != texts[at]):
                places.append((row, name))
                values.append(Value(_encode(texts[at]), rules, self._value_limit))
        for (row, key), done in zip(places, self._scrubber.scrub(values), strict=True):
            if done is None:
                continue
            if key is None:
                changes.messages[row] = self._left(done, row, changes)
            else:
                self._take_value(batch, row, key, done, changes)

    def _candidates(self, texts: Sequence[str]) -> Sequence[int]:
        """Which texts may hold something, ascending."""
        found: list[int] = []
        if self._hints:
            joined = "\n".join(texts)
            data = _encode(joined)
            for hint in self._hints:
                sizes = map(len, texts) if len(data) == len(joined) else (len(_encode(text)) for text in texts)
                found += touched(hint, data, sizes)
        for rule in self._alone:
            search = rule.regex.search
            found += (at for at, text in enumerate(texts) if search(_encode(text)) is not None)
        return sorted(set(found)) if len(self._hints) + len(self._alone) > 1 else found

    def _left(self, scrubbed: Scrubbed, row: int, changes: _Changes) -> str:
        """What is left of a field that a record cannot be without."""
        strictest = self._count(scrubbed, row, changes)
        return _decode(self._scrubber.whole(b"", strictest).data if strictest.action == "drop" else scrubbed.data)

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
        for finding in chain(scrubbed.findings, scrubbed.later):
            changes.found[finding.rule.name] += 1
        strictest = scrubbed.strictest()
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
