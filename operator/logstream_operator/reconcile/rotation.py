"""When a key is to be replaced, and what becomes of the ones before it: pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from logstream.auth.api_keys import ApiKey
from logstream.auth.principal import Scope
from logstream.clock import NS_PER_SECOND
from logstream_operator.spec import LogStreamAPIKey

ROTATE = "logstream.dev/rotate"
"""Annotation: a time (RFC 3339); a key that was made before it is replaced."""
DEFAULT_OVERLAP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a LogStreamAPIKey asks for. Times in nanoseconds since the epoch."""

    scopes: frozenset[Scope]
    expires_at: int | None
    every: int | None
    overlap: int
    rotate_at: int | None


def wanted(resource: LogStreamAPIKey) -> Wanted:
    spec = resource.spec
    rotation = spec.rotation
    overlap = rotation.overlap.total_seconds() if rotation is not None else DEFAULT_OVERLAP_SECONDS
    return Wanted(
        resource.scopes,
        None if spec.expires_at is None else _ns(spec.expires_at),
        None if rotation is None else int(rotation.every.total_seconds() * NS_PER_SECOND),
        int(overlap * NS_PER_SECOND),
        _asked(resource.metadata.annotations.get(ROTATE, "")),
    )


def _asked(text: str) -> int | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _ns(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * NS_PER_SECOND)


def why_new(wanted: Wanted, current: ApiKey | None, now: int) -> str | None:
    """Why another key has to be made than `current`, the one in the Secret; None: it is as it should be."""
    if current is None:
        return "there is no key yet"
    if current.revoked_at is not None:
        return "it was revoked elsewhere"
    if current.scopes != wanted.scopes:
        return "its scopes have changed"
    if wanted.every is not None and now >= current.created_at + wanted.every:
        return "it is due"
    if wanted.rotate_at is not None and current.created_at < wanted.rotate_at <= now:
        return f"{ROTATE} asks for it"
    return None


def end_of_previous(wanted: Wanted, previous: ApiKey, current: ApiKey, now: int) -> int | None:
    """When a key that is not the current one any more ends; None: at once. One that has an end keeps it when it is
    earlier."""
    if previous.scopes - current.scopes:
        # What it may do and the new one may not was taken away.
        return None
    end = now + wanted.overlap
    if previous.expires_at is not None:
        end = min(end, previous.expires_at)
    return end if end > now else None


def next_look(wanted: Wanted, current: ApiKey, previous: Sequence[ApiKey], now: int) -> float | None:
    """Seconds until something changes by itself."""
    moments = [current.expires_at, *(key.expires_at for key in previous)]
    if wanted.every is not None:
        moments.append(current.created_at + wanted.every)
    if wanted.rotate_at is not None:
        moments.append(wanted.rotate_at)
    coming = [moment for moment in moments if moment is not None and moment > now]
    # A little later, so that it has come.
    return (min(coming) - now) / NS_PER_SECOND + 0.05 if coming else None
