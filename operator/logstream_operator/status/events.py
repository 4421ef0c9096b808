"""Events: what changed for the better or the worse, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logstream_operator.status.condition import DEGRADED, NEUTRAL, PROGRESSING, READY, Condition


@dataclass(frozen=True, slots=True)
class Event:
    """reason: that of the condition. note: what `kubectl describe` shows."""

    reason: str
    note: str
    warning: bool


def events(before: Sequence[Condition], after: Sequence[Condition]) -> list[Event]:
    """Of transitions between two sets of conditions. A resource that is new and on its way is no news; one that waits
    for the same as before is none either."""
    old: Mapping[str, Condition] = {one["type"]: one for one in before}
    news = [one for one in after if _is_news(one, old.get(one["type"]))]
    return _once([Event(one["reason"], _note(one), _is_bad(one)) for one in news])


def _is_news(one: Condition, was: Condition | None) -> bool:
    kind = one["type"]
    if kind == PROGRESSING:
        return False
    changed = was is None or was["status"] != one["status"]
    if kind in NEUTRAL:
        return changed and (was is not None or one["status"] == "True")
    if _is_bad(one):
        # Still wrong, and for another reason: what is to be done has changed.
        return changed or (was is not None and was["reason"] != one["reason"])
    # All else that gets well again makes Ready so in the end.
    return bool(changed and kind == READY)


def _is_bad(one: Condition) -> bool:
    good = "False" if one["type"] == DEGRADED else "True"
    return bool(one["type"] not in NEUTRAL and one["status"] != good)


def _note(one: Condition) -> str:
    said = f"{one['type']} is {one['status']}"
    return f"{said}: {one['message']}" if one.get("message") else said


def _once(found: Sequence[Event]) -> list[Event]:
    """Ready and Degraded repeat what the condition behind them says: one event for one reason, the most telling."""
    by_reason: dict[tuple[str, bool], Event] = {}
    for event in found:
        known = by_reason.get((event.reason, event.warning))
        if known is None or known.note.startswith((READY, DEGRADED)):
            by_reason[event.reason, event.warning] = event
    return list(by_reason.values())
