"""Tickets in memory."""

import pytest

from logstream.auth.principal import Principal, Scope
from logstream.auth.tickets import MAX_TICKETS_EACH, Tickets
from logstream.clock import ManualClock
from logstream.errors import TooMany

ADA = Principal("user", "ada", "ada@example.com", frozenset({Scope.READ}), role="viewer")
BOB = Principal("user", "bob", "bob@example.com", frozenset({Scope.READ}), role="viewer")


def test_a_ticket_is_good_once() -> None:
    tickets = Tickets(ManualClock(), 30)
    ticket = tickets.issue(ADA)
    assert tickets.redeem(ticket) == ADA
    assert tickets.redeem(ticket) is None


def test_a_ticket_expires() -> None:
    clock = ManualClock()
    tickets = Tickets(clock, 30)
    old = tickets.issue(ADA)
    clock.advance(29.9)
    young = tickets.issue(ADA)
    clock.advance(0.1)
    assert tickets.redeem(old) is None
    assert tickets.redeem(young) == ADA


def test_one_caller_cannot_use_up_the_memory() -> None:
    clock = ManualClock()
    tickets = Tickets(clock, 30)
    for _ in range(MAX_TICKETS_EACH):
        tickets.issue(ADA)
    with pytest.raises(TooMany):
        tickets.issue(ADA)
    tickets.issue(BOB)
    clock.advance(30)
    tickets.issue(ADA)


@pytest.mark.parametrize("ticket", ["", "lst_", "x" * 59, "lst_" + "0" * 43 + "_00000000", "\ud800"])
def test_what_is_no_ticket(ticket: str) -> None:
    assert Tickets(ManualClock(), 30).redeem(ticket) is None
