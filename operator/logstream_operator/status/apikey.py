"""A LogStreamAPIKey's conditions."""

from dataclasses import dataclass

from logstream_operator.status.condition import DEGRADED, READY, ROTATING, Finding


@dataclass(frozen=True, slots=True)
class ObservedKey:
    """What one reconcile of a key saw. key_id: of the one in the Secret; previous_id: of one that still works beside
    it; confirming_id: of one that no collector lets in yet. Empty: none."""

    key_id: str = ""
    previous_id: str = ""
    confirming_id: str = ""
    expired: bool = False
    revoked: bool = False


def key_findings(seen: ObservedKey) -> list[Finding]:
    """All conditions of a key that could be looked after; what could not is an InvalidSpec or a failed step."""
    return [_ready(seen), _rotating(seen), Finding(DEGRADED, False, "AsExpected")]


def _ready(seen: ObservedKey) -> Finding:
    if seen.revoked:
        return Finding(
            READY, False, "Revoked",
            "spec.revoked is true: the key works no more; make a new LogStreamAPIKey to have one again",
        )  # fmt: skip
    if seen.expired:
        return Finding(READY, False, "Expired", "spec.expiresAt has passed: set a later one to have a key again")
    if not seen.key_id:
        return Finding(
            READY, False, "Confirming",
            "collectors have not heard of the key yet; if this lasts, look at the collectors and at Postgres",
        )  # fmt: skip
    return Finding(READY, True, "InUse")


def _rotating(seen: ObservedKey) -> Finding:
    if seen.revoked or seen.expired:
        return Finding(ROTATING, False, "Settled")
    if seen.confirming_id:
        return Finding(ROTATING, True, "Confirming", f"collectors have not heard of key {seen.confirming_id} yet")
    if seen.previous_id:
        return Finding(ROTATING, True, "Overlap", f"key {seen.previous_id} still works beside it")
    return Finding(ROTATING, False, "Settled")
