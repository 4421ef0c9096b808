"""Who may do what: the one table. `docs/accounts.md` shows the same, and a test holds the two together."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from logstream.auth.principal import Principal, Scope
from logstream.errors import Forbidden


class Role(StrEnum):
    """What a person is. One per account."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class Action(StrEnum):
    """What may be allowed or not; the value is how the documentation names it."""

    READ_LOGS = "Search, count and tail logs; get a ticket"
    SEND_LOGS = "Send logs"
    ALL_READS = "See and cancel everybody's reads"
    SEE_STREAMS = "See streams and the ledger"
    CHANGE_STREAMS = "Change a stream's retention and anonymous reads"
    MAKE_STREAMS = "Create and delete streams, set their quotas"
    SEE_DEAD_LETTERS = "See dead letters"
    CHANGE_DEAD_LETTERS = "Replay and discard dead letters"
    TRY_REDACTION = "Try redaction rules on samples"
    OWN_ACCOUNT = "Log out, change the own password"
    OWN_KEYS = "List, make, change and revoke the own keys"
    ALL_KEYS = "List, make, change and revoke everybody's keys"
    OWN_VIEWS = "Make, change and delete the own saved views"
    SHARED_VIEWS = "Change and delete everybody's shared views"
    USERS = "List, create and delete users, change roles, reset passwords"


@dataclass(frozen=True, slots=True)
class Right:
    """The roles that have a right, and the key scope that gives it (None: no key has it).

    all_streams: a key that belongs to one stream does not have it.
    """

    roles: frozenset[Role]
    scope: Scope | None
    all_streams: bool = False


_EVERYONE = frozenset(Role)
_WRITERS = frozenset({Role.ADMIN, Role.MEMBER})
_ADMINS = frozenset({Role.ADMIN})

RIGHTS: Mapping[Action, Right] = {
    Action.READ_LOGS: Right(_EVERYONE, Scope.READ),
    Action.SEND_LOGS: Right(_WRITERS, Scope.INGEST),
    Action.ALL_READS: Right(_ADMINS, Scope.ADMIN),
    Action.SEE_STREAMS: Right(_EVERYONE, Scope.READ),
    Action.CHANGE_STREAMS: Right(_ADMINS, Scope.ADMIN),
    Action.MAKE_STREAMS: Right(_ADMINS, Scope.ADMIN, all_streams=True),
    Action.SEE_DEAD_LETTERS: Right(_WRITERS, Scope.ADMIN),
    Action.CHANGE_DEAD_LETTERS: Right(_ADMINS, Scope.ADMIN),
    Action.TRY_REDACTION: Right(_ADMINS, Scope.ADMIN),
    Action.OWN_ACCOUNT: Right(_EVERYONE, None),
    Action.OWN_KEYS: Right(_WRITERS, None),
    Action.ALL_KEYS: Right(_ADMINS, Scope.ADMIN),
    Action.OWN_VIEWS: Right(_EVERYONE, None),
    Action.SHARED_VIEWS: Right(_ADMINS, Scope.ADMIN),
    Action.USERS: Right(_ADMINS, Scope.ADMIN, all_streams=True),
}

ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = {
    Role.ADMIN: frozenset(Scope),
    Role.MEMBER: frozenset({Scope.INGEST, Scope.READ}),
    Role.VIEWER: frozenset({Scope.READ}),
}
"""What a person may do in terms of scopes; also the most that a key of theirs can do, now and later."""


def may(principal: Principal, action: Action, *, stream: str | None = None) -> bool:
    """Whether `principal` has the right, and for `stream` where one is named."""
    right = RIGHTS[action]
    if principal.role is not None:
        return Role(principal.role) in right.roles
    if right.scope is None or right.scope not in principal.scopes:
        return False
    if principal.stream is None:
        return True
    return not right.all_streams and stream in (None, principal.stream)


def require(principal: Principal, action: Action, *, stream: str | None = None) -> None:
    """Raises Forbidden, naming the action, unless `may`."""
    if not may(principal, action, stream=stream):
        who = f"the role '{principal.role}'" if principal.role is not None else f"this {principal.kind}"
        where = f" on stream '{stream}'" if stream is not None and principal.stream is not None else ""
        raise Forbidden(f"{who} has no right to: {action.value.lower()}{where}", field="role")
