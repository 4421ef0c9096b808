"""Rules as they are applied, made and checked from rules as they are written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any

import re2  # type: ignore[import-untyped]

from logstream.errors import InvalidValue
from logstream.redact.detector import Check, Detector, as_it_is
from logstream.redact.detectors import DETECTORS
from logstream.redact.pattern import InvalidPattern, as_hint, compile_builtin, compile_pattern, is_joinable
from logstream.settings import RedactionRule, RedactionSettings

_METADATA = "metadata."
_MIN_HASH_KEY = 16
_STRICT = {"reject": 0, "drop": 1}
_GROUPS = {"all": tuple(DETECTORS), "ip": ("ipv4", "ipv6")}


class RuleError(InvalidValue):
    """A rule that cannot be used; `field` is where it stands (`rules.2.pattern`), `column` the place in it."""

    code = "invalid_rule"

    def __init__(self, message: str, *, field: str, column: int | None = None) -> None:
        super().__init__(message, field=field)
        self.column = column

    def body(self) -> dict[str, dict[str, object]]:
        answer = super().body()
        if self.column is not None:
            answer["error"]["column"] = self.column
        return answer


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule, ready to be applied."""

    index: int
    name: str
    action: str
    regex: "re2._Regexp"
    groups: int
    hint: str | None
    in_message: bool
    in_service: bool
    keys: "tuple[re.Pattern[str], ...] | None"
    """Which metadata; None: all. Empty: none."""
    check: Check | None = None
    normal: Any = as_it_is
    whole: "re2._Regexp | None" = field(default=None)
    """Matches the keys, in lower case, whose values are findings as a whole."""
    joinable: bool = True
    """Finds the same in a text that others surround, apart from what reaches into them."""
    rank: tuple[int, int] = (0, 0)
    """Of overlapping findings the one of least rank wins: whole records, whole fields, then the order of rules."""

    @property
    def in_metadata(self) -> bool:
        return self.keys is None or bool(self.keys)

    def takes_key(self, key: str) -> bool:
        return self.keys is None or any(pattern.match(key) for pattern in self.keys)


def rules_for(settings: RedactionSettings, stream: str) -> list[Rule]:
    """The rules of a stream, in order. Raises RuleError for any rule, whichever stream it is of."""
    rules: list[Rule] = []
    written = [*((f"rules.{i}", rule) for i, rule in enumerate(settings.rules)), *_detectors(settings)]
    names: set[str] = set()
    for place, rule in written:
        made = _make(rule, place, len(rules))
        if made.name in names:
            raise RuleError(f"there are two rules with the name '{made.name}': give one another name", field=place)
        names.add(made.name)
        if rule.action == "hash" and len(settings.hash_key.get_secret_value()) < _MIN_HASH_KEY:
            raise RuleError(
                f"the rule '{made.name}' hashes, so LOGSTREAM_REDACTION_HASH_KEY must have {_MIN_HASH_KEY} characters "
                "or more",
                field="hash_key",
            )
        if any(re.match(translate(name), stream) for name in rule.streams):
            rules.append(made)
    return rules


def _detectors(settings: RedactionSettings) -> Sequence[tuple[str, RedactionRule]]:
    """What `detectors` names and no rule does, as rules."""
    ruled = {rule.detector for rule in settings.rules}
    wanted: dict[str, str] = {}
    for i, name in enumerate(settings.detectors):
        names = _GROUPS.get(name) or (_known(name, f"detectors.{i}").name,)
        wanted |= dict.fromkeys(names, f"detectors.{i}")
    return [(wanted[name], RedactionRule(detector=name)) for name in DETECTORS if name in wanted and name not in ruled]


def _known(name: str, place: str) -> Detector:
    if name not in DETECTORS:
        raise RuleError(f"there is no detector '{name[:64]}'; there are {', '.join(DETECTORS)}", field=place)
    return DETECTORS[name]


def _make(rule: RedactionRule, place: str, index: int) -> Rule:
    name = rule.name or rule.detector or ""
    if (rule.detector is None) == (rule.pattern is None):
        raise RuleError(f"the rule '{name}' must have either a detector or a pattern", field=place)
    in_message, in_service, keys = _fields(rule, place, name)
    rank = (_STRICT.get(rule.action, len(_STRICT)), index)
    if rule.detector is not None:
        detector = _known(rule.detector, f"{place}.detector")
        regex = compile_builtin(detector)
        return Rule(
            index, name, rule.action, regex, regex.groups, as_hint(detector.hint or detector.pattern, builtin=True),
            in_message, in_service, keys, detector.check, detector.normal,
            re2.compile(detector.keys.encode()) if detector.keys else None, rank=rank,
        )  # fmt: skip
    pattern = rule.pattern or ""
    if not name:
        raise RuleError("a rule with a pattern needs a name", field=f"{place}.name")
    try:
        regex = compile_pattern(pattern)
    except InvalidPattern as error:
        where = f", column {error.column}" if error.column is not None else ""
        raise RuleError(
            f"the pattern of the rule '{name}'{where}: {error}", field=f"{place}.pattern", column=error.column
        ) from None
    return Rule(
        index, name, rule.action, regex, regex.groups, as_hint(pattern), in_message, in_service, keys,
        joinable=is_joinable(pattern), rank=rank,
    )  # fmt: skip


def _fields(rule: RedactionRule, place: str, name: str) -> "tuple[bool, bool, tuple[re.Pattern[str], ...] | None]":
    globs = []
    for written in rule.fields:
        if written.startswith(_METADATA) and len(written) > len(_METADATA):
            globs.append(written.removeprefix(_METADATA))
        elif written not in ("message", "service"):
            raise RuleError(
                f"the rule '{name}' names the field '{written[:64]}'; fields are message, service and metadata.KEY "
                "with * and ?, such as metadata.user.*",
                field=f"{place}.fields",
            )
    keys = None if "*" in globs else tuple(re.compile(translate(glob)) for glob in globs)
    return "message" in rule.fields, "service" in rule.fields, keys
