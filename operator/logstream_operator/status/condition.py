"""Conditions: findings with a memory of when each last changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from logstream_operator.spec.status import MAX_MESSAGE

READY, DEGRADED = "Ready", "Degraded"
PROGRESSING, PAUSED, ROTATING = "Progressing", "Paused", "Rotating"
NEUTRAL = frozenset({PROGRESSING, PAUSED, ROTATING})
"""Neither good nor bad."""

Condition = Mapping[str, Any]
"""As it stands in a status."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition, before it is known whether it is new. reason: one word for programs; message: for people, with
    what to do. holds: None where nobody knows."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def is_good(self) -> bool:
        """Degraded and what is neutral are good while they do not hold, all else while it does."""
        return self.holds is (self.type != DEGRADED and self.type not in NEUTRAL)


def stamped(
    found: Sequence[Finding], before: Sequence[Condition], *, generation: int, now: datetime, keep: bool = False
) -> list[dict[str, Any]]:
    """Conditions for a status: Ready first, then by name.

    before: those that the status has. lastTransitionTime stays while status is the same, so that looking twice writes
    once. keep: those before that were not found anew stay as they are, for a resource that nothing is done about.
    """
    old = {one["type"]: one for one in before}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole: dict[str, dict[str, Any]] = {name: dict(one) for name, one in old.items()} if keep else {}
    for finding in found:
        status = "Unknown" if finding.holds is None else str(finding.holds)
        was = old.get(finding.type)
        whole[finding.type] = {
            "type": finding.type,
            "status": status,
            "reason": finding.reason,
            "message": _cut(finding.message),
            "observedGeneration": generation,
            "lastTransitionTime": was["lastTransitionTime"] if was is not None and was["status"] == status else stamp,
        }
    return [whole[name] for name in sorted(whole, key=lambda name: (name != READY, name))]


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
