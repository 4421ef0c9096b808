"""Tickets: short-lived, single-use credentials for browsers' WebSocket and SSE, which cannot send headers.

Kept in this process's memory: a ticket is redeemed where it was issued.
"""

from collections import Counter, OrderedDict

from logstream.auth.keys import TICKET_PREFIX, MalformedCredential, make_token, parse_token
from logstream.auth.principal import Principal
from logstream.clock import Clock
from logstream.errors import TooMany

MAX_TICKETS = 10_000
MAX_TICKETS_EACH = 100


class Tickets:
    """seconds: life of a ticket."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        # In order of issue, which is the order of expiry.
        self._open: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._each: Counter[tuple[str, str]] = Counter()

    def issue(self, principal: Principal) -> str:
        """A ticket for `principal`. Raises TooMany at `MAX_TICKETS_EACH` of one caller or `MAX_TICKETS` of all."""
        self._drop_expired()
        if len(self._open) >= MAX_TICKETS or self._each[principal.kind, principal.id] >= MAX_TICKETS_EACH:
            raise TooMany(
                f"too many tickets are waiting to be used; one caller may have {MAX_TICKETS_EACH}",
                retry_after=self._seconds,
                limit=MAX_TICKETS_EACH,
            )
        ticket = make_token(TICKET_PREFIX)
        self._open[ticket.digest] = (self._clock.monotonic() + self._seconds, principal)
        self._each[principal.kind, principal.id] += 1
        return ticket.text

    def redeem(self, ticket: str) -> Principal | None:
        """Who the ticket was issued to; None when it is unknown, used or expired."""
        self._drop_expired()
        try:
            found = self._open.pop(parse_token(ticket, TICKET_PREFIX), None)
        except MalformedCredential:
            return None
        if found is None:
            return None
        self._forget(found[1])
        return found[1]

    def _drop_expired(self) -> None:
        now = self._clock.monotonic()
        while self._open:
            expires, principal = next(iter(self._open.values()))
            if expires > now:
                return
            self._open.popitem(last=False)
            self._forget(principal)

    def _forget(self, principal: Principal) -> None:
        caller = (principal.kind, principal.id)
        self._each[caller] -= 1
        if self._each[caller] <= 0:
            del self._each[caller]
