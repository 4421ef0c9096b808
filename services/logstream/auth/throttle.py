"""Brute force made slow: attempts that failed make the next one wait, longer each time."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from logstream.clock import Clock
from logstream.errors import TooMany


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One counted failure, and when the one before it was; monotonic seconds."""

    subject: str
    at: float
    before: float


class Throttle:
    """After `free` failures of one subject the next attempt waits `first` seconds, then twice as long each time.

    longest: seconds; the cap of one wait. forget: seconds without a failure after which a subject starts again.
    capacity: subjects remembered; the one that failed longest ago goes first, so memory is bounded.

    Used on the event loop only; nothing here waits.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        free: int,
        first: float = 1.0,
        longest: float = 60.0,
        forget: float = 3600.0,
        capacity: int = 10_000,
    ) -> None:
        self._clock = clock
        self._free = free
        self._first = first
        self._longest = longest
        self._forget = forget
        self._capacity = capacity
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def check(self, subject: str) -> None:
        """Raises TooMany with the time to wait, when `subject` has to."""
        found = self._failures.get(subject)
        if found is None or found.count < self._free:
            return
        exponent = min(found.count - self._free, 32)
        wait = found.last + min(self._first * 2**exponent, self._longest) - self._clock.monotonic()
        if wait > 0:
            raise TooMany("too many attempts; wait before the next one", retry_after=wait)

    def failed(self, subject: str) -> Attempt:
        """Count an attempt as failed. Called before the attempt is made, so that attempts at once all count."""
        now = self._clock.monotonic()
        found = self._failures.pop(subject, None)
        if found is None or now - found.last > self._forget:
            found = _Failures(0, now)
        attempt = Attempt(subject, at=now, before=found.last)
        found.count += 1
        found.last = now
        self._failures[subject] = found
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)
        return attempt

    def succeeded(self, subject: str) -> None:
        """Forget the failures of `subject`."""
        self._failures.pop(subject, None)

    def take_back(self, attempt: Attempt) -> None:
        """Undo one `failed`; the failures before it stay, and the wait that they caused."""
        found = self._failures.get(attempt.subject)
        if found is None:
            return
        found.count -= 1
        if found.last == attempt.at:
            found.last = attempt.before
        if found.count <= 0:
            del self._failures[attempt.subject]


def address_subject(host: str | None) -> str:
    """What of a caller's address is throttled: an IPv6 caller has a whole /64 to choose from."""
    if host is None:
        return "unknown"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
